//! `flexwasm.guest` of a `function.json`: where a function's guest comes from, and what it takes to be published. What stands in front
//! of a guest comes from the same places.
//!
//! A source may hold a secret in its query (a shared access signature), so neither [`fmt::Display`] nor [`fmt::Debug`] of
//! anything here shows one.

use super::AppSettings;
use super::digest::{Digest, NoDigest};
use super::kind::{Kind as _, Setting, SizeWithin, UpToHours};
use super::section::{Section, Withheld};
use http::StatusCode;
use http::uri::PathAndQuery;
use serde_json::Value;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use url::{Host, Url};

/// Keys that only a `function.json` may have; `guest.middleware` may stand in `host.json` as well.
pub const GUEST_KEYS: [&str; 11] = [
    "guest.source",
    "guest.username",
    "guest.password",
    "guest.sha256",
    "guest.middleware",
    "guest.maxSize",
    "guest.compileTimeout",
    "guest.poll",
    "guest.smoke.path",
    "guest.smoke.event",
    "guest.smoke.status",
];

/// The most that `guest.maxSize` may be, in bytes.
pub const MAX_GUEST: u64 = 1 << 30;

const MAX_SIZE: SizeWithin = SizeWithin(1 << 10, MAX_GUEST);
const COMPILE_TIMEOUT: UpToHours = UpToHours(1);
const POLL: UpToHours = UpToHours(24);

/// Where a guest comes from, and what it takes to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestSettings {
    /// The source; none is the `scriptFile` itself.
    pub source: Option<Remote>,
    /// Only a guest with this digest is ever published, whatever its source.
    pub sha256: Option<Digest>,
    /// The most bytes of a guest's file.
    pub max_size: u64,
    /// How long its compilation may take.
    pub compile_timeout: Duration,
    /// How often a source that can change is asked.
    pub poll: Duration,
    /// What a new guest has to answer before it is published.
    pub smoke: Option<Smoke>,
}

impl Default for GuestSettings {
    fn default() -> Self {
        Self {
            source: None,
            sha256: None,
            max_size: 64 << 20,
            compile_timeout: Duration::from_secs(5 * 60),
            poll: Duration::from_secs(30),
            smoke: None,
        }
    }
}

/// What a new guest has to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smoke {
    /// What it is asked.
    pub ask: Ask,
    /// The status that is expected, where one is named. Else it is 200, and for an event any of success.
    pub status: Option<StatusCode>,
}

/// What a new guest is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// A `GET` of this path.
    Path(PathAndQuery),
    /// An event of the function's trigger, whose payload is in this file; relative to the function's folder as it is written.
    Event(PathBuf),
}

/// A source that is not a file of the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Where it is.
    pub location: Location,
    /// For basic authentication there.
    pub credentials: Option<Credentials>,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.location.fmt(f)
    }
}

/// A location outside the app.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// One file: `https`, or `http` on loopback.
    Http(Url),
    /// An artifact in an OCI registry.
    Oci(Artifact),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => {
                let mut url = url.clone();
                url.set_query(None);
                url.fmt(f)
            }
            Self::Oci(artifact) => artifact.fmt(f),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What `oci://registry/repository:tag` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The registry's root: `https`, but `http` on loopback.
    pub registry: Url,
    /// The repository in it.
    pub repository: String,
    /// A tag, or `sha256:` and 64 digits; a tag holds no colon.
    pub reference: String,
}

impl Artifact {
    /// Whether a digest is named, so that the artifact is the same for ever.
    pub fn is_pinned(&self) -> bool {
        self.reference.contains(':')
    }
}

impl fmt::Display for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, repository, reference } = self;
        let authority = registry.authority();
        write!(f, "oci://{authority}/{repository}{}{reference}", if self.is_pinned() { '@' } else { ':' })
    }
}

/// User and password for basic authentication.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user; holds no colon.
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(not shown)")
    }
}

