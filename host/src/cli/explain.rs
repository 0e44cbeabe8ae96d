//! `flexwasm explain`: what guests ask for and get.

use super::context::Context;
use super::output::{Ended, print};
use super::report;
use crate::config::{self, Function};
use crate::describe;
use serde_json::json;
use std::process::ExitCode;

/// Show what guests ask for, what they get, and what their limits are, without running them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The app is that of FUNCTIONS_APP_ROOT_PATH, else of the working directory. What a guest asks for stands in its file; what it \
gets is decided by the grants of its function.")]
pub struct Explain {
    /// The function, which is the name of its folder [default: all of them]
    function: Option<String>,
    /// Print one JSON document for programs (docs/operate.md) in place of the text
    #[arg(long)]
    json: bool,
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
            let (named, first) = (named.unwrap_or_default(), names.first().copied().unwrap_or_default());
            let names = names.join(", ");
            return Err(format!("there is no function {named} among {names}: run `flexwasm explain {first}`").into());
        }
        let (mut explained, mut broken) = (Vec::new(), Vec::new());
        for function in functions {
            if let Some(builtin) = function.builtin.filter(|_| !self.json) {
                let (name, word) = (&function.name, builtin.word());
                print(format_args!(
                    "function {name}: no guest, the host answers by itself (flexwasm.builtin {word})\n"
                ))?;
                continue;
            }
            let told = match self.json {
                true => report::explained(&config, function).map(|document| explained.push(document)),
                false => match describe::guest(function) {
                    Ok(text) => Ok(print(format_args!("{text}\n"))?),
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = told {
                broken.push(format!("function {}: {} {error}", function.name, function.script_file.display()));
            }
        }
        if self.json {
            print(format_args!("{:#}\n", json!({ "version": env!("CARGO_PKG_VERSION"), "functions": explained })))?;
        }
        if broken.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Ended::all(&broken)) }
    }
}
