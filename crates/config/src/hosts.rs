//! `grants.hosts`: where a guest may send requests to.

use super::AppSettings;
use super::credentials::{self, Added, Credentials};
use super::narrow::Narrow;
use http::Method;
use serde_json::Value;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A server that a request names, or a grant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name {
    /// A host name in lower case, without the dot that may end it.
    Host(String),
    /// A literal address.
    Address(IpAddr),
}

impl Name {
    /// Reads a host as a URL spells it, so an IPv6 address in brackets. None if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(address.into()));
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Address(IpAddr::V4(address)));
        }
        if !text.is_ascii() {
            // As browsers and certificates spell it, whatever its script.
            return idna::domain_to_ascii(text).ok().filter(|name| name.is_ascii()).and_then(|name| Self::parse(&name));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // Resolvers take 127.1, 0x7f.1 and 2130706433 for addresses; no top-level domain begins with a digit.
        let numeric = name.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()));
        (name.len() <= 253 && !numeric && name.split('.').all(label)).then_some(Self::Host(name))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
        }
    }
}

/// Where one request goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Encrypted.
    pub tls: bool,
    /// The server.
    pub name: Name,
    /// Its port.
    pub port: u16,
}

impl Target {
    /// Name and port, without a port that the scheme implies.
    pub fn authority(&self) -> String {
        let Self { tls, name, port } = self;
        if *port == default_port(*tls) { name.to_string() } else { format!("{name}:{port}") }
    }

    /// Reads `scheme://host[:port]`. None if it is anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let (host, port) = match rest.rsplit_once(':') {
            // In an IPv6 address without a port the last colon is inside the brackets.
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??)
            }
            _ => (rest, default_port(tls)),
        };
        (port != 0).then_some(Self { tls, name: Name::parse(host)?, port })
    }
}

/// The default port of the scheme.
pub fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The server, or the domain.
    target: Target,
    /// Whether it means all that is below the domain, in place of the domain itself.
    subdomains: bool,
    /// Which requests to it.
    narrow: Narrow,
    /// What the host adds to them.
    credentials: Credentials,
}

/// A grant, with the values of what the host adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// What is granted.
    pub grant: Grant,
    /// What is added.
    pub added: Added,
}

impl Server {
    /// A grant that adds nothing.
    pub fn plain(grant: Grant) -> Self {
        Self { grant, added: Added::default() }
    }

    /// Puts the values of app settings into what a grant adds.
    ///
    /// # Errors
    /// What is wrong, without a word of a value.
    pub fn new(grant: Grant, settings: &AppSettings) -> Result<Self, String> {
        Ok(Self { added: grant.credentials.fill(settings)?, grant })
    }
}

