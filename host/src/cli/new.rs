//! `flexwasm new`: an app to begin with.

use super::output::{Ended, print};
use crate::tool::scaffold::{self, NotMade, Style, Trigger};
use crate::tool::sources::Language;
use std::path::Path;
use std::process::ExitCode;

/// Make an app with one function, whose guest is in a language of your choice
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  flexwasm new hello --language javascript\n  flexwasm new tools --trigger mcp")]
pub struct New {
    /// The folder to make, which is also the name of the function, and of its route below /api/ if it has one
    #[arg(allow_hyphen_values = true)]
    name: String,
    /// What the guest is written in
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    language: Language,
    /// What calls it
    #[arg(long, value_enum, default_value_t = Trigger::Http)]
    trigger: Trigger,
    /// What a guest in Rust is written with
    #[arg(long, value_enum, default_value_t = Style::Bindings)]
    style: Style,
}

impl New {
    pub fn run(self) -> Result<ExitCode, Ended> {
        let Self { name, language, trigger, style } = self;
        scaffold::create(Path::new("."), &name, language, trigger, style).map_err(|error| match error {
            NotMade::Name(..) | NotMade::Language(_) | NotMade::Style(_) => Ended::Wrong(error.to_string()),
            NotMade::Exists(_) | NotMade::Write(..) => Ended::Failed(error.to_string()),
        })?;
        // As it was called here, for it need not be on PATH.
        let own = std::env::args_os().next().unwrap_or_else(|| "flexwasm".into());
        let own = Path::new(&own);
        let own = if own.components().count() > 1 { std::path::absolute(own) } else { Ok(own.to_owned()) };
        let own = own.map_err(|error| format!("the working directory is gone ({error})"))?;
        print(format_args!(
            "{name} is made. Build it and serve it:\n\n  cd {name} && {} run --watch\n",
            own.display()
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
