//! What Json.NET makes of a text that looks like a date. It takes ISO 8601 for a date wherever it reads JSON, and writes it anew.

use std::time::{Duration, SystemTime};

/// `2026-04-20T00:00:00.000Z` as .NET writes it once it has taken it for a date: `04/20/2026 00:00:00`, in UTC. None for a text
/// that is no date.
pub fn rewritten(text: &str) -> Option<String> {
    let time = utc(text)?;
    let written = humantime::format_rfc3339_seconds(time).to_string();
    Some(format!("{}/{}/{} {}", &written[5..7], &written[8..10], &written[..4], &written[11..19]))
}

/// A date inside of an object: it stays one, without the zeros at the end of its fraction.
pub fn shortened(text: &str) -> String {
    match text.strip_suffix('Z').filter(|_| utc(text).is_some()).and_then(|bare| bare.split_once('.')) {
        None => text.to_owned(),
        Some((whole, fraction)) => match fraction.trim_end_matches('0') {
            "" => format!("{whole}Z"),
            rest => format!("{whole}.{rest}Z"),
        },
    }
}

/// The moment that an ISO 8601 text of date and time means; one without an offset is UTC.
pub fn utc(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_at_checked(10).filter(|(date, rest)| date.is_ascii() && rest.starts_with('T'))?;
    let zone = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(zone);
    let moment = humantime::parse_rfc3339(&format!("{date}{time}Z")).ok()?;
    let Some((hours, minutes)) = zone.get(1..).filter(|_| zone != "Z").and_then(|offset| offset.split_once(':')) else {
        return matches!(zone, "" | "Z").then_some(moment);
    };
    let offset = Duration::from_secs(hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60);
    if zone.starts_with('+') { moment.checked_sub(offset) } else { moment.checked_add(offset) }
}

/// As .NET writes a moment with an offset: `2026-11-27T21:58:23+00:00`.
pub fn written(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    format!("{}+00:00", text.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_date_is_written_anew() {
        for (text, as_text, inside) in [
            ("2026-04-20T00:00:00.000Z", Some("04/20/2026 00:00:00"), "2026-04-20T00:00:00Z"),
            ("2026-04-20T00:00:00.250Z", Some("04/20/2026 00:00:00"), "2026-04-20T00:00:00.25Z"),
            ("2023-07-04T12:00:00+02:00", Some("07/04/2023 10:00:00"), "2023-07-04T12:00:00+02:00"),
            ("2023-07-04T12:00:00", Some("07/04/2023 12:00:00"), "2023-07-04T12:00:00"),
            ("2023-07-04", None, "2023-07-04"),
            ("hello", None, "hello"),
            ("", None, ""),
        ] {
            assert_eq!(rewritten(text).as_deref(), as_text, "{text}");
            assert_eq!(shortened(text), inside, "{text}");
        }
    }
}
