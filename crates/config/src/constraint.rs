//! Constraints of route parameters: `{id:int:min(1)}`.
//!
//! Names, arguments and meaning are those of ASP.NET Core (Microsoft Learn, "Routing in ASP.NET Core", route constraints), whose
//! router is the Functions host's. Two differences: `regex` knows no look-around and no back-references, because its time has to
//! be bounded, and `datetime` knows the usual forms of the invariant culture, not all of them.

use regex::{Regex, RegexBuilder};
use std::ops::RangeInclusive;

/// The most memory of one compiled expression, in bytes.
const MAX_EXPRESSION: usize = 1 << 20;

/// The largest `decimal` of .NET.
const MAX_DECIMAL: u128 = 79_228_162_514_264_337_593_543_950_335;

/// What the value of a parameter has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constraint {
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 64 bits, in this range.
    Long(RangeInclusive<i64>),
    /// A number as .NET reads a `double` or a `float`.
    Float,
    /// A number as .NET reads a `decimal`.
    Decimal,
    /// `true` or `false`, in any case.
    Bool,
    /// A GUID.
    Guid,
    /// Letters from a to z, in any case.
    Alpha,
    /// A date, a time, or both.
    DateTime,
    /// So many characters, counted as .NET does (UTF-16).
    Length(RangeInclusive<usize>),
    /// Not empty, which a segment never is.
    Required,
    /// The last segment has a dot and something behind it.
    File(bool),
    /// Something in it matches, in any case.
    Regex(Expression),
}

/// A regular expression, which is the same as another one with the same text.
#[derive(Debug, Clone)]
pub struct Expression(Regex);

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Expression {}

/// What kinds of text a constraint accepts, as bits: texts of different kinds are never the same text.
mod kind {
    pub const INTEGER: u8 = 1;
    pub const NUMBER: u8 = 2;
    pub const BOOL: u8 = 4;
    pub const LETTERS: u8 = 8;
    pub const OTHER: u8 = 16;
    pub const ANY: u8 = 31;
}

