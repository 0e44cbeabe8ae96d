//! Text that every request writes: its closing line and the headers of its response.
//!
//! `core::fmt` took 4 % of a warm request for them (docs/speed.md), most of it for the numbers.

use std::fmt;
use std::time::Duration;

/// A text that grows from left to right.
#[derive(Default)]
pub struct Text(Vec<u8>);

impl Text {
    /// An empty text.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// An empty text with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Forgets what was written and keeps the room.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What was written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds a text.
    pub fn add(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        self.0.extend_from_slice(text.as_ref());
        self
    }

    /// Adds a number in decimal.
    pub fn number(&mut self, number: impl Into<u64>) -> &mut Self {
        self.add(itoa::Buffer::new().format(number.into()))
    }

    /// Adds a number with as many leading zeros as make it `WIDTH` digits long, or its last `WIDTH` digits.
    pub fn padded<const WIDTH: usize>(&mut self, number: u32) -> &mut Self {
        let (mut digits, mut rest) = ([b'0'; WIDTH], number);
        for digit in digits.iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        self.0.extend_from_slice(&digits);
        self
    }

    /// Adds a duration in milliseconds, to the microsecond.
    pub fn millis(&mut self, duration: Duration) -> &mut Self {
        let millis = duration.as_secs().saturating_mul(1000) + u64::from(duration.subsec_millis());
        self.number(millis).add(".").padded::<3>(duration.subsec_micros() % 1000)
    }
}

/// With replacement characters for what is no text.
impl From<Text> for String {
    fn from(Text(bytes): Text) -> Self {
        Self::from_utf8(bytes).unwrap_or_else(|error| Self::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

/// For what is rare.
impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations_as_fmt_would_write_them() {
        let mut text = Text::new();
        for micros in [0, 1, 999, 1000, 1_234_567, 59_999_999, 86_400_000_000] {
            text.clear();
            text.millis(Duration::from_micros(micros) + Duration::from_nanos(999)).add(" ").number(micros);
            let expected = format!("{}.{:03} {micros}", micros / 1000, micros % 1000);
            assert_eq!(text.as_bytes(), expected.as_bytes());
        }
        text.clear();
        assert_eq!(text.padded::<6>(42).padded::<3>(7).as_bytes(), b"000042007");
    }
}
