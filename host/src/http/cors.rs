//! Calls from pages of other origins (CORS), for a person's own machine: on Azure the platform answers for this.
//!
//! The headers are those of the Fetch standard, the choices those of the Azure Functions Core Tools: every method and header is
//! allowed to an origin that is allowed.

use crate::config::local_settings::Cors;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName,
    ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderValue, Method};

/// What the page that sent one request may do.
pub struct Access {
    /// What the response has to say about it.
    headers: HeaderMap,
    /// Whether it is a browser's question before the request itself.
    pub is_preflight: bool,
}

impl Access {
    /// Judges a request; without `cors` there is nothing to say.
    pub fn new(cors: Option<&Cors>, request: &Parts) -> Self {
        let (mut headers, asked) = (HeaderMap::new(), &request.headers);
        let (Some(cors), Some(origin)) = (cors, asked.get(ORIGIN)) else {
            return Self { headers, is_preflight: false };
        };
        let method = asked.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| request.method == Method::OPTIONS);
        let allowed = match &cors.origins {
            None => Some(HeaderValue::from_static("*")),
            Some(origins) => {
                origins.iter().find(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes())).cloned()
            }
        };
        if cors.origins.is_some() {
            headers.insert(VARY, ORIGIN.into());
        }
        if let Some(allowed) = allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            if cors.credentials {
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
            let mut allow = |name: HeaderName, asked: Option<&HeaderValue>| {
                headers.extend(asked.map(|asked| (name, asked.clone())));
            };
            allow(ACCESS_CONTROL_ALLOW_METHODS, method);
            allow(ACCESS_CONTROL_ALLOW_HEADERS, method.and_then(|_| asked.get(ACCESS_CONTROL_REQUEST_HEADERS)));
        }
        Self { headers, is_preflight: method.is_some() }
    }

    /// Adds to the headers of the response what the browser asks for.
    pub fn write(&self, response: &mut HeaderMap) {
        for (name, value) in &self.headers {
            if name == VARY {
                response.append(name, value.clone());
            } else {
                response.insert(name, value.clone());
            }
        }
    }
}
