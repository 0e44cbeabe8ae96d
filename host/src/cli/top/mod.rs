//! `flexwasm top`.

mod screen;

use super::output::{Ended, print};
use super::running::{Running, sockets, waiting};
use crate::control::client;
use rustix::termios::tcgetwinsize;
use screen::Screen;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

/// How often the host is asked.
const PERIOD: Duration = Duration::from_secs(1);
/// Where the size of the terminal is not told, or there is none.
const SIZE: (usize, usize) = (100, 40);

/// Another screen of the terminal, without a cursor, and back (xterm, "Control Sequences").
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left; the rest of a line; the rest of the screen.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST: &str = "\x1b[J";

/// Watch what a running host does: its slots, load, times, memory, and what failed last
#[derive(Debug, clap::Args)]
#[command(
    after_help = "It is drawn anew every second, until Ctrl-C. Where the output is no terminal, it is printed once."
)]
pub struct Top {
    #[command(flatten)]
    running: Running,
}

impl Top {
    pub fn run(self) -> Result<ExitCode, Ended> {
        let sockets = sockets(&self.running.root())?;
        waiting()?.block_on(async {
            let mut screen = Screen::default();
            let mut ask = async || {
                let report = client::see(&sockets, &format!("/live?since={}", screen.next())).await?;
                if let Some(why) = report["error"].as_str() {
                    return Err(Ended::Failed(why.to_owned()));
                }
                screen.take(report);
                Ok::<_, Ended>(screen.lines(size()))
            };
            let first = ask().await?;
            if !io::stdout().is_terminal() {
                return print(format_args!("{}\n", first.join("\n")));
            }
            let failed = |error: io::Error| format!("cannot listen to signals: {error}");
            let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
            let _terminal = Terminal::enter()?;
            loop {
                let lines = ask().await?.join(&format!("{REST_OF_LINE}\n"));
                print(format_args!("{HOME}{lines}{REST_OF_LINE}{REST}"))?;
                tokio::select! { _ = interrupt.recv() => return Ok(()), () = sleep(PERIOD) => {} }
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    let told = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    told.map_or(SIZE, |size| (size.ws_col.into(), size.ws_row.into()))
}

/// A terminal whose former screen comes back when this is dropped.
struct Terminal;

impl Terminal {
    fn enter() -> Result<Self, Ended> {
        print(format_args!("{ENTER}")).map(|()| Self)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Whoever has closed the terminal misses nothing.
        let _ = print(format_args!("{LEAVE}"));
    }
}
