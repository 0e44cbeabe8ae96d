//! `methods` and `paths` of an entry of `grants.hosts`: which requests to its server are granted.
//!
//! A path is granted only if it is below a granted one in every way that a server may read it, so that neither `..` nor encodings get
//! round the grant. What servers may read in different ways is not granted at all.

use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use std::fmt;

/// How often a server may decode a path before we no longer follow it.
const DECODINGS: usize = 3;

/// The requests to a server that are granted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Narrow {
    /// Those of these methods; none for all.
    methods: Option<Vec<Method>>,
    /// Those for these paths and what is below them; none for all.
    paths: Option<Vec<String>>,
}

impl Narrow {
    /// Reads `methods` and `paths` of an entry.
    ///
    /// # Errors
    /// What to write instead, for a person.
    pub fn read(methods: Option<&Value>, paths: Option<&Value>) -> Result<Self, &'static str> {
        const METHODS: &str = "has methods that are none: write them like [\"GET\", \"HEAD\"]";
        const PATHS: &str =
            "has paths that are none: write them like [\"/v1/\"], without . or .. as a segment, //, \\, %, ?, # or ;";
        let list = |value: &Value| {
            let texts: Option<Vec<String>> =
                value.as_array()?.iter().map(|text| Some(text.as_str()?.to_owned())).collect();
            texts.filter(|texts| !texts.is_empty())
        };
        let method = |text: String| {
            let upper = text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
            Method::from_bytes(text.as_bytes()).ok().filter(|method| upper && method != Method::CONNECT)
        };
        let methods = methods.map(|value| list(value)?.into_iter().map(method).collect::<Option<Vec<_>>>());
        let path = |text: String| is_plain(&text).then_some(text);
        let paths = paths.map(|value| list(value)?.into_iter().map(path).collect::<Option<Vec<_>>>());
        Ok(Self {
            methods: methods.map(|methods| methods.ok_or(METHODS)).transpose()?,
            paths: paths.map(|paths| paths.ok_or(PATHS)).transpose()?,
        })
    }

    /// Whether a request of this method is granted, for a path without its query.
    pub fn allows(&self, method: &Method, path: &str) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.contains(method))
            && self.paths.as_ref().is_none_or(|paths| {
                let decoded = unambiguous(path);
                decoded.is_some_and(|decoded| paths.iter().any(|top| is_below(top, path) && is_below(top, &decoded)))
            })
    }

    /// Whether every request that `other` grants is granted by this as well.
    pub fn covers(&self, other: &Self) -> bool {
        all(&self.methods, &other.methods, |ours, theirs| theirs.iter().all(|method| ours.contains(method)))
            && all(&self.paths, &other.paths, |ours, theirs| {
                theirs.iter().all(|path| ours.iter().any(|top| is_below(top, path)))
            })
    }

    /// Whether there is a request that both grant.
    pub fn overlaps(&self, other: &Self) -> bool {
        some(&self.methods, &other.methods, |ours, theirs| theirs.iter().any(|method| ours.contains(method)))
            && some(&self.paths, &other.paths, |ours, theirs| {
                let related = |a: &String, b: &String| is_below(a, b) || is_below(b, a);
                theirs.iter().any(|path| ours.iter().any(|top| related(top, path)))
            })
    }

    /// Headers by which a guest could ask some servers for another method or path than the one that was granted.
    pub fn detours(&self) -> impl Iterator<Item = &'static str> {
        let methods = ["x-http-method", "x-http-method-override", "x-method-override"];
        let paths = ["x-original-url", "x-rewrite-url"];
        let methods = self.methods.is_some().then_some(methods).into_iter().flatten();
        methods.chain(self.paths.is_some().then_some(paths).into_iter().flatten())
    }
}

/// As a person reads it: `GET, HEAD /v1/`. Empty where every request is granted.
impl fmt::Display for Narrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods =
            self.methods.iter().map(|methods| methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", "));
        let paths = self.paths.iter().map(|paths| paths.join(", "));
        f.write_str(&methods.chain(paths).collect::<Vec<_>>().join(" "))
    }
}

/// Whether `ours`, where none stands for everything, has all of `theirs`.
fn all<T>(ours: &Option<T>, theirs: &Option<T>, has: impl FnOnce(&T, &T) -> bool) -> bool {
    match (ours, theirs) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(ours), Some(theirs)) => has(ours, theirs),
    }
}

/// Whether `ours`, where none stands for everything, has some of `theirs`.
fn some<T>(ours: &Option<T>, theirs: &Option<T>, has: impl FnOnce(&T, &T) -> bool) -> bool {
    ours.as_ref().zip(theirs.as_ref()).is_none_or(|(ours, theirs)| has(ours, theirs))
}

