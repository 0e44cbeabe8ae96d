//! What the host adds to the requests that a grant allows, in place of what the guest says there.

use super::identity::{Token, Tokens};
use crate::config::hosts::{Grant, Server};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, TRAILER};
use std::sync::Arc;

/// A grant, with what the host adds to its requests. It is added to a request for this grant alone: one that follows a redirect is
/// looked up anew.
#[derive(Debug)]
pub struct Granted {
    /// What is granted.
    pub grant: Grant,
    headers: Vec<(HeaderName, HeaderValue)>,
    token: Option<Arc<Token>>,
    /// What of the guest's does not reach the server: the same names, and those that ask for another request than the granted one.
    dropped: Vec<HeaderName>,
}

impl Granted {
    /// Takes what is configured, and the tokens that it needs.
    pub fn new(Server { grant, added }: &Server, tokens: &Tokens) -> Self {
        let names = added.headers.iter().map(|(name, _)| name.clone());
        let names = names.chain(added.token.is_some().then_some(AUTHORIZATION));
        Self {
            grant: grant.clone(),
            headers: added.headers.clone(),
            token: added.token.as_ref().map(|wanted| tokens.of(wanted)),
            dropped: names.chain(grant.detours().map(HeaderName::from_static)).collect(),
        }
    }

    /// Takes from the headers of a guest what it may not say. Answers one of the names.
    pub fn strip(&self, headers: &mut HeaderMap) -> Option<HeaderName> {
        if self.dropped.is_empty() {
            return None;
        }
        // Without it no trailers are sent, which some servers take for headers.
        headers.remove(TRAILER);
        // Servers that hand headers on as variables do not tell _ from -.
        let reads_as = |name: &HeaderName, dropped: &HeaderName| {
            name == dropped || name.as_str().contains('_') && name.as_str().replace('_', "-") == dropped.as_str()
        };
        let is_dropped = |name: &&HeaderName| self.dropped.iter().any(|dropped| reads_as(name, dropped));
        let found: Vec<HeaderName> = headers.keys().filter(is_dropped).cloned().collect();
        for name in &found {
            headers.remove(name);
        }
        found.into_iter().next()
    }

    /// Adds what the host adds.
    ///
    /// # Errors
    /// Why there is no token, for the log.
    pub async fn add(&self, headers: &mut HeaderMap) -> Result<(), Arc<str>> {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.value().await?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AppSettings;
    use crate::config::hosts;
    use serde_json::json;

    #[tokio::test]
    async fn the_hosts_headers_replace_those_of_the_guest() {
        let entry = json!({
            "url": "https://a.example", "methods": ["GET"], "paths": ["/v1/"], "headers": {"x-api-key": "good"},
            "identity": "x", "token": "%T%",
        });
        let grant = hosts::parse(&[entry]).expect("a grant").remove(0);
        let settings = AppSettings::from([("T".to_owned(), "token".to_owned())]);
        let server = Server::new(grant, &settings).expect("it is set");
        let granted = Granted::new(&server, &Tokens::default());
        let mut headers = HeaderMap::new();
        for name in [
            "authorization",
            "x-api-key",
            "x_api_key",
            "x-api_key",
            "x-http-method-override",
            "x_original_url",
            "trailer",
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("forged"));
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("again"));
        }
        headers.insert("x-own", HeaderValue::from_static("stays"));
        assert!(granted.strip(&mut headers).is_some());
        assert_eq!(headers.len(), 1);
        granted.add(&mut headers).await.expect("it has a token");
        let mut sent: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        sent.sort();
        assert_eq!(sent, ["authorization: Bearer token", "x-api-key: good", "x-own: stays"]);
        assert!(!format!("{granted:?}").contains("good"));
        assert_eq!(granted.strip(&mut HeaderMap::new()), None);
    }
}