impl Constraint {
    /// Reads one constraint, such as `range(1,9)`.
    ///
    /// # Errors
    /// What is wrong and what to write instead, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, argument) = match text.split_once('(') {
            Some((name, rest)) if rest.ends_with(')') => (name, Some(&rest[..rest.len() - 1])),
            _ => (text, None),
        };
        let wrong = |form: &str| format!("constraint {text:?} must be written {form}");
        let number = |form: &str| {
            let number = argument.and_then(|argument| argument.trim().parse::<i64>().ok());
            number.ok_or_else(|| wrong(form))
        };
        let count = |form: &str| number(form).and_then(|n| usize::try_from(n).map_err(|_| wrong(form)));
        let pair = |form: &str| {
            let (low, high) = argument.and_then(|argument| argument.split_once(',')).ok_or_else(|| wrong(form))?;
            let number = |text: &str| text.trim().parse::<i64>().map_err(|_| wrong(form));
            let (low, high) = (number(low)?, number(high)?);
            if low <= high { Ok((low, high)) } else { Err(format!("{}, with the smaller number first", wrong(form))) }
        };
        let lower = name.to_ascii_lowercase();
        let constraint = match (lower.as_str(), argument) {
            ("int", None) => Self::Int,
            ("long", None) => Self::Long(i64::MIN..=i64::MAX),
            ("min", _) => Self::Long(number("min(1)")?..=i64::MAX),
            ("max", _) => Self::Long(i64::MIN..=number("max(9)")?),
            ("range", _) => {
                let (low, high) = pair("range(1,9)")?;
                Self::Long(low..=high)
            }
            ("double" | "float", None) => Self::Float,
            ("decimal", None) => Self::Decimal,
            ("bool", None) => Self::Bool,
            ("guid", None) => Self::Guid,
            ("alpha", None) => Self::Alpha,
            ("datetime", None) => Self::DateTime,
            ("length", Some(argument)) if argument.contains(',') => {
                let form = "length(1,9)";
                let (low, high) = pair(form)?;
                let length = |n: i64| usize::try_from(n).map_err(|_| wrong(form));
                Self::Length(length(low)?..=length(high)?)
            }
            ("length", _) => {
                let length = count("length(5)")?;
                Self::Length(length..=length)
            }
            ("minlength", _) => Self::Length(count("minlength(1)")?..=usize::MAX),
            ("maxlength", _) => Self::Length(0..=count("maxlength(9)")?),
            ("required", None) => Self::Required,
            ("file", None) => Self::File(true),
            ("nonfile", None) => Self::File(false),
            ("regex", Some(expression)) => {
                let mut builder = RegexBuilder::new(expression);
                let built = builder.case_insensitive(true).size_limit(MAX_EXPRESSION).dfa_size_limit(MAX_EXPRESSION);
                let regex = built.build().map_err(|error| {
                    let why = error.to_string();
                    let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                    format!("constraint {text:?} is no regular expression that this host can use: {why}")
                })?;
                Self::Regex(Expression(regex))
            }
            _ => {
                return Err(format!(
                    "constraint {text:?} is not known: use int, long, double, float, decimal, bool, guid, datetime, alpha, \
                     length(n), length(a,b), minlength(n), maxlength(n), min(n), max(n), range(a,b), regex(…), required, file or \
                     nonfile, or leave it out"
                ));
            }
        };
        Ok(constraint)
    }

    /// Whether `value`, percent-decoded, is such a text.
    pub fn accepts(&self, value: &str) -> bool {
        // .NET's parsers allow white space around what they read.
        let trimmed = value.trim_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
        match self {
            Self::Int => trimmed.parse::<i32>().is_ok(),
            Self::Long(range) => trimmed.parse().is_ok_and(|number| range.contains(&number)),
            Self::Float => {
                let unsigned = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
                ["nan", "infinity"].iter().any(|word| unsigned.eq_ignore_ascii_case(word)) || is_number(trimmed, true)
            }
            Self::Decimal => is_decimal(trimmed),
            Self::Bool => trimmed.eq_ignore_ascii_case("true") || trimmed.eq_ignore_ascii_case("false"),
            Self::Guid => is_guid(trimmed),
            Self::Alpha => value.bytes().all(|byte| byte.is_ascii_alphabetic()),
            Self::DateTime => is_date_time(trimmed),
            Self::Length(range) => range.contains(&value.encode_utf16().count()),
            Self::Required => !value.is_empty(),
            Self::File(wanted) => {
                let name = value.rsplit('/').next().unwrap_or_default();
                let after = name.split_once('.').map_or("", |(_, after)| after);
                after.chars().any(|c| c != '.') == *wanted
            }
            Self::Regex(Expression(regex)) => regex.is_match(value),
        }
    }

    fn kinds(&self) -> u8 {
        match self {
            Self::Int | Self::Long(_) => kind::INTEGER,
            Self::Float => kind::INTEGER | kind::NUMBER | kind::LETTERS,
            Self::Decimal => kind::INTEGER | kind::NUMBER,
            Self::Bool => kind::BOOL,
            // 32 hexadecimal digits without dashes may all be digits, or all be letters.
            Self::Guid => kind::INTEGER | kind::LETTERS | kind::OTHER,
            Self::Alpha => kind::BOOL | kind::LETTERS,
            Self::DateTime => kind::NUMBER | kind::OTHER,
            _ => kind::ANY,
        }
    }
}

/// Whether no value can satisfy all of these. False where that is not certain.
pub fn exclude_each_other(constraints: &[&Constraint]) -> bool {
    let kinds = constraints.iter().fold(kind::ANY, |kinds, constraint| kinds & constraint.kinds());
    let (mut numbers, mut lengths) = (i64::MIN..=i64::MAX, 0..=usize::MAX);
    for constraint in constraints {
        match constraint {
            Constraint::Long(range) => {
                numbers = *numbers.start().max(range.start())..=*numbers.end().min(range.end());
            }
            Constraint::Length(range) => {
                lengths = *lengths.start().max(range.start())..=*lengths.end().min(range.end());
            }
            _ => {}
        }
    }
    kinds == 0 || numbers.is_empty() || lengths.is_empty()
}

/// Whether values that satisfy all of these never hold `text`. False where that is not certain.
pub fn exclude_text(constraints: &[Constraint], text: &str) -> bool {
    let kinds = constraints.iter().fold(kind::ANY, |kinds, constraint| kinds & constraint.kinds());
    let within = |kinds_of_all: u8, fits: fn(char) -> bool| kinds & !kinds_of_all == 0 && !text.chars().all(fits);
    within(kind::INTEGER, |c| c.is_ascii_digit() || c.is_whitespace() || matches!(c, '+' | '-'))
        || within(kind::BOOL | kind::LETTERS, |c| c.is_alphabetic() || c.is_whitespace())
}

/// An optional sign, digits with thousands separators, a fraction and, if `exponents`, an exponent.
fn is_number(text: &str, exponents: bool) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) if exponents => (mantissa, Some(exponent)),
        Some(_) => return false,
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    digits(&whole.replace(',', ""))
        && !whole.starts_with(',')
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| {
            let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            !exponent.is_empty() && digits(exponent)
        })
}

