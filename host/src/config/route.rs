//! Route templates as Azure writes them: `orders/{id:int}/{*rest}`.
//!
//! | segment | matches |
//! |---|---|
//! | `orders` | itself, in any case, percent-decoded |
//! | `{id}` | one segment that is not empty |
//! | `{id:int}` | one segment of that kind: int, long, guid, bool or alpha |
//! | `{id?}`, `{id:int?}`, `{id=5}` | one segment or the end of the path; only the last segments may be optional |
//! | `{*rest}`, `{**rest}` | the rest of the path, also none; only as the last segment |
//!
//! Segments that mix text and parameters (`{a}-{b}`) are refused: no function of the demonstration needs them.

use std::borrow::Cow;
use std::fmt;

/// A parsed route, without the route prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter { kind: Option<Kind>, optional: bool },
    Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int,
    Long,
    Guid,
    Bool,
    Alpha,
}

impl Template {
    /// Parses `text`.
    ///
    /// # Errors
    /// What is wrong and what to write instead, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim_matches('/');
        let parts: Vec<&str> = if trimmed.is_empty() { Vec::new() } else { trimmed.split('/').collect() };
        let segments = parts.iter().map(|part| Segment::parse(part)).collect::<Result<Vec<_>, _>>()?;
        let rest = segments.iter().position(|segment| *segment == Segment::Rest);
        if rest.is_some_and(|at| at + 1 != segments.len()) {
            return Err("a catch-all segment must be the last one".to_owned());
        }
        let optional = |segment: &Segment| matches!(segment, Segment::Parameter { optional: true, .. } | Segment::Rest);
        let first = segments.iter().position(optional).unwrap_or(segments.len());
        if !segments[first..].iter().all(optional) {
            return Err("an optional segment must not be followed by one that is not".to_owned());
        }
        Ok(Self { text: text.to_owned(), segments })
    }

    /// The route of `flexwasm serve`: every path.
    pub fn everything() -> Self {
        Self { text: "{*path}".to_owned(), segments: vec![Segment::Rest] }
    }

    /// Whether the path's segments (percent-decoded, without the prefix) fit.
    pub fn matches(&self, path: &[Cow<'_, str>]) -> bool {
        let mut path = path.iter();
        for segment in &self.segments {
            match (segment, path.next()) {
                (Segment::Rest, _) => return true,
                (Segment::Literal(literal), Some(part)) if literal.to_lowercase() == part.to_lowercase() => {}
                (Segment::Parameter { kind, .. }, Some(part))
                    if !part.is_empty() && kind.is_none_or(|kind| kind.accepts(part)) => {}
                (Segment::Parameter { optional: true, .. }, None) => {}
                _ => return false,
            }
        }
        path.next().is_none()
    }

    /// How specific each segment is, smaller first: the order in which routes are tried, so that literals win.
    pub fn precedence(&self) -> Vec<u8> {
        let rank = |segment: &Segment| match segment {
            Segment::Literal(_) => 0,
            Segment::Parameter { kind: Some(_), .. } => 1,
            Segment::Parameter { kind: None, .. } => 2,
            Segment::Rest => 3,
        };
        self.segments.iter().map(rank).collect()
    }

    /// Whether both templates fit exactly the same paths, so that none could win.
    pub fn same_paths(&self, other: &Self) -> bool {
        self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(|pair| match pair {
                (Segment::Literal(a), Segment::Literal(b)) => a.to_lowercase() == b.to_lowercase(),
                (a, b) => a == b,
            })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Segment {
    fn parse(part: &str) -> Result<Self, String> {
        if !part.contains(['{', '}']) {
            if part.is_empty() || part.contains(['?', '*']) {
                return Err(format!("segment {part:?} must be text, or a parameter such as {{id}}"));
            }
            return Ok(Self::Literal(part.to_owned()));
        }
        let inner = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
        let Some(inner) = inner.filter(|inner| !inner.contains(['{', '}'])) else {
            return Err(format!("segment {part:?} must be one parameter alone, such as {{id}}"));
        };
        if let Some(name) = inner.strip_prefix("**").or_else(|| inner.strip_prefix('*')) {
            return valid_name(name).map(|()| Self::Rest);
        }
        let (inner, default) = inner.split_once('=').map_or((inner, false), |(inner, _)| (inner, true));
        let (inner, question) = inner.strip_suffix('?').map_or((inner, false), |inner| (inner, true));
        let (name, kind) = inner.split_once(':').map_or((inner, None), |(name, kind)| (name, Some(kind)));
        valid_name(name)?;
        let kind = kind.map(Kind::parse).transpose()?;
        Ok(Self::Parameter { kind, optional: default || question })
    }
}

fn valid_name(name: &str) -> Result<(), String> {
    let valid = name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    if valid { Ok(()) } else { Err(format!("{name:?} is no parameter name: letters, digits, - and _, a letter first")) }
}

impl Kind {
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "int" => Ok(Self::Int),
            "long" => Ok(Self::Long),
            "guid" => Ok(Self::Guid),
            "bool" => Ok(Self::Bool),
            "alpha" => Ok(Self::Alpha),
            _ => Err(format!(
                "constraint {text:?} is not supported: use int, long, guid, bool or alpha, or leave it out"
            )),
        }
    }

    fn accepts(self, part: &str) -> bool {
        match self {
            Self::Int => part.parse::<i32>().is_ok(),
            Self::Long => part.parse::<i64>().is_ok(),
            Self::Guid => uuid::Uuid::try_parse(part).is_ok(),
            Self::Bool => part.eq_ignore_ascii_case("true") || part.eq_ignore_ascii_case("false"),
            Self::Alpha => part.chars().all(|c| c.is_ascii_alphabetic()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(template: &str, path: &str) -> bool {
        let parts: Vec<Cow<'_, str>> = path.split('/').filter(|part| !part.is_empty()).map(Cow::from).collect();
        Template::parse(template).expect("a valid template").matches(&parts)
    }

    #[test]
    fn segments_match_as_azure_matches_them() {
        for (template, path) in [
            ("orders", "orders"),
            ("Orders", "oRDERS"),
            ("/orders/", "orders"),
            ("orders/{id}", "orders/7"),
            ("orders/{id:int}", "orders/-7"),
            ("orders/{id:guid}", "orders/6f0c2f9e-7a60-4c2c-9d3c-0a4d5e6f7a8b"),
            ("orders/{id?}", "orders"),
            ("orders/{id:int?}", "orders/7"),
            ("orders/{id=5}", "orders"),
            ("files/{*path}", "files"),
            ("files/{**path}", "files/a/b"),
            ("{*path}", ""),
            ("", ""),
        ] {
            assert!(fits(template, path), "{template} should fit {path:?}");
        }
        for (template, path) in [
            ("orders", "orders/7"),
            ("orders/{id}", "orders"),
            ("orders/{id:int}", "orders/x"),
            ("orders/{id:int}", "orders/99999999999"),
            ("orders/{id:alpha}", "orders/a1"),
            ("orders/{id?}", "orders/7/8"),
            ("", "x"),
        ] {
            assert!(!fits(template, path), "{template} should not fit {path:?}");
        }
    }

    #[test]
    fn a_bad_template_says_what_to_write() {
        for (template, words) in [
            ("a//b", "must be text"),
            ("{a}-{b}", "one parameter alone"),
            ("x{a}", "one parameter alone"),
            ("{*rest}/more", "must be the last"),
            ("{a?}/b", "must not be followed"),
            ("{1a}", "no parameter name"),
            ("{}", "no parameter name"),
            ("{when:datetime}", "use int, long, guid, bool or alpha"),
        ] {
            let message = Template::parse(template).expect_err(template);
            assert!(message.contains(words), "{template}: {message}");
        }
    }

    #[test]
    fn literal_segments_come_first() {
        let mut routes =
            ["{*rest}", "{id}", "a/{x}", "{id:int}", "a", "a/b"].map(|t| Template::parse(t).expect("valid"));
        routes.sort_by_key(Template::precedence);
        assert_eq!(routes.map(|route| route.to_string()), ["a", "a/b", "a/{x}", "{id:int}", "{id}", "{*rest}"]);
    }
}
