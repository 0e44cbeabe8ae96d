//! `flexwasm explain`: what guests ask for and get.

use super::context::Context;
use super::output::{Ended, print};
use crate::config::{self, Function};
use crate::describe;
use std::process::ExitCode;

/// Show what guests ask for, what they get, and what their limits are, without running them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The app is that of FUNCTIONS_APP_ROOT_PATH, else of the working directory. What a guest asks for stands in its file; what it \
gets is decided by the grants of its function.")]
pub struct Explain {
    /// The function, which is the name of its folder [default: all of them]
    function: Option<String>,
}

impl Explain {
    pub fn run(self) -> Result<ExitCode, Ended> {
        let context = Context::read();
        let root = context.app_root();
        let given = context.circumstances(&root, None);
        let config = config::load(&root, context.settings, &given)?;
        let named = self.function.as_deref();
        let functions: Vec<&Function> =
            config.functions.iter().filter(|function| named.is_none_or(|name| *function.name == *name)).collect();
        if functions.is_empty() {
            let names: Vec<&str> = config.functions.iter().map(|function| &*function.name).collect();
            let (named, names) = (named.unwrap_or_default(), names.join(", "));
            return Err(format!("there is no function {named}: name one of {names}").into());
        }
        let mut broken = Vec::new();
        for function in functions {
            match describe::guest(function) {
                Ok(text) => print(format_args!("{text}\n"))?,
                Err(error) => {
                    broken.push(format!("function {}: {} {error}", function.name, function.script_file.display()))
                }
            }
        }
        if broken.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Ended::all(&broken)) }
    }
}