/// Whether `path` is `top`, or below it.
fn is_below(top: &str, path: &str) -> bool {
    let rest = path.strip_prefix(top);
    rest.is_some_and(|rest| top.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
}

/// Whether a path means the same to every server.
fn is_plain(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\\%?#;".contains(&byte);
    path.starts_with('/') && !path.contains("//") && path.bytes().all(plain) && unambiguous(path).is_some()
}

/// The path as a server reads that decodes all of it. None if another server could read it as one that leads elsewhere: dots as a
/// segment, also with parameters or trailing spaces, control characters, and what is encoded too often.
fn unambiguous(path: &str) -> Option<String> {
    let mut text = path.to_owned();
    for _ in 0..DECODINGS {
        let next = percent_decode_str(&text).decode_utf8().ok()?.into_owned();
        if next != text {
            text = next;
            continue;
        }
        let text = text.replace('\\', "/");
        let leads_away = |segment: &str| {
            let name = segment.split([';', '?', '#']).next().unwrap_or_default();
            !name.is_empty() && name.trim_end_matches([' ', '.']).is_empty()
        };
        let odd = text.contains(char::is_control) || text.to_ascii_lowercase().contains("%u");
        return (!odd && !text.split('/').any(leads_away)).then_some(text);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn narrow(methods: Value, paths: Value) -> Narrow {
        let given = |value: Value| Some(value).filter(|value| !value.is_null());
        Narrow::read(given(methods).as_ref(), given(paths).as_ref()).expect("it can be read")
    }

    #[test]
    fn a_path_is_granted_only_as_every_server_reads_it() {
        let narrow = narrow(Value::Null, json!(["/v1/", "/exact"]));
        for path in
            ["/v1/", "/v1/a", "/v1/a%2Fb", "/v1//a", "/v1/a.b/..c", "/v1/%C3%A9", "/v1/100%25", "/exact", "/exact/a"]
        {
            assert!(narrow.allows(&Method::GET, path), "{path}");
        }
        for path in [
            "",
            "/",
            "/v1",
            "/V1/a",
            "/v2/",
            "//v1/a",
            "/exactly",
            "/exact;a",
            "*",
            "/a/../v1/a",
            "/%76%31/a",
            "/v1/..",
            "/v1/../v2",
            "/v1/./a",
            "/v1/%2e%2e/v2",
            "/v1/.%2E/v2",
            "/v1/%252e%252e/v2",
            "/v1/%25252525/a",
            "/v1/..%2fv2",
            "/v1/..%5cv2",
            "/v1/..\\v2",
            "/v1\\..\\v2",
            "/v1/..;a=b/v2",
            "/v1/.. /v2",
            "/v1/...",
            "/v1/%00",
            "/v1/.%0d./v2",
            "/v1/%c0%ae%c0%ae/v2",
            "/v1/%u002e%u002e/v2",
            "/v1/..%23",
            "/v1/..%3fa",
        ] {
            assert!(!narrow.allows(&Method::GET, path), "{path}");
        }
        // What is encoded without end takes no more time than its length.
        assert!(!narrow.allows(&Method::GET, &format!("/v1/%{}", "25".repeat(1 << 20))));
        assert!(Narrow::default().allows(&Method::GET, "/../%00"));
    }

    #[test]
    fn methods_are_told_apart() {
        let narrow = narrow(json!(["GET", "HEAD"]), Value::Null);
        assert!(narrow.allows(&Method::HEAD, "/") && !narrow.allows(&Method::POST, "/"));
        assert!(narrow.detours().all(|name| name.contains("method")) && narrow.detours().count() == 3);
        for methods in [json!([]), json!(["get"]), json!(["CONNECT"]), json!("GET"), json!([1]), json!(["G ET"])] {
            assert!(Narrow::read(Some(&methods), None).is_err(), "{methods}");
        }
        for paths in
            [json!([]), json!(["v1"]), json!(["/a/../b"]), json!(["/a%20"]), json!(["//"]), json!(["/a?b"]), json!("/")]
        {
            assert!(Narrow::read(None, Some(&paths)).is_err(), "{paths}");
        }
    }

    #[test]
    fn what_two_grants_share_is_seen() {
        let everything = Narrow::default();
        for (one, other, covers, overlaps) in [
            (narrow(json!(["GET"]), Value::Null), narrow(json!(["PUT"]), Value::Null), false, false),
            (narrow(json!(["GET", "PUT"]), Value::Null), narrow(json!(["PUT"]), json!(["/a"])), true, true),
            (narrow(Value::Null, json!(["/a/"])), narrow(Value::Null, json!(["/a/b", "/c"])), false, true),
            (narrow(Value::Null, json!(["/a/"])), narrow(Value::Null, json!(["/b/"])), false, false),
            (narrow(Value::Null, json!(["/a/b"])), narrow(Value::Null, json!(["/a"])), false, true),
        ] {
            assert_eq!((one.covers(&other), one.overlaps(&other), other.overlaps(&one)), (covers, overlaps, overlaps));
            assert!(everything.covers(&one) && !one.covers(&everything) && one.overlaps(&everything));
        }
    }
}
