//! Durations and sizes with a unit, as the configuration files spell them.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Reads `2s`, `500ms`, `5m` or `1h`. Whole numbers above zero only.
///
/// # Errors
/// What to write instead, for a person.
pub fn duration(text: &str) -> Result<Duration, String> {
    scaled(text, &DURATION_UNITS)
        .map(Duration::from_millis)
        .ok_or_else(|| "write a whole number above 0 with a unit: ms, s, m or h, such as \"30s\"".to_owned())
}

/// Reads `64MiB`, `512KiB`, `1GiB`, or the decimal `100MB`. Whole numbers above zero only.
///
/// # Errors
/// What to write instead, for a person.
pub fn size(text: &str) -> Result<u64, String> {
    scaled(text, &SIZE_UNITS).ok_or_else(|| {
        "write a whole number above 0 with a unit: B, KiB, MiB, GiB, KB, MB or GB, such as \"64MiB\"".to_owned()
    })
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor).filter(|value| *value > 0)
}

/// Spells a number of bytes in the largest binary unit that divides it.
pub fn spell_size(bytes: u64) -> String {
    match bytes {
        b if b > 0 && b % (1 << 30) == 0 => format!("{}GiB", b >> 30),
        b if b > 0 && b % (1 << 20) == 0 => format!("{}MiB", b >> 20),
        b if b > 0 && b % (1 << 10) == 0 => format!("{}KiB", b >> 10),
        b => format!("{b}B"),
    }
}

/// Spells a duration in the unit that loses nothing, to the millisecond.
pub fn spell_duration(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for bad in ["", "s", "2", "0s", "-1s", "1.5s", "2 s", "2S", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(size("100MB"), Ok(100_000_000));
        assert_eq!(size("1B"), Ok(1));
        for bad in ["", "MiB", "64", "0MiB", "64 MiB", "64mib", "+1KB", "18446744073709551615GiB"] {
            assert!(size(bad).is_err(), "{bad:?} was accepted");
        }
        for spelled in ["3GiB", "128MiB", "64KiB", "1000B"] {
            assert_eq!(spell_size(size(spelled).expect("a size")), spelled);
        }
    }
}
