//! `flexwasm package`: what is deployed.

use super::build;
use super::check::Check;
use super::context::Context;
use super::output::{Ended, print};
use crate::config::{self, OWN_EXECUTABLE};
use crate::doctor::local::PACKAGE;
use crate::package;
use crate::tool::{pack, sources};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Build the guests of this app, and pack it for the Flex Consumption plan
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The package holds host.json, this executable, each function's function.json, guest and compiled guest, and the folders that guests may \
read. It is checked as `flexwasm check --package` does before it takes its place.")]
pub struct Pack {
    /// Where to write it [default: dist/flexwasm.zip of the app]
    #[arg(short, long, value_name = "ZIP")]
    output: Option<PathBuf>,
}

impl Pack {
    pub fn run(self) -> Result<ExitCode, Ended> {
        pack::fits_the_plan(Path::new(OWN_EXECUTABLE))?;
        let context = Context::read();
        let root = context.app_root();
        let given = context.circumstances(&root, None);
        let config = config::load_as_deployed(&root, context.settings.clone(), &given)?;
        let executable = package::executable(&root)?;
        build::guests(&sources::find(&root, &config))?;
        let shown = self.output.unwrap_or_else(|| root.join(PACKAGE));
        let unwritable = |error: std::io::Error| format!("{} cannot be written ({error})", shown.display());
        // The check goes into the package's folder.
        let output = std::path::absolute(&shown).map_err(unwritable)?;
        let unfinished = output.with_added_extension("new");
        let executables = [&*root.join(&executable), Path::new(OWN_EXECUTABLE)];
        for target in [&output, &unfinished] {
            pack::spare(&root, &config, &executables, target)?;
        }
        fs::create_dir_all(output.parent().unwrap_or(Path::new("/"))).map_err(unwritable)?;
        let into = File::create(&unfinished).map_err(unwritable)?;
        let packed = pack::write(&root, &config, (&executable, Path::new(OWN_EXECUTABLE)), into).map_err(Ended::Failed);
        let packed = packed.and_then(|()| Check::of_package(&unfinished, &context));
        let placed = packed.and_then(|()| fs::rename(&unfinished, &output).map_err(|error| unwritable(error).into()));
        placed.inspect_err(|_| {
            let _ = fs::remove_file(&unfinished);
        })?;
        let size = fs::metadata(&output).map_err(unwritable)?.len() as f64 / 1e6;
        print(format_args!("{}: {size:.1} MB, everything is in order\n", shown.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
