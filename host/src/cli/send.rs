//! `flexwasm send`.

use super::output::{Ended, print};
use super::running::{Running, sockets, waiting};
use super::serve::pair;
use crate::config::bindings::{self, is_output, text};
use crate::config::section::Problems;
use crate::config::{self, host_json};
use crate::control::client;
use crate::describe;
use crate::protocol::envelope::encode::DISPOSITION;
use crate::send::envelope::{Envelope, Function};
use crate::send::event::{Event, was_recorded};
use crate::send::fate::Attempts;
use crate::send::post::{Answered, post};
use crate::send::verdict::{self, Answer, Delivered, Verdict};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::CONTENT_TYPE;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How far the text of one message, blob or body is shown, in letters.
const SHOWN: usize = 4000;

const AFTER_HELP: &str = "\
The function gets the very envelope that the Azure Functions host would send for its trigger, and nothing is stored anywhere: what \
the answer would put into queues and blobs is shown with its final bytes. `flexwasm` has to run in the app's folder; no emulator is \
needed. docs/events.md says what arrives and what each answer does.

The exit status is 1 if the invocation failed.

Examples:
  flexwasm send orders --text hello
  flexwasm send thumbnails --data @photo.png --metadata name=photo
  flexwasm send orders --data @order.json --attempt 5";

/// Send a function the event that Azure would send, and show what Azure would do with its answer
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Send {
    /// The function, which is the name of its folder
    function: String,
    /// The message, blob, event or body, from a file; @- reads standard input
    #[arg(long, value_name = "@FILE", value_parser = file, conflicts_with = "text")]
    data: Option<String>,
    /// The same as a text; empty without either
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// What is said about it, such as Id=7, or a token of a blob's path; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Which of its runs it is: after failures Azure sends it again
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    attempt: u32,
    #[command(flatten)]
    running: Running,
}

impl Send {
    pub fn run(self) -> Result<ExitCode, Ended> {
        let Self { function: name, data, text, metadata, attempt: run, running } = self;
        let payload = match data {
            Some(file) => read(&file)?,
            None => text.unwrap_or_default().into_bytes(),
        };
        let root = running.root();
        let (name, host_json, function_json) = documents(&root, &name)?;
        let function = Function::new(&name, bindings::of(&function_json))?;
        let attempts = Attempts::read(&function, &host_json, &function_json);
        let event = Event { payload: &payload, metadata: &metadata, run };
        let envelope = event.envelope(&function, attempts)?;
        if !was_recorded(&function.kind()) {
            let kind = function.says("type").unwrap_or_default();
            print(format_args!("note: what {kind} sends was never recorded: the metadata of the real one differ\n"))?;
        }
        let sockets = sockets(&root)?;
        let (took, answered) = waiting()?.block_on(deliver(&sockets, &envelope))?;
        let shown = Shown { function, attempts, run }.describe(took, &answered);
        print(format_args!("{}", shown.text))?;
        Ok(if shown.failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }
}

/// The function that is meant by `name`, whatever its case, and what `host.json` and its `function.json` say.
fn documents(root: &Path, name: &str) -> Result<(String, Value, Value), Ended> {
    let mut problems = Problems::default();
    // Where there is no app, nothing else is missing.
    let Some(host) = config::read_json(root, Path::new(host_json::FILE), &mut problems) else {
        return Err(problems.0.into());
    };
    let names = config::function_names(root, &mut Problems::default());
    let in_any_case = || names.iter().find(|other| other.eq_ignore_ascii_case(name));
    let Some(name) = names.iter().find(|other| *other == name).or_else(in_any_case) else {
        return Err(describe::unknown(name, &names.iter().map(String::as_str).collect::<Vec<_>>()).into());
    };
    let function = config::read_json(root, &Path::new(name).join("function.json"), &mut problems);
    function.map(|function| (name.clone(), host, function)).ok_or_else(|| problems.0.into())
}

/// Sends it to the host that serves the app, and tells how long the answer took.
async fn deliver(sockets: &[std::path::PathBuf], envelope: &Envelope) -> Result<(Duration, Answered), String> {
    let seen = client::see(sockets, "/functions").await?;
    let functions = seen["functions"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(function) = functions.iter().find(|function| function["name"] == *envelope.function) else {
        return Err(format!("the host was started before there was a function {}: start it again", envelope.function));
    };
    if let (Some("refused" | "builtin" | "disabled"), Some(why)) =
        (function["state"].as_str(), function["problem"].as_str())
    {
        return Err(why.to_owned());
    }
    let address = seen["address"].as_str().ok_or("the running host is another version of flexwasm: start it again")?;
    let begun = Instant::now();
    let answered = post(address, envelope).await?;
    Ok((begun.elapsed(), answered))
}

/// What is known about the event whose answer is shown.
struct Shown<'a> {
    function: Function<'a>,
    attempts: Attempts,
    run: u32,
}

/// What a person reads.
struct Described {
    text: String,
    failed: bool,
}

impl Shown<'_> {
    fn describe(&self, took: Duration, answered: &Answered) -> Described {
        let took = took.as_secs_f64() * 1e3;
        let kind = answered.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let why = match verdict::read(answered.status.as_u16(), kind, &answered.body) {
            Verdict::Done(answer) => match self.outputs(&answer) {
                Ok(outputs) => {
                    let ended = match answered.headers.get(DISPOSITION) {
                        Some(_) => format!("rejected after {took:.1} ms: Azure is told that it is done, and never sends it again"),
                        None => format!("done after {took:.1} ms"),
                    };
                    return Described { text: format!("{ended}\n{outputs}"), failed: false };
                }
                Err(why) => why,
            },
            Verdict::Failed(why) => reason(&answered.body).map_or_else(|| why.clone(), |reason| format!("{why}: {reason}")),
            Verdict::Hangs => {
                "an empty answer or null leaves the invocation hanging until functionTimeout, which then ends the process".to_owned()
            }
        };
        let then = self.attempts.after_failure(&self.function, self.run);
        Described { text: format!("failed after {took:.1} ms: {why}\nAzure would {then}\n"), failed: true }
    }

