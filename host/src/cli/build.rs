//! `flexwasm build`: the guests of an app, from their sources.

use super::context::Context;
use super::output::{Ended, complain};
use crate::config;
use crate::tool::build::build;
use crate::tool::sources::{self, Source};
use std::process::ExitCode;

/// Build the guests of this app from their sources
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The source of a guest lies beside the function.json of its function, or in the folder `guest` of the app. Cargo.toml tells that it is \
in Rust, package.json in JavaScript, requirements.txt in Python.")]
pub struct Build {}

impl Build {
    pub fn run(self) -> Result<ExitCode, Ended> {
        let context = Context::read();
        let root = context.app_root();
        let given = context.circumstances(&root, None);
        let config = config::load(&root, context.settings, &given)?;
        let sources = sources::find(&root, &config);
        if sources.is_empty() {
            let remedy =
                "no function has a source here: put it beside its function.json, or begin with `flexwasm new NAME`";
            return Err(remedy.to_owned().into());
        }
        guests(&sources)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Builds all of them, and tells what happens on standard error, as their tools do.
pub fn guests(sources: &[Source]) -> Result<(), Ended> {
    let broken: Vec<String> = sources.iter().filter_map(|source| build(source, &|said| complain(said)).err()).collect();
    if broken.is_empty() { Ok(()) } else { Err(Ended::all(&broken)) }
}