impl Grant {
    /// Reads an entry: a text, or an object with `url` and what narrows it or is added.
    ///
    /// # Errors
    /// See [`Refused`].
    fn read(place: usize, entry: &Value) -> Result<Self, Refused> {
        let Value::Object(entry) = entry else {
            let text = entry.as_str().unwrap_or_default();
            return Self::parse(text).map_err(|why| Refused::malformed(place, text, why));
        };
        let url = entry.get("url").and_then(Value::as_str).unwrap_or_default();
        let grant = Self::parse(url).map_err(|why| Refused::malformed(place, url, why))?;
        let refused = |why: String| Refused::new(place, &grant, why);
        let known = [&["url", "methods", "paths"], &credentials::KEYS[..]].concat();
        if let Some(key) = entry.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(refused(format!("has an unknown key {key:?}: remove it, or use one of {}", known.join(", "))));
        }
        let narrow = Narrow::read(entry.get("methods"), entry.get("paths")).map_err(|why| refused(why.to_owned()))?;
        let credentials = Credentials::read(entry).map_err(refused)?;
        if !credentials.is_empty() && !grant.target.tls && !matches!(grant.target.name, Name::Address(_)) {
            return Err(refused("would get what the host adds unencrypted: write https".to_owned()));
        }
        Ok(Self { narrow, credentials, ..grant })
    }

    /// Reads `scheme://host[:port]`; the host may begin with `*.` for what is below it.
    ///
    /// # Errors
    /// What is wrong, for a person; without a word of the entry, which may hold a secret.
    fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "is not scheme://host or scheme://host:port";
        let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
        if rest.contains('@') {
            return Err("must not hold a user or password: grant the host alone, and send them from an app setting");
        }
        if rest.contains(['/', '?', '#']) {
            return Err("is for a part of a server, but a grant is for all of it");
        }
        let (subdomains, plain) = match rest.strip_prefix("*.") {
            Some(domain) => (true, format!("{scheme}://{domain}")),
            None => (false, text.to_owned()),
        };
        let target = Target::parse(&plain).ok_or(FORM)?;
        match target.name {
            Name::Address(_) if subdomains => Err("means what is below an address, but an address has no subdomains"),
            Name::Address(address) if !is_of_one_machine(address) => Err("names no server: nothing can be sent there"),
            _ => Ok(Self { target, subdomains, narrow: Narrow::default(), credentials: Credentials::default() }),
        }
    }

    /// Whether this request to `target` is granted. The path is that without its query.
    pub fn allows_request(&self, target: &Target, method: &Method, path: &str) -> bool {
        self.allows(target) && self.narrow.allows(method, path)
    }

    /// Headers of the guest's that must not reach the server, beside those that are added.
    pub fn detours(&self) -> impl Iterator<Item = &'static str> {
        self.narrow.detours()
    }

    /// Whether requests may be sent to `target`.
    pub fn allows(&self, target: &Target) -> bool {
        let Target { tls, name, port } = &self.target;
        (*tls, *port) == (target.tls, target.port)
            && match (name, &target.name) {
                (Name::Host(domain), Name::Host(host)) if self.subdomains => {
                    host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
                }
                _ => *name == target.name,
            }
    }

    /// Whether every request that `other` allows is allowed by this grant too.
    fn covers(&self, other: &Self) -> bool {
        self.covers_server(other) && self.narrow.covers(&other.narrow)
    }

    /// Whether there is a request that both allow, and to which they do not add the same.
    fn contradicts(&self, other: &Self) -> bool {
        self.credentials != other.credentials
            && (self.covers_server(other) || other.covers_server(self))
            && self.narrow.overlaps(&other.narrow)
    }

    fn covers_server(&self, other: &Self) -> bool {
        if other.subdomains {
            let Name::Host(domain) = &other.target.name else { return false };
            // What is below the other's domain: ask with a name of it.
            let below = Target { name: Name::Host(format!("x.{domain}")), ..other.target.clone() };
            return self.subdomains && self.allows(&below);
        }
        self.allows(&other.target)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.target.to_string();
        if self.subdomains {
            f.write_str(&text.replacen("://", "://*.", 1))?
        } else {
            f.write_str(&text)?
        }
        let narrow = Some(self.narrow.to_string()).filter(|narrow| !narrow.is_empty());
        let added = (!self.credentials.is_empty()).then(|| format!("the host adds {}", self.credentials));
        match narrow.into_iter().chain(added).collect::<Vec<_>>() {
            terms if terms.is_empty() => Ok(()),
            terms => write!(f, " ({})", terms.join("; ")),
        }
    }
}

/// Whether a connection can lead to one machine there.
fn is_of_one_machine(address: IpAddr) -> bool {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}

/// An entry that cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its scheme and host, with `…` for what stands around them and may be a secret.
    pub shown: String,
    /// What is wrong, and what to write instead.
    pub remedy: String,
    /// The same by its place in the list, without a word of the entry.
    pub discreet: String,
}

