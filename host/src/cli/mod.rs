//! The command line, and the process's exit status. Each command has a file of its own, with its arguments and its help.
//!
//! | status | meaning to the Functions host (azure-contract.md §1.8) |
//! |---|---|
//! | 0 | stopped on request, all running invocations answered or cut off at `drain.timeout` |
//! | 1 | cannot start: the last lines on stderr say why; counted as a crash |
//! | 2 | wrong command line |
//! | 141 | a command whose output nobody reads any more, as with `\| head -1` |
//! | 143 | a second signal cut the draining short |

mod address;
mod build;
mod burst;
mod check;
mod compile;
mod compile_for_host;
mod completions;
mod context;
mod deploy;
mod doctor;
mod explain;
mod hold_on_leash;
mod manual;
mod new;
mod output;
mod package;
mod pictures;
mod plan;
mod report;
mod rollback;
mod run;
mod running;
mod send;
mod serve;
mod swap;
mod timeline;
mod top;

pub use context::{Setup, runtime};
pub use output::Ended;

use crate::guest::compiler::process;
use crate::tool::leash;
use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Without a subcommand flexwasm serves the app in FUNCTIONS_APP_ROOT_PATH, or in the working directory: host.json and one \
folder with a function.json for each function. The Functions host starts it this way and names the port in \
FUNCTIONS_CUSTOMHANDLER_PORT; without that variable it runs stand-alone on 127.0.0.1:7071 and reads local.settings.json.

Every setting of ours stands in the \"flexwasm\" section of host.json or function.json, or in an app setting such as \
flexwasm__pool__size=64. `flexwasm check` shows what is set.";

/// Serves WebAssembly components as Azure Functions: every concurrent request in a pooled instance of its own.
#[derive(Debug, Parser)]
#[command(name = "flexwasm", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Stand-alone: address to listen on, 127.0.0.1:7071 unless given; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", value_parser = address::any)]
    listen: Option<SocketAddr>,

    /// Also answer operators at this address of this machine, such as 127.0.0.1:7072, with a token (docs/operate.md)
    #[arg(long, value_name = "ADDRESS", value_parser = address::loopback)]
    operate: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(new::New),
    Build(build::Build),
    Run(run::Run),
    Package(package::Pack),
    Deploy(deploy::Deploy),
    Serve(serve::Serve),
    Check(check::Check),
    Explain(explain::Explain),
    Doctor(doctor::Doctor),
    Plan(plan::Plan),
    Burst(burst::Burst),
    Timeline(timeline::Timeline),
    Top(top::Top),
    Compile(compile::Compile),
    Swap(swap::Swap),
    Rollback(rollback::Rollback),
    Send(send::Send),
    Completions(completions::Completions),
    #[command(hide = true)]
    Manual(manual::Manual),
    #[command(name = process::SUBCOMMAND, hide = true)]
    CompileForHost(compile_for_host::CompileForHost),
    #[command(name = leash::SUBCOMMAND, hide = true)]
    HoldOnLeash(hold_on_leash::HoldOnLeash),
}

/// What a command line leads to.
pub enum Next {
    /// A host is to live.
    Serve(Box<Setup>),
    /// The command has done its work.
    Exit(ExitCode),
}

/// Runs the command to its end, or as far as the life of a host begins.
///
/// # Errors
/// [`Ended`], when the command failed.
pub fn run(arguments: Arguments) -> Result<Next, Ended> {
    let status = match arguments.command {
        None => return serve::app(arguments.listen, arguments.operate).map(Next::Serve),
        Some(Command::Run(run)) => return run.setup().map(Next::Serve),
        Some(Command::Serve(serve)) => return serve.setup().map(Next::Serve),
        Some(Command::New(new)) => new.run(),
        Some(Command::Build(build)) => build.run(),
        Some(Command::Package(package)) => package.run(),
        Some(Command::Deploy(deploy)) => deploy.run(),
        Some(Command::Check(check)) => check.run(),
        Some(Command::Explain(explain)) => explain.run(),
        Some(Command::Doctor(doctor)) => doctor.run(),
        Some(Command::Plan(plan)) => plan.run(),
        Some(Command::Burst(burst)) => burst.run(),
        Some(Command::Timeline(timeline)) => timeline.run(),
        Some(Command::Top(top)) => top.run(),
        Some(Command::Compile(compile)) => compile.run(),
        Some(Command::Swap(swap)) => swap.run(),
        Some(Command::Rollback(rollback)) => rollback.run(),
        Some(Command::Send(send)) => send.run(),
        Some(Command::Completions(completions)) => completions.run(),
        Some(Command::Manual(manual)) => manual.run(),
        Some(Command::CompileForHost(compile)) => Ok(compile.run()),
        Some(Command::HoldOnLeash(hold)) => hold.run(),
    };
    status.map(Next::Exit)
}
