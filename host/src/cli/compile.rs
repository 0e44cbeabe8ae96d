//! `flexwasm compile`: machine code beside a guest.

use super::output::{Ended, print};
use crate::config::source::MAX_GUEST;
use crate::engine::code::{self, Processors};
use crate::guest::artifact::Artifact;
use crate::guest::compiler::NoCode;
use crate::guest::{self, compiled};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Compile a component ahead of time, so that the host only has to map it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The host uses the compiled file beside a guest (guest.cwasm beside guest.wasm) if it was made from that very guest by this \
version of flexwasm, for processors like its own; otherwise it says why and compiles. It is trusted like the executable.

Example:
  flexwasm compile --portable http_trigger/guest.wasm")]
pub struct Compile {
    /// The component: a .wasm file
    guest: PathBuf,
    /// Where to write it [default: beside the guest, with the extension .cwasm]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// For every processor of this architecture, not only for those like this machine's
    #[arg(long)]
    portable: bool,
}

impl Compile {
    pub fn run(self) -> Result<ExitCode, Ended> {
        let begun = Instant::now();
        let file = &self.guest;
        let output = self.output.unwrap_or_else(|| compiled::beside(file));
        let shown = file.display();
        let is_there = fs::metadata(&output).is_ok_and(|output| !output.is_dir());
        let is_compiled = output.extension().is_some_and(|extension| extension == "cwasm")
            && fs::canonicalize(&output).ok() != fs::canonicalize(file).ok();
        if is_there && !is_compiled {
            return Err(Ended::Failed(format!(
                "{} is there, and is no compiled guest: name another file with -o, such as other.cwasm",
                output.display()
            )));
        }
        let artifact = Artifact::read(file, MAX_GUEST).map_err(|error| format!("{shown} {error}"))?;
        let Artifact { wasm, interfaces, .. } = artifact;
        let processors = if self.portable { Processors::EveryKind } else { Processors::ThisKind };
        let content = code::compiler(interfaces.wasi, processors).and_then(|engine| compiled::compile(&engine, &wasm));
        let content = content.map_err(|error| format!("{shown} {}", NoCode::Invalid(guest::chain(&error))))?;
        compiled::write(&output, &content).map_err(|error| format!("cannot write {}: {error}", output.display()))?;
        print(format_args!(
            "{} ({:.1} MB) compiled from {shown} ({:.1} MB) in {:.1} s, for {}\n",
            output.display(),
            content.len() as f64 / 1e6,
            wasm.len() as f64 / 1e6,
            begun.elapsed().as_secs_f64(),
            if self.portable { "every processor of this architecture" } else { "processors like this one" },
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
