//! What the host counts, as text for Prometheus and everything that reads the same.
//!
//! Two formats differ in the spelling of what only grows and in their end: OpenMetrics 1.0, and Prometheus' own text (0.0.4), which
//! older readers ask for. Names are made of OpenTelemetry's as its specification says (Prometheus and OpenMetrics Compatibility):
//! `_` for each dot, and the unit at the end.

use crate::http::accepts;
use crate::observe::metrics::{Attributes, Family, Points, Spread};
use http::HeaderMap;
use std::fmt::{Display, Write as _};

/// A format of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' own.
    Prometheus,
}

impl Format {
    /// The format that a request asks for. One that does not mind gets OpenMetrics.
    pub fn asked(headers: &HeaderMap) -> Self {
        if accepts(headers, "text/plain") && !accepts(headers, "application/openmetrics-text") {
            Self::Prometheus
        } else {
            Self::OpenMetrics
        }
    }

    /// The `Content-Type` of the text.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// All of it in this format.
pub fn text(families: &[Family], format: Format) -> String {
    let mut text = String::new();
    for family in families {
        write(family, format, &mut text).expect("a text takes everything");
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn write(family: &Family, format: Format, text: &mut String) -> std::fmt::Result {
    let unit = match family.unit {
        "s" => "seconds",
        "By" => "bytes",
        _ => "",
    };
    let (mut name, mut of_total) = (family.name.replace('.', "_"), "");
    if !unit.is_empty() {
        name = format!("{name}_{unit}");
    }
    let kind = match &family.points {
        Points::Totals(_) => {
            if format == Format::OpenMetrics {
                of_total = "_total";
            } else {
                name.push_str("_total");
            }
            "counter"
        }
        Points::Levels(_) => "gauge",
        Points::Spreads(_) => "histogram",
    };
    writeln!(text, "# TYPE {name} {kind}")?;
    if !unit.is_empty() && format == Format::OpenMetrics {
        writeln!(text, "# UNIT {name} {unit}")?;
    }
    writeln!(text, "# HELP {name} {}", family.help)?;
    match &family.points {
        Points::Totals(points) | Points::Levels(points) => points
            .iter()
            .try_for_each(|(attributes, value)| sample(text, &format!("{name}{of_total}"), attributes, None, value)),
        Points::Spreads(points) => {
            points.iter().try_for_each(|(attributes, spread)| histogram(text, &name, attributes, spread))
        }
    }
}

fn histogram(text: &mut String, name: &str, attributes: &Attributes, spread: &Spread) -> std::fmt::Result {
    let bounds = spread.bounds.iter().map(|bound| format!("{bound:?}")).chain(["+Inf".to_owned()]);
    let mut so_far = 0;
    for (bound, count) in bounds.zip(&spread.counts) {
        so_far += count;
        sample(text, &format!("{name}_bucket"), attributes, Some(&bound), so_far)?;
    }
    sample(text, &format!("{name}_count"), attributes, None, so_far)?;
    sample(text, &format!("{name}_sum"), attributes, None, format_args!("{:?}", spread.sum))
}

fn sample(
    text: &mut String,
    name: &str,
    attributes: &Attributes,
    bound: Option<&str>,
    value: impl Display,
) -> std::fmt::Result {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels = attributes.iter().map(|(name, value)| format!("{}=\"{}\"", name.replace('.', "_"), escaped(value)));
    let labels: Vec<String> = labels.chain(bound.map(|bound| format!("le=\"{bound}\""))).collect();
    if labels.is_empty() {
        writeln!(text, "{name} {value}")
    } else {
        writeln!(text, "{name}{{{}}} {value}", labels.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::ACCEPT;

    fn family(name: &'static str, unit: &'static str, points: Points) -> Family {
        Family { name, unit, help: "Some.", points }
    }

    #[test]
    fn both_formats_as_their_specifications_have_them() {
        let spread = Spread { bounds: &[0.005, 1.0], counts: vec![1, 2, 1], sum: 4.25 };
        let families = [
            family("a.b", "{request}", Points::Totals(vec![(vec![("c.d", "say \"\\\n".into())], 7)])),
            family("a.memory", "By", Points::Levels(vec![(Attributes::new(), 3)])),
            family("a.wait", "s", Points::Spreads(vec![(vec![("x", "y".into())], spread)])),
        ];
        let rest = "# HELP a_memory_bytes Some.\na_memory_bytes 3\n";
        let histogram = "# HELP a_wait_seconds Some.\na_wait_seconds_bucket{x=\"y\",le=\"0.005\"} 1\n\
                         a_wait_seconds_bucket{x=\"y\",le=\"1.0\"} 3\na_wait_seconds_bucket{x=\"y\",le=\"+Inf\"} 4\n\
                         a_wait_seconds_count{x=\"y\"} 4\na_wait_seconds_sum{x=\"y\"} 4.25\n";
        let total = "a_b_total{c_d=\"say \\\"\\\\\\n\"} 7\n";
        assert_eq!(
            text(&families, Format::OpenMetrics),
            format!(
                "# TYPE a_b counter\n# HELP a_b Some.\n{total}# TYPE a_memory_bytes gauge\n# UNIT a_memory_bytes bytes\n{rest}\
                 # TYPE a_wait_seconds histogram\n# UNIT a_wait_seconds seconds\n{histogram}# EOF\n"
            )
        );
        assert_eq!(
            text(&families, Format::Prometheus),
            format!(
                "# TYPE a_b_total counter\n# HELP a_b_total Some.\n{total}# TYPE a_memory_bytes gauge\n{rest}\
                 # TYPE a_wait_seconds histogram\n{histogram}"
            )
        );
    }

    #[test]
    fn a_reader_gets_the_format_that_it_names() {
        let asked =
            |accept: &'static str| Format::asked(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]));
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        assert_eq!([asked(prometheus), asked("*/*"), Format::asked(&HeaderMap::new())], [Format::OpenMetrics; 3]);
        assert_eq!(asked("text/plain;version=0.0.4"), Format::Prometheus);
    }
}