impl Refused {
    /// One that cannot be read.
    fn malformed(place: usize, entry: &str, why: &str) -> Self {
        let (scheme, rest) = entry.split_once("://").unwrap_or(("", entry));
        let (authority, beyond) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (before, host) = authority.rsplit_once('@').map_or(("", authority), |(_, host)| ("…@", host));
        let beyond = match beyond {
            "" | "/" => beyond.to_owned(),
            beyond => format!("{}…", &beyond[..1]),
        };
        let scheme = Some(scheme).filter(|scheme| !scheme.is_empty());
        let shown =
            format!("{}{before}{host}{beyond}", scheme.map_or_else(String::new, |scheme| format!("{scheme}://")));
        let discreet = format!("{why}: write it like \"https://api.example.com\"");
        let remedy = match Grant::parse(&format!("{}://{host}", scheme.unwrap_or("https"))) {
            Ok(grant) => format!("{why}: write \"{grant}\""),
            Err(_) => discreet.clone(),
        };
        Self { shown, remedy, discreet: format!("entry {place} {discreet}") }
    }

    /// One whose server can be read.
    fn new(place: usize, grant: &Grant, remedy: String) -> Self {
        Self { shown: grant.to_string(), discreet: format!("entry {place} {remedy}"), remedy }
    }
}

