//! Noticing that a guest's file is another, replaced by renaming or rewritten in place, with Linux's inotify.
//!
//! A file that is being written is left alone until its writer closes it: what is published was never read half-written.

use super::Swap;
use crate::guest::Keep;
use futures_util::{FutureExt as _, StreamExt as _};
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchMask, Watches};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long a file that was rewritten in place has to be left alone: some programs close it and open it again.
const QUIET: Duration = Duration::from_millis(20);
/// How often a folder that is not there any more is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Publishes the guest in the file `path`, and each that takes its place.
pub async fn follow(swap: &Swap, path: &Path, loaded: impl Send) {
    let origin = path.display().to_string();
    // Before the first look, so that nothing is missed between the two.
    let watch = Watch::new(path);
    let found = swap.read(path).await;
    swap.begin(&origin, found).await;
    drop(loaded);
    let mut watch = match watch {
        Ok(watch) => watch,
        Err(error) => {
            tracing::warn!("{origin} is not watched ({error}): replace it with `flexwasm swap`");
            return;
        }
    };
    loop {
        watch.changed().await;
        let found = swap.read(path).await;
        if watch.is_changing() {
            continue;
        }
        let published = match found {
            Ok(artifact) => swap.publish(artifact, Keep::Always).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(why) = published {
            swap.refuse(&origin, &why);
        }
    }
}

/// A file's name in a folder, whatever file it stands for.
struct Watch {
    events: EventStream<[u8; 4096]>,
    watches: Watches,
    folder: PathBuf,
    name: OsString,
    /// It is another since [`Watch::changed`] last said so.
    changed: bool,
    /// Somebody writes to it and has not closed it yet.
    written: bool,
    /// It was written to in place.
    in_place: bool,
    /// The folder of this name is another, or gone.
    lost: bool,
}

impl Watch {
    fn new(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_owned();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        let events = inotify.into_event_stream([0; 4096])?;
        let folder = folder.to_owned();
        let mut watch =
            Self { events, watches, folder, name, changed: false, written: false, in_place: false, lost: false };
        watch.add()?;
        Ok(watch)
    }

    fn add(&mut self) -> io::Result<()> {
        let what = WatchMask::MODIFY
            | WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::CREATE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        self.watches.add(&self.folder, what).map(drop)
    }

    /// Waits until the file is another, and nobody is writing to it.
    async fn changed(&mut self) {
        loop {
            if self.lost {
                self.find_folder().await;
            }
            let event = if self.changed && !self.written {
                let quiet = if self.in_place { QUIET } else { Duration::ZERO };
                match timeout(quiet, self.events.next()).await {
                    Ok(event) => event,
                    Err(_) => break,
                }
            } else {
                self.events.next().await
            };
            match event {
                Some(Ok(event)) => self.take(&event),
                // No more will come.
                _ => std::future::pending().await,
            }
        }
        self.changed = false;
        self.in_place = false;
    }

    /// Whether something has happened to it since [`Watch::changed`] said that it is another.
    fn is_changing(&mut self) -> bool {
        while let Some(Some(Ok(event))) = self.events.next().now_or_never() {
            self.take(&event);
        }
        self.changed || self.written
    }

    fn take(&mut self, event: &EventOwned) {
        let what = event.mask;
        self.lost |= what.intersects(EventMask::DELETE_SELF | EventMask::MOVE_SELF);
        self.changed |= what.contains(EventMask::Q_OVERFLOW);
        if event.name.as_ref() != Some(&self.name) {
            return;
        }
        self.written |= what.contains(EventMask::MODIFY);
        self.in_place |= what.contains(EventMask::CLOSE_WRITE);
        // A new name of a file, as cargo makes them, has no writer; a new file has one who will close it.
        let named = what.contains(EventMask::CREATE) && is_other_name(&self.folder.join(&self.name));
        if named || what.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_TO) {
            (self.changed, self.written) = (true, false);
        }
    }

    /// Waits until there is a folder of this name again, and watches that.
    async fn find_folder(&mut self) {
        while !self.folder.join(&self.name).exists() || self.add().is_err() {
            sleep(LOOK).await;
        }
        (self.lost, self.changed) = (false, true);
    }
}

/// Whether a path is a link, or one of several names.
fn is_other_name(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink() || metadata.nlink() > 1)
}