    /// The outputs and the log, a line or more each.
    fn outputs(&self, answer: &Answer) -> Result<String, String> {
        let mut shown = String::new();
        for binding in self.function.bindings.iter().filter(|binding| is_output(binding)) {
            let name = text(binding, "name").unwrap_or_default();
            let delivered = answer.deliver(binding);
            let Some(delivered) = delivered.map_err(|why| format!("output {name} is {why}"))? else { continue };
            describe(binding, delivered, &mut shown);
        }
        for name in answer.outputs.keys().filter(|name| self.function.binding(name).is_none()) {
            let _ = writeln!(shown, "output {name}: dropped, for no binding has this name");
        }
        if !answer.logs.is_empty() {
            shown += "log\n";
            for line in &answer.logs {
                let _ = writeln!(shown, "  {}", harmless(line));
            }
        }
        Ok(shown)
    }
}

/// What a binding makes of its value.
fn describe(binding: &Value, delivered: Delivered, shown: &mut String) {
    let name = text(binding, "name").unwrap_or_default();
    let kind = text(binding, "type").unwrap_or_default();
    let place = ["queueName", "path", "topicName", "eventHubName"].iter().find_map(|key| text(binding, key));
    let place = place.map_or_else(|| kind.to_owned(), |place| format!("{kind} {place}"));
    // A string takes every line.
    let _ = match delivered {
        Delivered::Messages(messages) if messages.is_empty() => {
            writeln!(shown, "output {name}: no message for {place}")
        }
        Delivered::Messages(messages) => messages
            .iter()
            .try_for_each(|message| writeln!(shown, "output {name}: message for {place}, {}", content(message))),
        Delivered::Blob(None) => writeln!(shown, "output {name}: no {place}"),
        Delivered::Blob(Some(bytes)) => writeln!(shown, "output {name}: {place}, {}", content(&bytes)),
        Delivered::Called(called) => {
            let broken = if called.complete { "" } else { ", broken off: its content-length is wrong" };
            let head = writeln!(shown, "output {name}: answer {} to the caller{broken}", called.status);
            let headers = called.headers.iter().map(|(name, value)| writeln!(shown, "  {name}: {}", harmless(value)));
            let headers = headers.collect::<std::fmt::Result>();
            head.and(headers).and_then(|()| writeln!(shown, "  {}", content(&called.body)))
        }
        Delivered::Value(value) => writeln!(shown, "output {name}: {place}, {}", harmless(&value.to_string())),
    };
}

/// Bytes as a person reads them: as text if they are one, else as base64.
fn content(bytes: &[u8]) -> String {
    let count = bytes.len();
    match std::str::from_utf8(bytes) {
        Ok("") => "empty".to_owned(),
        Ok(text) => format!("{count} bytes: {}", harmless(text)),
        Err(_) => format!("{count} bytes, as base64: {}", harmless(&STANDARD.encode(bytes))),
    }
}

/// A guest's text, which may not steer the terminal.
fn harmless(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .flat_map(|letter| match letter {
            '\n' | '\t' => letter.to_string().chars().collect::<Vec<_>>(),
            _ if letter.is_control() => letter.escape_default().collect(),
            _ => vec![letter],
        })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown += " …";
    }
    shown
}

/// What the host says about an invocation that failed.
fn reason(body: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(body).ok()?;
    Some(harmless(document["error"]["message"].as_str()?))
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = match file {
        "-" => std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes),
        file => fs::read(file),
    };
    read.map_err(|error| format!("{file} cannot be read ({error})"))
}

fn file(text: &str) -> Result<String, String> {
    text.strip_prefix('@').filter(|file| !file.is_empty()).map(str::to_owned).ok_or_else(|| {
        "write @FILE, such as @order.json, or @- for standard input; --text takes the text itself".to_owned()
    })
}