/// Reads the whole list.
///
/// # Errors
/// Each entry that cannot be granted.
pub fn parse(entries: &[Value]) -> Result<Vec<Grant>, Vec<Refused>> {
    let read: Vec<_> = entries.iter().enumerate().map(|(at, entry)| Grant::read(at + 1, entry)).collect();
    let refused = |(at, entry): (usize, &Result<Grant, Refused>)| {
        let grant = match entry {
            Ok(grant) => grant,
            Err(refused) => return Some(refused.clone()),
        };
        let others = || {
            read.iter()
                .enumerate()
                .filter_map(|(other, read)| Some((other, read.as_ref().ok()?)))
                .filter(|(other, _)| *other != at)
        };
        if let Some((first, _)) = others().find(|(other, first)| *other < at && first.contradicts(grant)) {
            let why = format!(
                "fits requests that entry {} fits too, and adds something else to them: narrow one of the two by methods or paths that the other has not",
                first + 1
            );
            return Some(Refused::new(at + 1, grant, why));
        }
        // Of two that say the same, the first stays.
        let covers = |(other, wider): &(usize, &Grant)| {
            wider.credentials == grant.credentials && wider.covers(grant) && (*other < at || !grant.covers(wider))
        };
        let (other, _) = others().find(covers)?;
        Some(Refused::new(at + 1, grant, format!("is granted by entry {} already: remove it", other + 1)))
    };
    let refused: Vec<_> = read.iter().enumerate().filter_map(refused).collect();
    if refused.is_empty() { Ok(read.into_iter().filter_map(Result::ok).collect()) } else { Err(refused) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn target(text: &str) -> Target {
        Target::parse(text).unwrap_or_else(|| panic!("{text} is a target"))
    }

    #[test]
    fn a_grant_is_for_one_scheme_host_and_port() {
        for (grant, allowed, denied) in [
            ("https://a.example", "https://A.example.:443", "http://a.example"),
            ("https://a.example", "https://a.example", "https://b.a.example"),
            ("http://a.example:81", "http://a.example:81", "http://a.example"),
            ("https://*.a.example", "https://x.y.a.example", "https://a.example"),
            ("https://*.a.example", "https://x.a.example", "https://xa.example"),
            ("http://127.0.0.1:81", "http://127.0.0.1:81", "http://localhost:81"),
            ("http://[::1]", "http://[0:0::1]:80", "http://[::2]"),
            ("http://*.0.example", "http://1.0.example", "http://.0.example.x"),
        ] {
            let grant = Grant::parse(grant).expect("a grant");
            assert!(grant.allows(&target(allowed)), "{grant} and {allowed}");
            assert!(Target::parse(denied).is_none_or(|denied| !grant.allows(&denied)), "{grant} and {denied}");
        }
    }

    #[test]
    fn what_is_no_grant_is_told_what_to_write() {
        const LIKE: &str = "write it like \"https://api.example.com\"";
        for (entry, shown, words) in [
            ("", "", LIKE),
            ("*", "*", LIKE),
            ("a.example", "a.example", "write \"https://a.example\""),
            ("ftp://a.example", "ftp://a.example", LIKE),
            ("https://*", "https://*", LIKE),
            ("https://*.", "https://*.", LIKE),
            ("https://a.*.example", "https://a.*.example", LIKE),
            ("https://a.example:0", "https://a.example:0", LIKE),
            ("https://a.example:+1", "https://a.example:+1", LIKE),
            ("https://a.example:", "https://a.example:", LIKE),
            ("https://a.example:65536", "https://a.example:65536", LIKE),
            ("https://a example", "https://a example", LIKE),
            ("https://[fe80::1%eth0]", "https://[fe80::1%eth0]", LIKE),
            // What a resolver takes for an address.
            ("http://127.1", "http://127.1", LIKE),
            ("http://0x7f000001", "http://0x7f000001", LIKE),
            ("http://2130706433", "http://2130706433", LIKE),
            ("https://user:secret@a.example", "https://…@a.example", "must not hold a user"),
            ("user:secret@a.example", "…@a.example", "write \"https://a.example\""),
            ("https://a.example/", "https://a.example/", "write \"https://a.example\""),
            ("HTTPS://A.example/secret", "HTTPS://A.example/…", "write \"https://a.example\""),
            ("https://a.example:1?secret", "https://a.example:1?…", "write \"https://a.example:1\""),
            ("https://*.127.0.0.1", "https://*.127.0.0.1", "an address has no subdomains"),
            ("http://0.0.0.0", "http://0.0.0.0", "names no server"),
            ("http://[::]:81", "http://[::]:81", "names no server"),
            ("http://224.0.0.1", "http://224.0.0.1", "names no server"),
            ("http://255.255.255.255", "http://255.255.255.255", "names no server"),
        ] {
            let refused = parse(&[entry.into()]).expect_err(entry);
            assert_eq!(refused[0].shown, shown, "{entry:?}");
            assert!(refused[0].remedy.contains(words), "{refused:?}");
            assert!(refused[0].discreet.starts_with("entry 1 ") && refused[0].discreet.ends_with(LIKE), "{refused:?}");
        }
    }

    #[test]
    fn names_of_every_script_are_granted_as_the_network_spells_them() {
        for (entry, spelled) in [
            ("https://B\u{fc}cher.example", "https://xn--bcher-kva.example"),
            ("https://*.\u{4f8b}\u{3048}.jp:81", "https://*.xn--r8jz45g.jp:81"),
            // Full-width digits are digits.
            ("http://\u{ff11}27.0.0.1", "http://127.0.0.1"),
        ] {
            assert_eq!(Grant::parse(entry).expect("a grant").to_string(), spelled);
        }
        for entry in ["http://\u{ff11}27.1", "https://\u{2100}.example", "https://\u{ad}"] {
            assert!(Grant::parse(entry).is_err(), "{entry}");
        }
    }

    #[test]
    fn nothing_is_granted_twice() {
        for (first, second, superfluous) in [
            ("https://a.example", "https://A.example:443", 2),
            ("https://*.a.example", "https://x.a.example", 2),
            ("https://x.a.example", "https://*.a.example", 1),
            ("https://*.a.example", "https://*.x.a.example", 2),
        ] {
            let found = parse(&[first.into(), second.into()]).expect_err(second);
            assert_eq!(found.len(), 1);
            let words = format!("entry {superfluous} is granted by entry {} already: remove it", 3 - superfluous);
            assert_eq!(found[0].discreet, words);
        }
        let apart = ["https://a.example", "http://a.example", "https://a.example:81", "https://*.a.example"];
        assert_eq!(parse(&apart.map(Value::from)).expect("they differ").len(), apart.len());
    }

    #[test]
    fn an_object_narrows_a_grant_and_says_what_is_added() {
        let entry = json!({
            "url": "https://a.example", "methods": ["GET"], "paths": ["/v1/"], "headers": {"x-key": "%HUSH%"},
            "identity": "https://b.example",
        });
        let grants = parse(&[entry, "https://b.example".into()]).expect("they differ");
        let (target, other) = (target("https://a.example"), target("https://b.example"));
        assert_eq!(
            grants[0].to_string(),
            "https://a.example (GET /v1/; the host adds a token for https://b.example, x-key)"
        );
        assert!(grants[0].allows_request(&target, &Method::GET, "/v1/a"));
        assert!(!grants[0].allows_request(&target, &Method::PUT, "/v1/a"));
        assert!(!grants[0].allows_request(&target, &Method::GET, "/v2/a"));
        assert!(!grants[0].allows_request(&other, &Method::GET, "/v1/a"));
        for (entry, words) in [
            (json!({}), "is not scheme://host"),
            (json!({"url": "https://hush@a.example"}), "must not hold a user"),
            (json!({"url": "https://a.example", "header": {"a": "hush"}}), "unknown key \"header\""),
            (json!({"url": "https://a.example", "paths": ["hush"]}), "has paths that are none"),
            (json!({"url": "https://a.example", "headers": {"host": "hush"}}), "sets host"),
            (json!({"url": "http://a.example", "headers": {"a": "hush"}}), "unencrypted: write https"),
        ] {
            let refused = parse(std::slice::from_ref(&entry)).expect_err(words);
            assert!(refused[0].discreet.starts_with("entry 1 "), "{refused:?}");
            for text in [&refused[0].shown, &refused[0].remedy, &refused[0].discreet] {
                assert!(!text.contains("hush"), "{entry}: {refused:?}");
            }
            assert!(refused[0].remedy.contains(words), "{refused:?}");
        }
    }

    #[test]
    fn two_grants_of_one_request_add_the_same_to_it() {
        let entry = |url: &str, paths: &[&str], key: &str| json!({"url": url, "paths": paths, "headers": {"x": key}});
        let plain = Value::from("https://x.a.example");
        for (first, second) in [
            (plain.clone(), entry("https://x.a.example", &["/a"], "%A%")),
            (entry("https://*.a.example", &["/a"], "%A%"), plain.clone()),
            (entry("https://x.a.example", &["/a"], "%A%"), entry("https://x.a.example", &["/a/b"], "%B%")),
        ] {
            let refused = parse(&[first, second]).expect_err("they differ");
            assert!(refused[0].discreet.starts_with("entry 2 fits requests that entry 1 fits too"), "{refused:?}");
        }
        let apart = [
            entry("https://a.example", &["/a"], "%A%"),
            entry("https://a.example", &["/b"], "%B%"),
            entry("https://b.example", &["/a"], "%B%"),
        ];
        assert_eq!(parse(&apart).expect("they are apart").len(), 3);
    }

    /// Every text of up to four of these pieces behind a beginning: none panics, and what is a grant reads the same when it is
    /// written.
    #[test]
    fn a_grant_reads_as_it_is_written() {
        let pieces = ["://", "*.", ".", "a", "-", "1", "[::1]", "[", ":", "80", "@", "/", "*", "é", "%"];
        let mut texts = ["http://", "HTTPS://", "http:", ""].map(str::to_owned).to_vec();
        let mut grants = 0;
        for _ in 0..4 {
            texts = texts.iter().flat_map(|text| pieces.map(|piece| format!("{text}{piece}"))).collect();
            for text in &texts {
                if let Ok(grant) = Grant::parse(text) {
                    grants += 1;
                    assert_eq!(Grant::parse(&grant.to_string()), Ok(grant), "{text}");
                }
            }
        }
        assert!(grants > 100, "{grants}");
    }
}
