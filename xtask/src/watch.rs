//! Building an app's guest again whenever its sources change, beside the host that [`run`](crate::run) has started.

use anyhow::{Context as _, Result};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

/// The subcommand that does it.
pub const SUBCOMMAND: &str = "build-on-change";
/// What guests are made of beside their own folder.
const SHARED: [&str; 2] = ["wit", "Cargo.lock"];
/// How often they are looked at.
const PAUSE: Duration = Duration::from_millis(200);

/// Starts it as a process of its own, which ends with this one, whatever becomes of it.
pub fn start(app: &Path) -> Result<()> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(own);
    command.arg(SUBCOMMAND).arg(app).stdin(Stdio::null());
    command.spawn().context("cannot start a process to watch the guest's sources")?;
    Ok(())
}

/// Watches, until whoever started it ends.
pub fn run(app: &Path) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM)).context("cannot end with the host")?;
    let guest = app.join("guest");
    println!("watching {}, {}", guest.display(), SHARED.join(", "));
    let mut built = newest(&guest);
    loop {
        thread::sleep(PAUSE);
        let seen = newest(&guest);
        if seen == built {
            continue;
        }
        built = seen;
        // The compiler has said what is wrong; the old guest goes on serving.
        if let Err(error) = crate::build_guest(app) {
            eprintln!("xtask: {error:#}; save again when it is fixed");
        }
    }
}

/// When a source changed last, and how many there are.
fn newest(guest: &Path) -> (Option<SystemTime>, usize) {
    let mut found = (None, 0);
    look(guest, &mut found);
    for source in SHARED {
        look(&crate::root().join(source), &mut found);
    }
    found
}

fn look(path: &Path, found: &mut (Option<SystemTime>, usize)) {
    // What is gone in this moment is looked at again in the next.
    let Ok(metadata) = fs::metadata(path) else { return };
    found.0 = found.0.max(metadata.modified().ok());
    found.1 += 1;
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        look(&entry.path(), found);
    }
}