fn is_decimal(text: &str) -> bool {
    // The sign may stand behind the number instead.
    let text = if text.starts_with(['+', '-']) { text } else { text.strip_suffix(['+', '-']).unwrap_or(text) };
    let whole: String = text.chars().take_while(|c| *c != '.').filter(char::is_ascii_digit).collect();
    let whole = whole.trim_start_matches('0');
    is_number(text, false) && (whole.is_empty() || whole.parse::<u128>().is_ok_and(|whole| whole <= MAX_DECIMAL))
}

/// The formats N, D, B and P of .NET.
fn is_guid(text: &str) -> bool {
    let parenthesised = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    match parenthesised {
        Some(inner) => inner.len() == 36 && uuid::Uuid::try_parse(inner).is_ok(),
        None => !text.starts_with("urn:") && uuid::Uuid::try_parse(text).is_ok(),
    }
}

/// A date, a time, or a date and then a time with an optional zone, as the invariant culture writes them: `2026-11-28`,
/// `11/28/2026 4:05 PM`, `28 Nov 2026`, `2026-11-28T16:05:00.5+01:00`.
fn is_date_time(text: &str) -> bool {
    let Some(colon) = text.find(':') else { return is_date(text) };
    let hour = text[..colon].trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let date = text[..hour].trim_end_matches(' ');
    let date = date.strip_suffix(['T', 't']).unwrap_or(date).trim_end();
    (date.is_empty() || is_date(date)) && is_time(&text[hour..])
}

fn is_date(text: &str) -> bool {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let parts: Vec<&str> = text.split(['-', '/', '.', ',', ' ']).filter(|part| !part.is_empty()).collect();
    let named = |part: &str| {
        let part = part.to_lowercase();
        MONTHS.iter().position(|month| *month == part || (part.len() == 3 && month.starts_with(&part)))
    };
    let months: Vec<usize> = parts.iter().filter_map(|part| named(part)).collect();
    let numbers: Vec<u32> = parts.iter().filter_map(|part| part.parse().ok().filter(|_| part.len() <= 4)).collect();
    if months.len() + numbers.len() != parts.len() {
        return false;
    }
    let is_year = |index: usize| numbers[index] > 31 || parts.get(index).is_some_and(|part| part.len() == 4);
    let (year, month, day) = match (&months[..], &numbers[..]) {
        ([], [year, month, day]) if is_year(0) => (*year, *month, *day),
        ([], [month, day, year]) => (*year, *month, *day),
        ([], [year, month]) if is_year(0) => (*year, *month, 1),
        ([], [month, year]) if is_year(1) => (*year, *month, 1),
        // A leap year, as nobody says which.
        ([], [month, day]) => (2000, *month, *day),
        ([month], [a, b]) if *a > 31 => (*a, *month as u32 + 1, *b),
        ([month], [a, b]) => (*b, *month as u32 + 1, *a),
        ([month], [a]) if *a > 31 => (*a, *month as u32 + 1, 1),
        ([month], [a]) => (2000, *month as u32 + 1, *a),
        _ => return false,
    };
    let days = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    year <= 9999 && (1..=days).contains(&day)
}

