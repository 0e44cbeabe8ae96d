//! Notices with Linux's inotify that a guest's file has been replaced by renaming, or rewritten in place.
//!
//! A path may lead through links, such as `current -> v2`, or `..data` in a volume of Kubernetes: every one of them is watched, and
//! every folder on the way.
//!
//! A file that is being written is left alone until its writer closes it: what is published was never read half-written.

use super::Swap;
use crate::config::middleware::Middleware;
use crate::guest::Keep;
use futures_util::{FutureExt as _, StreamExt as _};
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long a file that was rewritten in place has to be left alone: some programs close it and open it again.
const QUIET: Duration = Duration::from_millis(20);
/// How often a path that leads nowhere is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Links on a path, as many as Linux follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Publishes the guest in the file `path`, and each guest that takes its place.
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
    republish(swap, &mut watch, path, None).await;
}

/// Publishes each component that takes the place of the one with this number in `guest.middleware`. The first is published with the
/// guest.
pub async fn follow_part(swap: &Swap, part: usize) {
    let Middleware { file, path, .. } = &swap.function.middleware[part];
    match Watch::new(path) {
        Ok(mut watch) => republish(swap, &mut watch, path, Some(part)).await,
        Err(error) => tracing::warn!("{file} is not watched ({error}): replace it with `flexwasm swap --part`"),
    }
}

/// Publishes what takes the place of the component in the file `path`, which is that of `part`.
async fn republish(swap: &Swap, watch: &mut Watch, path: &Path, part: Option<usize>) {
    let origin = path.display().to_string();
    loop {
        watch.changed().await;
        let found = swap.read(path).await;
        if watch.is_changing() {
            continue;
        }
        let published = match found {
            Ok(artifact) => swap.publish_part(part, artifact, Keep::Always).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(why) = published {
            swap.refuse(&origin, &why);
        }
    }
}

/// What a path leads to, and every link on the way there.
struct Watch {
    /// The path as it was named, made absolute.
    path: PathBuf,
    events: EventStream<[u8; 4096]>,
    /// The folder and the name of the file itself.
    file: (WatchDescriptor, OsString),
    /// The path of that file, with all links followed.
    place: PathBuf,
    /// The folder and the name of each link.
    links: Vec<(WatchDescriptor, OsString)>,
    /// The file has been replaced or rewritten since [`Watch::changed`] last returned.
    changed: bool,
    /// A writer has not closed the file yet.
    written: bool,
    /// The file was rewritten in place.
    in_place: bool,
    /// The path may lead elsewhere, or nowhere.
    lost: bool,
}

impl Watch {
    fn new(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let Way { folders, links, file } = Way::along(&path)?;
        let inotify = Inotify::init()?;
        let mut watches = inotify.watches();
        for folder in &folders {
            // A folder that may only be passed through cannot be watched. If it holds a link, watching that fails below.
            let _ = watches.add(folder, WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR);
        }
        let mut watch = |(folder, name): (PathBuf, OsString)| {
            let what = WatchMask::MODIFY | WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO | WatchMask::CREATE;
            let more = WatchMask::MASK_ADD | WatchMask::ONLYDIR;
            io::Result::Ok((watches.add(&folder, what | more)?, name))
        };
        let links = links.into_iter().map(&mut watch).collect::<io::Result<_>>()?;
        let place = file.0.join(&file.1);
        let file = watch(file)?;
        let events = inotify.into_event_stream([0; 4096])?;
        Ok(Self { path, events, file, place, links, changed: false, written: false, in_place: false, lost: false })
    }

    /// Waits until the file has been replaced or rewritten, and nothing writes to it.
    async fn changed(&mut self) {
        loop {
            if self.lost {
                self.find_again().await;
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

    /// Whether something has happened to the file since [`Watch::changed`] returned.
    fn is_changing(&mut self) -> bool {
        while let Some(Some(Ok(event))) = self.events.next().now_or_never() {
            self.take(&event);
        }
        self.changed || self.written || self.lost
    }

    fn take(&mut self, event: &EventOwned) {
        let what = event.mask;
        self.changed |= what.contains(EventMask::Q_OVERFLOW);
        self.lost |= what.intersects(EventMask::DELETE_SELF | EventMask::MOVE_SELF);
        let is =
            |(folder, name): &(WatchDescriptor, OsString)| event.wd == *folder && event.name.as_ref() == Some(name);
        self.lost |= self.links.iter().any(is) && what.intersects(EventMask::CREATE | EventMask::MOVED_TO);
        if !is(&self.file) {
            return;
        }
        self.written |= what.contains(EventMask::MODIFY);
        self.in_place |= what.contains(EventMask::CLOSE_WRITE);
        let appeared = what.intersects(EventMask::CREATE | EventMask::MOVED_TO);
        let metadata = appeared.then(|| fs::symlink_metadata(&self.place).ok()).flatten();
        // A link has taken the place of the file.
        self.lost |= metadata.as_ref().is_some_and(fs::Metadata::is_symlink);
        // A new name of an existing file, as cargo makes them, has no writer; a new file has one that will close it.
        let named = metadata.is_some_and(|metadata| metadata.nlink() > 1);
        if named || what.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_TO) {
            (self.changed, self.written) = (true, false);
        }
    }

    /// Waits until the path leads somewhere again, and watches that.
    async fn find_again(&mut self) {
        loop {
            match Self::new(&self.path) {
                Ok(watch) if self.path.exists() => {
                    *self = Self { changed: true, ..watch };
                    return;
                }
                _ => sleep(LOOK).await,
            }
        }
    }
}

/// How a path is found: what the kernel walks through.
struct Way {
    /// Every folder that is passed.
    folders: Vec<PathBuf>,
    /// Folder and name of each link that is followed.
    links: Vec<(PathBuf, OsString)>,
    /// Folder and name of what is found in the end. It may not be there.
    file: (PathBuf, OsString),
}

impl Way {
    /// Follows an absolute path.
    fn along(path: &Path) -> io::Result<Self> {
        let mut rest: Vec<OsString> = names(path);
        let (mut at, mut folders, mut links) = (PathBuf::from("/"), Vec::new(), Vec::new());
        while let Some(name) = rest.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let found = at.join(&name);
            match fs::symlink_metadata(&found) {
                Ok(metadata) if metadata.is_symlink() => {
                    let target = fs::read_link(&found)?;
                    folders.push(at.clone());
                    if links.len() == MOST_LINKS {
                        return Err(rustix::io::Errno::LOOP.into());
                    }
                    links.push((at.clone(), name));
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    rest.extend(names(&target));
                }
                _ if rest.is_empty() => {
                    folders.push(at.clone());
                    return Ok(Self { folders, links, file: (at, name) });
                }
                Ok(_) => {
                    folders.push(at);
                    at = found;
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::IsADirectory.into())
    }
}

/// The names in a path, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let named = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(named).collect()
}
