//! The operator plane: what people on this machine see and change of a running host, as HTTP with JSON (docs/operate.md).
//!
//! | request | body | what |
//! |---|---|---|
//! | `GET /pool` | | slots, and how many of them are taken |
//! | `GET /functions` | | which guest each function has, or why none |
//! | `GET /live?since=NEXT` | | what is new for people who look on ([`Live::report`](crate::live::Live::report)) |
//! | `GET /metrics` | | what is counted, as [`openmetrics`] spells it |
//! | `GET /log-level` | | what reaches the log |
//! | `PUT /log-level` | `{"level": …}` | another level until the host ends |
//! | `POST /swap/FUNCTION` | the component | [`Swap::publish`](crate::swap::Swap::publish) |
//! | `POST /rollback/FUNCTION` | none | [`Swap::rollback`](crate::swap::Swap::rollback) |
//!
//! [`plane`] answers them. [`server`] lets them in: on a unix socket that only our user can reach, and, where `--operate` asks for
//! it, on a port of this machine to requests that bring the [`token`]. The socket belongs to the app's folder: whoever names that
//! folder finds it, as [`client`] does.

pub mod client;
pub mod openmetrics;
pub mod plane;
pub mod server;
pub mod token;

use crate::config::AppSettings;
use crate::config::digest::Digest;
use crate::private;
use std::io;
use std::path::{Path, PathBuf};

/// Where the socket of the app in the folder `root` may be, best first. Each lies in a folder of ours that is closed to
/// everybody else; the first that can be used is.
///
/// # Errors
/// There is no such folder.
pub fn sockets(root: &Path, settings: &AppSettings) -> io::Result<Vec<PathBuf>> {
    let root = root.canonicalize()?;
    let name = format!("{}.sock", Digest::of(root.as_os_str().as_encoded_bytes()).digits::<16>());
    let session = settings.get("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let folders = session.map(|folder| folder.join("flexwasm")).into_iter().chain([private::below_tmp()]);
    Ok(folders.map(|folder| folder.join(&name)).collect())
}
