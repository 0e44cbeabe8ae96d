//! Telling a running host on the same machine to replace a guest: HTTP on a unix socket that only our user can reach.
//!
//! | request | body | what |
//! |---|---|---|
//! | `POST /swap/FUNCTION` | the component | [`Swap::publish`](crate::swap::Swap::publish) |
//! | `POST /rollback/FUNCTION` | none | [`Swap::rollback`](crate::swap::Swap::rollback) |
//!
//! Both answer JSON, see [`server`]. The socket belongs to the app's folder: whoever names that folder finds it.

pub mod client;
pub mod server;

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
