//! `grants.hosts`: where a guest may send requests to.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

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
    fn parse(text: &str) -> Option<Self> {
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
}

impl Grant {
    /// Reads `scheme://host[:port]`; the host may begin with `*.` for what is below it.
    ///
    /// # Errors
    /// What to write instead, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "write scheme://host or scheme://host:port, such as \"https://api.example.com\"";
        let Some((scheme, rest)) = text.split_once("://") else { return Err(FORM.to_owned()) };
        if rest.contains('@') {
            return Err(
                "must not hold a user or password: grant the host alone, and send them from an app setting".to_owned()
            );
        }
        if rest.contains(['/', '?', '#']) {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            return Err(format!("a grant is for a whole host, not for a path: write \"{scheme}://{host}\""));
        }
        let (subdomains, plain) = match rest.strip_prefix("*.") {
            Some(domain) => (true, format!("{scheme}://{domain}")),
            None => (false, text.to_owned()),
        };
        let target = Target::parse(&plain).ok_or(FORM)?;
        match (&target.name, subdomains) {
            (Name::Address(_), true) => Err("an address has no subdomains: name each address alone".to_owned()),
            _ => Ok(Self { target, subdomains }),
        }
    }

    /// Whether a request may be sent to `target`.
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
        if self.subdomains { f.write_str(&text.replacen("://", "://*.", 1)) } else { f.write_str(&text) }
    }
}

/// Reads the whole list.
///
/// # Errors
/// Each entry that cannot be granted, with what to write instead.
pub fn parse(entries: &[String]) -> Result<Vec<Grant>, Vec<(String, String)>> {
    let (mut grants, mut problems) = (Vec::<Grant>::new(), Vec::new());
    for entry in entries {
        match Grant::parse(entry) {
            Ok(grant) => match grants.iter().find(|other| other.covers(&grant) || grant.covers(other)) {
                Some(other) => {
                    problems.push((entry.clone(), format!("overlaps with \"{other}\": remove the narrower one")))
                }
                None => grants.push(grant),
            },
            Err(remedy) => problems.push((entry.clone(), remedy)),
        }
    }
    if problems.is_empty() { Ok(grants) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for (entry, words) in [
            ("", "write scheme://host"),
            ("*", "write scheme://host"),
            ("a.example", "write scheme://host"),
            ("ftp://a.example", "write scheme://host"),
            ("https://*", "write scheme://host"),
            ("https://a.*.example", "write scheme://host"),
            ("https://a.example:0", "write scheme://host"),
            ("https://a.example:+1", "write scheme://host"),
            ("https://a.example:", "write scheme://host"),
            ("https://a example", "write scheme://host"),
            ("https://bücher.example", "write scheme://host"),
            // What a resolver takes for an address.
            ("http://127.1", "write scheme://host"),
            ("http://0x7f000001", "write scheme://host"),
            ("http://2130706433", "write scheme://host"),
            ("https://user:secret@a.example", "must not hold a user"),
            ("https://a.example/", "write \"https://a.example\""),
            ("https://a.example:1?x", "write \"https://a.example:1\""),
            ("https://*.127.0.0.1", "an address has no subdomains"),
        ] {
            let remedy = Grant::parse(entry).expect_err(entry);
            assert!(remedy.contains(words), "{entry:?}: {remedy}");
        }
    }

    #[test]
    fn nothing_is_granted_twice() {
        for (first, second) in [
            ("https://a.example", "https://A.example:443"),
            ("https://*.a.example", "https://x.a.example"),
            ("https://x.a.example", "https://*.a.example"),
            ("https://*.a.example", "https://*.x.a.example"),
        ] {
            let found = parse(&[first.to_owned(), second.to_owned()]).expect_err(second);
            assert_eq!(found.len(), 1);
            assert!(found[0].1.starts_with("overlaps with"), "{found:?}");
        }
        let apart = ["https://a.example", "http://a.example", "https://a.example:81", "https://*.a.example"];
        assert_eq!(parse(&apart.map(str::to_owned)).expect("they differ").len(), apart.len());
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
