//! What proves, on a port of this machine, that somebody is the user of this process: the content of a file that only that user
//! can read.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

/// A secret of 32 random bytes, made at the start. Its file is removed when this is dropped.
pub struct Token {
    path: PathBuf,
    /// What requests are compared with.
    pub proof: Proof,
}

/// The digest of a secret. Secrets are compared by it, so that the time that takes says nothing about how much of one was guessed.
#[derive(Clone, Copy)]
pub struct Proof([u8; 32]);

impl Token {
    /// Makes one, and writes it to `path` with mode 0600. The folder has to be closed to everybody else.
    ///
    /// # Errors
    /// When there are no random bytes, or the file cannot be written.
    pub fn make(path: PathBuf) -> io::Result<Self> {
        let mut random = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        // Of one that was killed.
        let _ = fs::remove_file(&path);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(secret.as_bytes())?;
        Ok(Self { path, proof: Proof(Sha256::digest(secret).into()) })
    }
}

impl Proof {
    /// Whether a request with this head brings the secret: `Authorization: Bearer SECRET`.
    pub fn is_in(self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        given.is_some_and(|(scheme, secret)| {
            scheme.eq_ignore_ascii_case("bearer") && <[u8; 32]>::from(Sha256::digest(secret)) == self.0
        })
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn only_the_content_of_the_file_is_admitted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        fs::write(&path, "left behind").expect("written");
        let token = Token::make(path.clone()).expect("made");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let secret = fs::read_to_string(&path).expect("readable");
        assert_eq!(secret.len(), 64);
        let admits = |value: &str| {
            let value = value.parse().expect("a value");
            token.proof.is_in(&HeaderMap::from_iter([(AUTHORIZATION, value)]))
        };
        assert!(admits(&format!("Bearer {secret}")) && admits(&format!("bearer {secret}")));
        let shorter = format!("Bearer {}", &secret[..63]);
        for wrong in ["", "Bearer", "Bearer ", "Bearer x", &secret, &shorter, &format!("Basic {secret}")] {
            assert!(!admits(wrong), "{wrong}");
        }
        assert!(!token.proof.is_in(&HeaderMap::new()));
        drop(token);
        assert!(!path.exists());
    }
}