impl GuestSettings {
    /// The keys as the page of settings has to present them.
    pub fn table() -> Vec<Setting> {
        let Self { max_size, compile_timeout, poll, .. } = Self::default();
        let row = |key, range, default: &str| Setting { key, scope: "function", range, default: default.to_owned() };
        vec![
            row("guest.source", vec![], "the `scriptFile` itself"),
            row("guest.username", vec![], "none"),
            row("guest.password", vec![], "none"),
            row("guest.sha256", vec![], "none"),
            Setting { scope: "both", ..row("guest.middleware", vec![], "`[]`") },
            row("guest.maxSize", MAX_SIZE.range(), &MAX_SIZE.spell(&max_size)),
            row("guest.compileTimeout", COMPILE_TIMEOUT.range(), &COMPILE_TIMEOUT.spell(&compile_timeout)),
            row("guest.poll", POLL.range(), &POLL.spell(&poll)),
            row("guest.smoke.path", vec![], "none"),
            row("guest.smoke.event", vec![], "none"),
            row("guest.smoke.status", vec!["200 to 599".to_owned()], "200; any of success for an event"),
        ]
    }

    /// Takes the keys of `guest`. A value `%NAME%` is that app setting's, Azure's notation in a `function.json`; what the
    /// setting holds is in no message.
    pub fn read(section: &mut Section<'_>, settings: &AppSettings) -> Self {
        let source = take(section, settings, "guest.");
        let [has_path, has_event] = ["guest.smoke.path", "guest.smoke.event"].map(|key| section.has(key));
        let path = section.take("guest.smoke.path", |value| smoke_path(value.as_str().unwrap_or_default()));
        let status = section.take("guest.smoke.status", |value| {
            let status = value.as_u64().and_then(|status| u16::try_from(status).ok());
            let status = status.filter(|status| (200..=599).contains(status));
            let status = status.and_then(|status| StatusCode::from_u16(status).ok());
            status.ok_or_else(|| "must be a status from 200 to 599".to_owned())
        });
        if status.is_some() && !has_path && !has_event {
            let remedy =
                "is for a guest.smoke.path or guest.smoke.event, but there is none: add one, or remove this key";
            section.refuse("guest.smoke.status", remedy);
        }
        let event = section.take("guest.smoke.event", |value| event_file(value.as_str().unwrap_or_default()));
        if has_path && has_event {
            section.refuse("guest.smoke.event", "a guest is asked one thing: remove this key, or guest.smoke.path");
        }
        let ask = path.map(Ask::Path).or(event.map(Ask::Event));

        let default = Self::default();
        let max_size = section.take("guest.maxSize", |value| MAX_SIZE.read(value));
        Self {
            source,
            sha256: take_digest(section, "guest.sha256"),
            max_size: max_size.unwrap_or(default.max_size),
            compile_timeout: section
                .take("guest.compileTimeout", |value| COMPILE_TIMEOUT.read(value))
                .unwrap_or(default.compile_timeout),
            poll: section.take("guest.poll", |value| POLL.read(value)).unwrap_or(default.poll),
            smoke: ask.map(|ask| Smoke { ask, status }),
        }
    }
}

/// Takes from a section where a component comes from: `source`, `username` and `password` behind `prefix`.
pub(super) fn take(section: &mut Section<'_>, settings: &AppSettings, prefix: &str) -> Option<Remote> {
    let [source, username, password] = ["source", "username", "password"].map(|key| format!("{prefix}{key}"));
    let [has_source, has_username, has_password] = [&source, &username, &password].map(|key| section.has(key));
    let location = section.take_discreet(&source, |value| Text::of(value, settings)?.location());
    let name = section.take_discreet(&username, |value| Text::of(value, settings)?.username());
    let word = section.take_discreet(&password, |value| Text::of(value, settings)?.password());
    for (key, has, other, has_other) in
        [(&username, has_username, &password, has_password), (&password, has_password, &username, has_username)]
    {
        if has && !has_source {
            section.refuse(key, format!("is for a {source}, but there is none: add one, or remove this key"));
        } else if has && !has_other {
            section.refuse(key, format!("is of no use alone: add {other}, or remove this key"));
        }
    }
    let credentials = name.zip(word).map(|(username, password)| Credentials { username, password });
    location.map(|location| Remote { location, credentials })
}

/// Takes a digest from a section.
pub(super) fn take_digest(section: &mut Section<'_>, key: &str) -> Option<Digest> {
    section.take(key, |value| value.as_str().unwrap_or_default().parse().map_err(|wrong: NoDigest| wrong.to_string()))
}

/// What a value says, and the app setting that it names for it.
struct Text<'a> {
    text: &'a str,
    setting: Option<&'a str>,
}

