//! A client's request to an HTTP function that has more bindings than plain HTTP, as the Functions host wraps it.

use super::envelope::{Envelope, Function, literal};
use super::json::{self, Json, Members};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

/// What the Functions host has read of a request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The whole URL.
    pub url: &'a str,
    /// The headers, one line for each name.
    pub headers: &'a [(String, String)],
    /// Parameters of the route; none for an optional one that is left out.
    pub params: &'a [(&'a str, Option<&'a str>)],
    /// The body. The Functions host sees none whose length is 0 or not announced.
    pub body: Option<&'a [u8]>,
}

impl Request<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }
}

impl Envelope {
    /// A request of a client to a function that is not plain HTTP.
    pub fn http(function: &Function, request: &Request<'_>) -> Self {
        let kind = request.header("content-type").unwrap_or_default();
        let queries = query(request.url);
        let object = |pairs: &mut dyn Iterator<Item = (String, Json)>| Json::Object(pairs.collect());
        let joined = object(&mut queries.iter().map(|(name, values)| (name.clone(), values.join(",").into())));
        let headers = &mut request.headers.iter();
        let lists = object(&mut headers.map(|(name, value)| (name.clone(), Json::Array(vec![value.as_str().into()]))));
        let optional = |value: &Option<&str>| value.map_or(Json::Null, Json::from);
        let params = object(&mut request.params.iter().map(|(name, value)| ((*name).to_owned(), optional(value))));
        let mut req = Members::from([
            ("Url".to_owned(), request.url.into()),
            ("Method".to_owned(), request.method.into()),
            ("Query".to_owned(), joined),
            ("Headers".to_owned(), lists),
            ("Params".to_owned(), params),
            ("Identities".to_owned(), Json::known(NOBODY)),
        ]);
        if let Some(body) = request.body {
            let bytes = kind.starts_with("application/octet-stream") || kind.starts_with("multipart/");
            let text = if bytes { STANDARD.encode(body) } else { String::from_utf8_lossy(body).into_owned() };
            req.push(("Body".to_owned(), text.into()));
        }
        let mut envelope = Self::new(function, Json::Object(req));
        if let Some(body) = request.body.filter(|_| kind.starts_with("application/json")) {
            envelope.merge(body);
        }
        let last = |values: &[String]| values.last().cloned().unwrap_or_default();
        let metadata = &mut envelope.metadata;
        for (name, values) in queries.iter().filter(|(name, _)| name != "code") {
            json::set(metadata, name, literal(&last(values)));
        }
        for (name, value) in request.params.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
            json::set(metadata, name, literal(value));
        }
        let lasts = object(&mut queries.iter().map(|(name, values)| (name.clone(), last(values).into())));
        json::set(metadata, "Query", lasts);
        let headers = &mut request.headers.iter();
        json::set(metadata, "Headers", object(&mut headers.map(|(name, value)| (name.clone(), value.as_str().into()))));
        envelope.sys();
        envelope
    }
}

/// A caller who has shown no key.
const NOBODY: &str = r#"[{"AuthenticationType":null,"IsAuthenticated":false,"Actor":null,"BootstrapContext":null,"Claims":[],
    "Label":null,"Name":null,"NameClaimType":"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
    "RoleClaimType":"http://schemas.microsoft.com/ws/2008/06/identity/claims/role"}]"#;

/// Pairs of a target's query, decoded, in the order of the first of each name; the values of one name are a list.
pub fn query(target: &str) -> Vec<(String, Vec<String>)> {
    let mut pairs: Vec<(String, Vec<String>)> = Vec::new();
    let text = target.split_once('?').map_or("", |(_, query)| query);
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name), decode(value));
        match pairs.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
            Some((_, values)) => values.push(value),
            None => pairs.push((name, vec![value])),
        }
    }
    pairs
}
