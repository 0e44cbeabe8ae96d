//! `flexwasm check`: an app or a package, validated without being served.

use super::context::{Context, runtime};
use super::output::{Ended, print};
use super::report::Report;
use crate::app::check::{self, Checked};
use crate::config::section::Problem;
use crate::config::{self, Config};
use crate::describe;
use crate::package::Package;
use std::fmt::Arguments;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Validate an app without serving it: configuration, routes, guests and the compiled files beside them
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The app root: the folder with host.json [default: FUNCTIONS_APP_ROOT_PATH, else the working directory]
    root: Option<PathBuf>,
    /// Validate a deployment package in its place: modes, executable, functions, and guests compiled for every processor
    #[arg(long, value_name = "ZIP", conflicts_with = "root")]
    package: Option<PathBuf>,
    /// Print one JSON document for programs (docs/operate.md) in place of the text; problems go to standard error as well
    #[arg(long)]
    json: bool,
}

impl Check {
    pub fn run(self) -> Result<ExitCode, Ended> {
        let context = Context::read();
        let mut report = Report::default();
        self.examine(&context, &mut report)?;
        if self.json {
            print(format_args!("{:#}\n", report.json(&context.machine)))?;
        }
        if report.problems.is_empty() {
            self.say(format_args!("everything is in order\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(Ended::all(&report.problems))
    }

    /// Examines a package without a word; what is wrong with it is the error.
    pub fn of_package(zip: &Path, context: &Context) -> Result<(), Ended> {
        let mut report = Report::default();
        Self { root: None, package: Some(zip.to_owned()), json: true }.examine(context, &mut report)?;
        if report.problems.is_empty() { Ok(()) } else { Err(Ended::all(&report.problems)) }
    }

    /// Prints for people.
    fn say(&self, text: Arguments<'_>) -> Result<(), Ended> {
        if self.json { Ok(()) } else { print(text) }
    }

    /// Fills in the report, and prints what it finds on the way: compiling takes its time.
    fn examine(&self, context: &Context, report: &mut Report) -> Result<(), Ended> {
        let package;
        let configured = match &self.package {
            Some(zip) => match Package::unpack(zip) {
                Ok(unpacked) => {
                    // Unpacked until the end of the examination.
                    package = unpacked;
                    self.say(format_args!("{}\n{}\n", zip.display(), package.listing()))?;
                    report.pack(zip, &package);
                    self.enter(&package, context)
                }
                Err(problems) => Err(sentences(&problems)),
            },
            None => self.load(context),
        };
        match configured {
            Ok(config) => self.load_guests(config, context, report),
            Err(problems) => {
                report.problems = problems;
                Ok(())
            }
        }
    }

    fn load(&self, context: &Context) -> Result<Config, Vec<String>> {
        let root = self.root.clone().unwrap_or_else(|| context.app_root());
        let config = config::load(&root, context.settings.clone(), &context.circumstances(&root, None));
        config.map_err(|problems| sentences(&problems))
    }

    fn enter(&self, package: &Package, context: &Context) -> Result<Config, Vec<String>> {
        // So that every file is called as in the package.
        std::env::set_current_dir(package.folder())
            .map_err(|error| vec![format!("cannot enter the package ({error})")])?;
        let root = Path::new(".");
        let config = package.load(root, context.settings.clone(), &context.circumstances(root, None));
        config.map_err(|problems| sentences(&problems))
    }

    fn load_guests(&self, config: Config, context: &Context, report: &mut Report) -> Result<(), Ended> {
        self.say(format_args!("{}\n", describe::settings(&config)))?;
        self.say(format_args!("{}\n\n", describe::residency(&config)))?;
        for note in &config.notes {
            self.say(format_args!("note: {note}\n"))?;
        }
        report.problems = sentences(&config.objections);
        report.config = Some(config.clone());
        let runtime = runtime()?;
        let checked = runtime.block_on(check::run(config, Arc::clone(&context.machine)));
        runtime.shutdown_background();
        match checked {
            Ok(Checked { compiled, broken, .. }) => {
                for line in &compiled {
                    self.say(format_args!("{line}\n"))?;
                }
                report.compiled = compiled;
                report.problems.extend(broken);
            }
            // No guest has been loaded: what else is wrong is of no use before there is room.
            Err(why) => report.problems = vec![why],
        }
        Ok(())
    }
}

fn sentences(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}