impl<'a> Text<'a> {
    fn of(value: &'a Value, settings: &'a AppSettings) -> Result<Self, Withheld> {
        let text = value.as_str().ok_or_else(|| Withheld::new(None, "must be text"))?;
        let name = text.strip_prefix('%').and_then(|text| text.strip_suffix('%'));
        let Some(name) = name.filter(|name| !name.is_empty() && !name.contains('%')) else {
            return Ok(Self { text, setting: None });
        };
        let missing = || {
            let remedy = format!("there is no app setting {name}: set it, or write another name");
            Withheld::new(Some(text.to_owned()), remedy)
        };
        Ok(Self { text: settings.get(name).ok_or_else(missing)?, setting: Some(name) })
    }

    /// What is wrong, without a word of a text that may be a secret.
    fn refuse(&self, why: &str) -> Withheld {
        match self.setting {
            Some(name) => Withheld::new(Some(format!("%{name}%")), format!("the app setting {name} {why}")),
            None => Withheld::new(shown(self.text), why),
        }
    }

    fn username(&self) -> Result<String, Withheld> {
        let fits = !self.text.is_empty() && !self.text.contains(|c: char| c == ':' || c.is_control());
        let why = "must be a user's name: not empty, and without a colon or a line break";
        fits.then(|| self.text.to_owned()).ok_or_else(|| Withheld { shown: None, ..self.refuse(why) })
    }

    fn password(&self) -> Result<String, Withheld> {
        if self.setting.is_none() {
            let remedy = "must not stand here: write \"password\": \"%GUEST_PASSWORD%\", and put it into the app setting GUEST_PASSWORD";
            return Err(Withheld::new(None, remedy));
        }
        let fits = !self.text.is_empty() && !self.text.contains(char::is_control);
        let why = "must be a password: not empty, and without a line break";
        fits.then(|| self.text.to_owned()).ok_or_else(|| self.refuse(why))
    }

    fn location(&self) -> Result<Location, Withheld> {
        const FORM: &str =
            "must be like \"https://example.com/guest.wasm\" or \"oci://registry.example.com/team/guest:latest\"";
        let (scheme, rest) = self.text.split_once("://").ok_or_else(|| self.refuse(FORM))?;
        let parse = |scheme| Url::parse(&format!("{scheme}://{rest}"));
        let scheme = scheme.to_ascii_lowercase();
        let oci = scheme == "oci";
        if !oci && scheme != "http" && scheme != "https" {
            return Err(self.refuse(FORM));
        }
        let mut url = parse(if oci { "https" } else { &scheme }).map_err(|_| self.refuse(FORM))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(self.refuse(
                "must not hold a user or password: write them beside it as username and, as \"%GUEST_PASSWORD%\", password",
            ));
        }
        if url.fragment().is_some() {
            return Err(self.refuse("must not hold a fragment: leave out # and what follows"));
        }
        if oci {
            if url.query().is_some() {
                return Err(self.refuse("must not hold a query: leave out ? and what follows"));
            }
            if is_loopback(&url) {
                url = parse("http").map_err(|_| self.refuse(FORM))?;
            }
            return artifact(url).map(Location::Oci).map_err(|why| self.refuse(&why));
        }
        if scheme == "http" && !is_loopback(&url) {
            return Err(self.refuse("must be encrypted unless it is on this machine: write https"));
        }
        if self.setting.is_none() && url.query().is_some() {
            return Err(self.refuse(
                "must not hold a query here, because it may be a secret: write \"source\": \"%GUEST_SOURCE%\", and put the URL into the app setting GUEST_SOURCE",
            ));
        }
        Ok(Location::Http(url))
    }
}

/// Splits the path of `root` into repository and reference, as the OCI distribution specification spells them.
fn artifact(mut root: Url) -> Result<Artifact, String> {
    let path = root.path().trim_start_matches('/').to_owned();
    root.set_path("/");
    let (name, reference) = match (path.split_once('@'), path.split_once(':')) {
        (Some((name, _)), _) if name.contains(':') => {
            return Err("names both a tag and a digest: leave out the tag".to_owned());
        }
        (Some((name, digest)), _) => {
            let digest: Option<Digest> = digest.strip_prefix("sha256:").and_then(|digits| digits.parse().ok());
            let digest = digest.ok_or("must have a digest like sha256: and 64 hexadecimal digits")?;
            (name, format!("sha256:{digest}"))
        }
        (None, Some((name, tag))) => {
            let first = tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            let rest = tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
            if !first || !rest || tag.len() > 128 {
                return Err("must have a tag of letters, digits, _ . and -, at most 128, no . or - first".to_owned());
            }
            (name, tag.to_owned())
        }
        (None, None) => {
            return Err("names neither a tag nor a digest: write :latest behind it if that is meant".to_owned());
        }
    };
    let component = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.bytes().all(|byte| inner(byte) || b"_.-".contains(&byte))
            && [part.bytes().next(), part.bytes().last()].into_iter().all(|end| end.is_some_and(inner))
    };
    if !name.split('/').all(component) {
        return Err("must have a repository of lower-case letters, digits, _ . - and /, such as team/guest".to_owned());
    }
    Ok(Artifact { registry: root, repository: name.to_owned(), reference })
}

