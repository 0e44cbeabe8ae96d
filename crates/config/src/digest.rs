//! SHA-256, by which guests are told apart.

use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// Digits of [`Digest::short`].
const SHORT: usize = 12;

/// The SHA-256 of some bytes; as text 64 hexadecimal digits, as `sha256sum` prints them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Takes the digest of `bytes`: milliseconds for a large guest.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its first twelve digits: enough for people to tell guests apart.
    pub fn short(&self) -> Digits<SHORT> {
        self.digits()
    }

    /// Its first `COUNT` digits, 64 at the most.
    pub fn digits<const COUNT: usize>(&self) -> Digits<COUNT> {
        Digits(std::array::from_fn(|at| digit(nibble(&self.0, at))))
    }
}

/// One that was taken elsewhere.
impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.digits::<64>(), f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 64 hexadecimal digits, as `sha256sum` prints them")]
pub struct NoDigest;

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoDigest);
        }
        let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("they are two digits");
        Ok(Self(std::array::from_fn(byte)))
    }
}

/// So many hexadecimal digits, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digits<const COUNT: usize>([u8; COUNT]);

impl<const COUNT: usize> Digits<COUNT> {
    /// The last digits of a number, 32 at the most.
    pub fn of(number: u128) -> Self {
        let bytes = number.to_be_bytes();
        Self(std::array::from_fn(|at| digit(nibble(&bytes, 2 * bytes.len() - COUNT + at))))
    }
}

/// Half of a byte: the one with this number.
fn nibble(bytes: &[u8], at: usize) -> u8 {
    if at.is_multiple_of(2) { bytes[at / 2] >> 4 } else { bytes[at / 2] & 0xf }
}

fn digit(nibble: u8) -> u8 {
    b"0123456789abcdef"[usize::from(nibble)]
}

/// As text.
impl<const COUNT: usize> AsRef<[u8]> for Digits<COUNT> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<const COUNT: usize> fmt::Display for Digits<COUNT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(str::from_utf8(&self.0).expect("digits are ASCII"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_tell_the_same() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digest = Digest::of(b"abc");
        assert_eq!((digest.to_string().as_str(), digest.short().as_ref()), (abc, &b"ba7816bf8f01"[..]));
        assert_eq!(abc.to_ascii_uppercase().parse(), Ok(digest));
        assert_eq!(Digest::from(*digest.as_bytes()), digest);
        for wrong in ["", &abc[1..], &format!("{abc}0"), &abc.replace('b', "g"), &"+f".repeat(32)] {
            assert_eq!(wrong.parse::<Digest>(), Err(NoDigest), "{wrong}");
        }
    }
}
