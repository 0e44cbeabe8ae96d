//! `local.settings.json`: app settings and other things that only a person's own machine has.
//!
//! It is read as the Azure Functions Core Tools read it, but where that loses something; `docs/local.md` has the differences.

use super::section::Problems;
use super::{AppSettings, member, read_json, text};
use http::HeaderValue;
use serde_json::{Map, Value};
use std::path::Path;

/// The name that every message uses.
pub const FILE: &str = "local.settings.json";

/// What the file says beside app settings.
#[derive(Debug, Default)]
pub struct LocalSettings {
    /// `Host.LocalHttpPort`.
    pub port: Option<u16>,
    /// `Host.CORS` and `Host.CORSCredentials`.
    pub cors: Option<Cors>,
    /// What a person may want to know.
    pub notes: Vec<String>,
}

/// Which pages of other origins may call the functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// The origins; none means all.
    pub origins: Option<Vec<HeaderValue>>,
    /// Whether their calls may carry cookies and the like.
    pub credentials: bool,
}

/// Reads the file in `root`, if there is one, and adds its app settings to those of the environment, which win unless they are
/// empty.
pub fn read(root: &Path, settings: &mut AppSettings, problems: &mut Problems) -> LocalSettings {
    let mut local = LocalSettings::default();
    if !root.join(FILE).exists() {
        return local;
    }
    let Some(document) = read_json(root, Path::new(FILE), problems) else { return local };
    if member(&document, "IsEncrypted").and_then(text).is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        problems.add(FILE, "IsEncrypted", None, "only func can read it encrypted: run `func settings decrypt`");
        return local;
    }
    for (name, value) in section(&document, "Values", problems).into_iter().flatten() {
        match (text(value), value) {
            (Some(text), _) => add(settings, name, text),
            (None, Value::Null) => local.notes.push(format!("{FILE}: Values.{name} is null, so it is not set")),
            _ => problems.add(FILE, &format!("Values.{name}"), None, "must be text: app settings are strings"),
        }
    }
    for (name, value) in section(&document, "ConnectionStrings", problems).into_iter().flatten() {
        match member(value, "ConnectionString").or(Some(value)).and_then(text) {
            Some(text) => add(settings, &format!("ConnectionStrings:{name}"), text),
            None => {
                let remedy = "must be text, or an object with a ConnectionString";
                problems.add(FILE, &format!("ConnectionStrings.{name}"), None, remedy);
            }
        }
    }
    if let Some(host) = section(&document, "Host", problems) {
        let host = Value::Object(host.clone());
        local.port = member(&host, "LocalHttpPort").filter(|port| !port.is_null()).and_then(|value| {
            let port = text(value).and_then(|text| text.parse().ok()).filter(|port| *port != 0);
            if port.is_none() {
                problems.add(FILE, "Host.LocalHttpPort", Some(value), "must be a port from 1 to 65535");
            }
            port
        });
        local.cors = cors(&host, problems);
    }
    local
}

fn section<'d>(document: &'d Value, name: &str, problems: &mut Problems) -> Option<&'d Map<String, Value>> {
    let value = member(document, name).filter(|value| !value.is_null())?;
    if !value.is_object() {
        problems.add(FILE, name, None, "must be an object");
    }
    value.as_object()
}

fn add(settings: &mut AppSettings, name: &str, text: String) {
    let value = settings.entry(name.to_owned()).or_default();
    if value.is_empty() {
        *value = text;
    }
}

/// Whether a page can come from there: a scheme, a host and perhaps a port, or `null` for one that is a file.
fn is_origin(text: &str) -> bool {
    let host = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, host)| host);
    text == "null" || host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', '*', ' ']))
}

fn cors(host: &Value, problems: &mut Problems) -> Option<Cors> {
    let credentials = match member(host, "CORSCredentials").filter(|value| !value.is_null()) {
        None => false,
        Some(value) => {
            let flag = text(value).and_then(|text| text.to_ascii_lowercase().parse().ok());
            if flag.is_none() {
                problems.add(FILE, "Host.CORSCredentials", Some(value), "must be true or false");
            }
            flag.unwrap_or_default()
        }
    };
    let origins = member(host, "CORS").filter(|value| !value.is_null())?;
    let list = text(origins).map(|text| text.split(',').map(|origin| origin.trim().to_owned()).collect::<Vec<_>>());
    let list = list.unwrap_or_default().into_iter().filter(|origin| !origin.is_empty()).collect::<Vec<_>>();
    if list.iter().any(|origin| origin == "*") {
        if credentials {
            let remedy = "browsers refuse credentials where every origin may call: name the origins in Host.CORS";
            problems.add(FILE, "Host.CORSCredentials", None, remedy);
        }
        return Some(Cors { origins: None, credentials });
    }
    let value = |origin: &String| {
        let origin = Some(origin.trim_end_matches('/')).filter(|origin| is_origin(origin));
        HeaderValue::try_from(origin?).ok()
    };
    match list.iter().map(value).collect::<Option<Vec<_>>>() {
        Some(values) if !values.is_empty() => Some(Cors { origins: Some(values), credentials }),
        _ => {
            let remedy = "must be \"*\" or origins without a path, such as \"http://localhost:3000,https://a.example\"";
            problems.add(FILE, "Host.CORS", Some(origins), remedy);
            None
        }
    }
}