/// Whether what is sent there does not leave the machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// As much of a source as cannot be a secret: all of it, without a query, if it is a plain reference.
fn shown(text: &str) -> Option<String> {
    let plain = text.split(['?', '#']).next().unwrap_or_default();
    let (before, digest) = plain.rsplit_once("@sha256:").unwrap_or((plain, ""));
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b":/.-_[]~".contains(&byte);
    let shown =
        before.contains("://") && before.bytes().all(harmless) && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    shown.then(|| plain.to_owned())
}

fn smoke_path(text: &str) -> Result<PathAndQuery, String> {
    let path = Some(text).filter(|text| text.starts_with('/') && !text.contains('#'));
    let path = path.and_then(|text| text.parse().ok());
    path.ok_or_else(|| "must be a path that begins with /, such as \"/api/health?deep=1\"".to_owned())
}

fn event_file(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let is_below = !text.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_)));
    is_below.then(|| path.to_owned()).ok_or_else(|| {
        "must be a file of the function's folder, such as \"smoke.json\", which holds the payload of an event"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::super::section::Problems;
    use super::*;
    use serde_json::json;

    const SECRET: &str = "HUSH";

    fn read(guest: &Value) -> (GuestSettings, Vec<String>) {
        let settings = [
            ("SAS", "https://a.example/guest.wasm?sv=1&sig=HUSH%2B"),
            ("USERINFO", "https://HUSH:HUSH@a.example/guest.wasm"),
            ("PLAIN", "http://a.example/HUSH.wasm"),
            ("QUERY", "oci://a.example/b:c?HUSH"),
            ("NONSENSE", "HUSH"),
            ("USER", "HUSH:HUSH"),
            ("PASSWORD", "HUSH"),
            ("LINES", "HUSH\n"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut problems = Problems::default();
        let document = json!({ "flexwasm": { "guest": guest } });
        let mut section = Section::of_file("f/function.json", &document, &mut problems);
        let read = GuestSettings::read(&mut section, &settings);
        section.finish(&GUEST_KEYS, (&[], ""));
        let problems: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
        for text in problems.iter().chain([&format!("{read:?}")]) {
            assert!(!text.contains(SECRET), "{text}");
        }
        (read, problems)
    }

    fn location(source: &str) -> Location {
        let (read, problems) = read(&json!({ "source": source }));
        read.source.unwrap_or_else(|| panic!("{source}: {problems:?}")).location
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(read(&json!({})), (GuestSettings::default(), vec![]));
    }

    #[test]
    fn everything_said_is_kept() {
        let (read, problems) = read(&json!({
            "source": "%SAS%", "username": "u", "password": "%PASSWORD%", "sha256": "aB".repeat(32), "maxSize": "1KiB",
            "compileTimeout": "1h", "poll": "24h", "smoke": { "path": "/a?b=c", "status": 404 },
        }));
        assert_eq!(problems, [""; 0]);
        let url = Url::parse("https://a.example/guest.wasm?sv=1&sig=HUSH%2B").expect("a URL");
        let credentials = Credentials { username: "u".to_owned(), password: SECRET.to_owned() };
        let expected = GuestSettings {
            source: Some(Remote { location: Location::Http(url), credentials: Some(credentials) }),
            sha256: Some([0xab; 32].into()),
            max_size: 1 << 10,
            compile_timeout: Duration::from_secs(60 * 60),
            poll: Duration::from_secs(24 * 60 * 60),
            smoke: Some(Smoke {
                ask: Ask::Path(PathAndQuery::from_static("/a?b=c")),
                status: Some(StatusCode::NOT_FOUND),
            }),
        };
        assert_eq!(read, expected);
        assert_eq!(read.source.expect("just now").to_string(), "https://a.example/guest.wasm");
    }

    #[test]
    fn sources_as_they_are_shown() {
        let digest = "0f".repeat(32);
        for (source, shown) in [
            ("HTTPS://A.Example:443/b%20c.wasm", "https://a.example/b%20c.wasm"),
            ("http://127.0.0.2:8080/x", "http://127.0.0.2:8080/x"),
            // As the client connects to it.
            ("http://127.1/x", "http://127.0.0.1/x"),
            ("http://[::1]:8080/x", "http://[::1]:8080/x"),
            ("http://LOCALHOST/x", "http://localhost/x"),
            ("oci://A.example/team/guest:v1.0", "oci://a.example/team/guest:v1.0"),
            ("oci://a.example:5000/guest:latest", "oci://a.example:5000/guest:latest"),
            (&format!("oci://a.example/g@sha256:{digest}"), &format!("oci://a.example/g@sha256:{digest}")),
            (&format!("oci://a.example/g@sha256:{}", "0F".repeat(32)), &format!("oci://a.example/g@sha256:{digest}")),
        ] {
            assert_eq!(location(source).to_string(), shown);
            assert_eq!(location(shown), location(source), "{shown}");
        }
    }

    #[test]
    fn only_registries_of_this_machine_are_not_encrypted() {
        for (source, registry) in [
            ("oci://a.example/b:c", "https://a.example/"),
            ("oci://10.0.0.1:80/b:c", "https://10.0.0.1:80/"),
            ("oci://localhost:443/b:c", "http://localhost:443/"),
            ("oci://127.0.0.1/b:c", "http://127.0.0.1/"),
        ] {
            let Location::Oci(artifact) = location(source) else { panic!("{source} is an artifact") };
            assert_eq!(artifact.registry.as_str(), registry);
            assert!(!artifact.is_pinned());
        }
    }

    #[test]
    fn what_cannot_be_a_source_is_told_what_to_write() {
        for (source, words) in [
            ("", "source: must be like \"https://example.com/guest.wasm\" or \"oci://"),
            ("HUSH", "source: must be like"),
            ("guest.wasm", "source: must be like"),
            ("file:///etc/passwd", "source = \"file:///etc/passwd\": must be like"),
            ("https://", "source = \"https://\": must be like"),
            ("https://a example/", "source: must be like"),
            ("http://a.example/x", "source = \"http://a.example/x\": must be encrypted unless it is on this machine"),
            ("http://127.0.0.1.example/x", "must be encrypted"),
            ("http://[::ffff:127.0.0.1]/x", "must be encrypted"),
            ("https://HUSH@a.example/x", "source: must not hold a user or password: write them beside it as username"),
            ("https://u:HUSH@a.example/x?HUSH", "source: must not hold a user or password"),
            ("https://a.example/x#HUSH", "source = \"https://a.example/x\": must not hold a fragment"),
            (
                "https://a.example/x?sv=1&sig=HUSH",
                "source = \"https://a.example/x\": must not hold a query here, because it may be a secret: write \"source\": \"%GUEST_SOURCE%\"",
            ),
            ("BlobEndpoint=https://a.example/;SharedAccessSignature=HUSH", "source: must be like"),
            ("oci://a.example/b", "source = \"oci://a.example/b\": names neither a tag nor a digest: write :latest"),
            ("oci://a.example/b:c?HUSH", "source = \"oci://a.example/b:c\": must not hold a query"),
            ("oci://a.example/b@sha256:0", "must have a digest like sha256: and 64 hexadecimal digits"),
            ("oci://a.example/b@sha512:0", "must have a digest like sha256:"),
            ("oci://a.example/b:c@sha256:0", "names both a tag and a digest: leave out the tag"),
            ("oci://a.example/b:", "must have a tag of letters"),
            ("oci://a.example/b:.c", "must have a tag of letters"),
            ("oci://a.example/B:c", "must have a repository of lower-case letters"),
            ("oci://a.example/a//b:c", "must have a repository"),
            ("oci://a.example/:c", "must have a repository"),
            ("%MISSING%", "source = \"%MISSING%\": there is no app setting MISSING: set it, or write another name"),
            ("%USERINFO%", "source = \"%USERINFO%\": the app setting USERINFO must not hold a user or password"),
            ("%PLAIN%", "source = \"%PLAIN%\": the app setting PLAIN must be encrypted"),
            ("%QUERY%", "source = \"%QUERY%\": the app setting QUERY must not hold a query"),
            ("%NONSENSE%", "source = \"%NONSENSE%\": the app setting NONSENSE must be like"),
            ("%%", "source: must be like"),
        ] {
            let (read, problems) = read(&json!({ "source": source }));
            assert!(read.source.is_none(), "{source} was accepted");
            let [problem] = &problems[..] else { panic!("{source}: {problems:?}") };
            assert!(problem.starts_with("f/function.json: flexwasm.guest.source"), "{problem}");
            assert!(problem.contains(words), "{source}: {problem}");
        }
    }

    #[test]
    fn what_else_cannot_work() {
        const USER: &str = "username: must be a user's name: not empty, and without a colon";
        for (guest, expected) in [
            (json!({ "source": 5 }), &["source: must be text"][..]),
            (json!({ "source": ["HUSH"] }), &["source: must be text"]),
            (
                json!({ "source": "https://a.example", "username": "u", "password": "HUSH" }),
                &["password: must not stand here: write \"password\": \"%GUEST_PASSWORD%\""],
            ),
            (
                json!({ "source": "https://a.example", "username": "u", "password": "%LINES%" }),
                &["password = \"%LINES%\": the app setting LINES must be a password: not empty, and without"],
            ),
            (json!({ "source": "https://a.example", "username": "HUSH:", "password": "%PASSWORD%" }), &[USER]),
            (
                json!({ "source": "https://a.example", "username": "%USER%", "password": "%PASSWORD%" }),
                &["username: the app setting USER must be a user's name"],
            ),
            (
                json!({ "source": "https://a.example", "username": "u" }),
                &["username: is of no use alone: add guest.password, or remove this key"],
            ),
            (
                json!({ "source": "https://a.example", "password": "%PASSWORD%" }),
                &["password: is of no use alone: add guest.username, or remove this key"],
            ),
            (
                json!({ "username": "u", "password": "%PASSWORD%" }),
                &["username: is for a guest.source, but there is none", "password: is for a guest.source"],
            ),
            (json!({ "sha256": "0f" }), &["sha256 = \"0f\": must be 64 hexadecimal digits"]),
            (json!({ "sha256": "+f".repeat(32) }), &["must be 64 hexadecimal digits"]),
            (json!({ "maxSize": "1023B" }), &["maxSize = \"1023B\": must be a size from 1KiB to 1GiB"]),
            (json!({ "maxSize": "2GiB" }), &["must be a size from 1KiB to 1GiB"]),
            (json!({ "compileTimeout": "61m" }), &["compileTimeout = \"61m\": must be a duration from 1s to 1h"]),
            (json!({ "compileTimeout": "999ms" }), &["must be a duration from 1s to 1h"]),
            (json!({ "poll": "999ms" }), &["poll = \"999ms\": must be a duration from 1s to 24h"]),
            (json!({ "poll": "25h" }), &["must be a duration from 1s to 24h"]),
            (json!({ "poll": 30 }), &["poll = 30: write a whole number above 0 with a unit"]),
            (json!({ "smoke": { "path": "api" } }), &["smoke.path = \"api\": must be a path that begins with /"]),
            (
                json!({ "smoke": { "event": "../x" } }),
                &["smoke.event = \"../x\": must be a file of the function's folder"],
            ),
            (json!({ "smoke": { "event": "x", "path": "/" } }), &["smoke.event: a guest is asked one thing"]),
            (json!({ "smoke": { "path": "/a b" } }), &["must be a path that begins with /"]),
            (json!({ "smoke": { "path": "/a#b" } }), &["must be a path that begins with /"]),
            (json!({ "smoke": { "path": "/", "status": 199 } }), &["status = 199: must be a status from 200 to 599"]),
            (json!({ "smoke": { "path": "/", "status": 65_736 } }), &["must be a status from 200 to 599"]),
            (
                json!({ "smoke": { "status": 200 } }),
                &["smoke.status: is for a guest.smoke.path or guest.smoke.event, but there is none: add one"],
            ),
            (json!({ "smoke": "/api" }), &["guest.smoke: must be an object with settings such as \"path\""]),
        ] {
            let (_, problems) = read(&guest);
            assert_eq!(problems.len(), expected.len(), "{guest}: {problems:?}");
            for (problem, words) in problems.iter().zip(expected) {
                assert!(problem.contains(words), "{guest}: {problem}");
            }
        }
    }
}