/// `h:mm`, then optional seconds with a fraction, AM or PM, and a zone.
fn is_time(text: &str) -> bool {
    let (clock, zone) = match text.find(['Z', 'z', '+', '-']) {
        Some(at) => (text[..at].trim_end(), &text[at..]),
        None => (text, ""),
    };
    let lower = clock.to_ascii_lowercase();
    let half = lower.strip_suffix("am").or_else(|| lower.strip_suffix("pm"));
    let (clock, hours) = half.map_or((lower.as_str(), 0..=23), |clock| (clock.trim_end(), 0..=12));
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let fields = |text: &str| -> Option<Vec<u32>> {
        let field = |part: &str| part.parse().ok().filter(|_| part.len() <= 2 && !part.starts_with('+'));
        text.split(':').map(field).collect()
    };
    let zoned = match zone.strip_prefix(['+', '-']) {
        None => zone.is_empty() || zone.eq_ignore_ascii_case("z"),
        Some(offset) => fields(offset).is_some_and(|parts| match parts[..] {
            [hours] => hours <= 14,
            [hours, minutes] => hours <= 14 && minutes <= 59,
            _ => false,
        }),
    };
    let timed = fields(clock).is_some_and(|parts| match parts[..] {
        [hour, minute] => fraction == "0" && hours.contains(&hour) && minute <= 59,
        [hour, minute, second] => hours.contains(&hour) && minute <= 59 && second <= 59,
        _ => false,
    });
    zoned && timed && !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_accepted_as_asp_net_accepts_them() {
        for (constraint, good, bad) in [
            ("int", &["7", "-7", "+7", " 7 ", "007"][..], &["", "x", "7.0", "2147483648"][..]),
            ("long", &["2147483648"], &["9223372036854775808"]),
            ("min(1)", &["1", "99"], &["0", "-1", "x"]),
            ("max(9)", &["9", "-1"], &["10"]),
            ("range(1,9)", &["1", "9"], &["0", "10", "five"]),
            (
                "double",
                &["1", "-1.5", "1e5", "1,000.5", ".5", "1.", "NaN", "-Infinity", "1e999"],
                &["", ".", "1e", "x", "1.5.2", ",1"],
            ),
            ("float", &["1.5"], &["x"]),
            (
                "decimal",
                &["1.5", "1.5-", "1,000", "79228162514264337593543950335"],
                &["1e5", "x", "79228162514264337593543950336"],
            ),
            ("bool", &["true", "FALSE"], &["1", "yes"]),
            (
                "guid",
                &[
                    "6f0c2f9e-7a60-4c2c-9d3c-0a4d5e6f7a8b",
                    "6f0c2f9e7a604c2c9d3c0a4d5e6f7a8b",
                    "(6f0c2f9e-7a60-4c2c-9d3c-0a4d5e6f7a8b)",
                ],
                &["urn:uuid:6f0c2f9e-7a60-4c2c-9d3c-0a4d5e6f7a8b", "6f0c", "(6f0c2f9e7a604c2c9d3c0a4d5e6f7a8b)"],
            ),
            ("alpha", &["abcXYZ"], &["a1", "é"]),
            (
                "datetime",
                &[
                    "2026-11-28",
                    "11/28/2026",
                    "11-28-2026",
                    "28 Nov 2026",
                    "November 28, 2026",
                    "2026-11-28T16:05:00",
                    "2026-11-28 4:05 PM",
                    "2026-11-28T16:05:00.123Z",
                    "2026-11-28T16:05:00+01:00",
                    "2024-02-29",
                    "2026-11",
                    "16:05",
                ],
                &[
                    "",
                    "today",
                    "2026-13-01",
                    "28/11/2026",
                    "2025-02-29",
                    "2026-11-28T25:00",
                    "1",
                    "2026-11-28T16:05:00+99:00",
                    "16:60",
                ],
            ),
            ("length(5)", &["12345"], &["1234", "123456"]),
            ("length(2,3)", &["12", "123"], &["1", "1234"]),
            ("minlength(2)", &["12"], &["1"]),
            ("maxlength(2)", &["12", "𐐷"], &["123", "𐐷𐐷"]),
            ("required", &["x"], &[""]),
            ("file", &["a.txt", ".x"], &["a", "a.", "b.x/a"]),
            ("nonfile", &["a", "a."], &["a.txt"]),
            // Unanchored and in any case.
            ("regex(b\\d)", &["aB1c"], &["b"]),
            ("regex(^\\d{5}$)", &["12345"], &["123456"]),
            ("regex(a,b)", &["a,b"], &["a"]),
        ] {
            let parsed = Constraint::parse(constraint).expect(constraint);
            for value in good {
                assert!(parsed.accepts(value), "{constraint} should accept {value:?}");
            }
            for value in bad {
                assert!(!parsed.accepts(value), "{constraint} should not accept {value:?}");
            }
        }
    }

    #[test]
    fn a_bad_constraint_says_what_to_write() {
        for (text, words) in [
            ("when", "is not known: use int, long"),
            ("int(", "is not known"),
            ("int(5)", "is not known"),
            ("min", "must be written min(1)"),
            ("min(x)", "must be written min(1)"),
            ("length(-1)", "must be written length(5)"),
            ("range(9,1)", "with the smaller number first"),
            ("regex((?=a))", "is no regular expression that this host can use: look-around"),
            ("regex([)", "is no regular expression"),
            ("regex((\\w{1000}){1000})", "exceeds size limit"),
        ] {
            let message = Constraint::parse(text).expect_err(text);
            assert!(message.contains(words), "{text}: {message}");
        }
    }

    #[test]
    fn what_excludes_each_other_is_known_only_where_it_is_certain() {
        let exclude = |texts: [&str; 2]| {
            let [a, b] = texts.map(|text| Constraint::parse(text).expect(text));
            exclude_each_other(&[&a, &b])
        };
        for texts in [
            ["int", "alpha"],
            ["bool", "int"],
            ["min(5)", "max(4)"],
            ["length(3)", "minlength(4)"],
            ["datetime", "alpha"],
        ] {
            assert!(exclude(texts), "{texts:?}");
        }
        for texts in [
            ["int", "guid"],
            ["alpha", "bool"],
            ["int", "min(5)"],
            ["double", "int"],
            ["regex(^a$)", "alpha"],
            ["required", "int"],
        ] {
            assert!(!exclude(texts), "{texts:?}");
        }
    }
}
