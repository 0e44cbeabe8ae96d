//! Calls from pages of other origins (CORS), for a person's own machine: on Azure the platform answers for this.
//!
//! The headers are those of the Fetch standard, the choices those of the Azure Functions Core Tools: every method and header is
//! allowed to an origin that is allowed.

use super::body::ResponseBody;
use crate::config::local_settings::Cors;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName,
    ORIGIN, VARY,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};

/// One request, as far as its origin is concerned.
pub struct Call {
    /// What its answer has to say.
    headers: HeaderMap,
    /// Whether it is a browser's question before the request itself.
    preflight: bool,
}

impl Call {
    /// Judges a request; without `cors` there is nothing to say.
    pub fn new<B>(cors: Option<&Cors>, request: &Request<B>) -> Self {
        let (mut headers, asked) = (HeaderMap::new(), request.headers());
        let (Some(cors), Some(origin)) = (cors, asked.get(ORIGIN)) else { return Self { headers, preflight: false } };
        let method = asked.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| request.method() == Method::OPTIONS);
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
        Self { headers, preflight: method.is_some() }
    }

    /// Answers a preflight, or awaits the answer and adds what the browser asks for.
    pub async fn answer(self, answer: impl Future<Output = Response<ResponseBody>>) -> Response<ResponseBody> {
        let mut response = if self.preflight {
            let mut response = Response::new(ResponseBody::Own(None));
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        } else {
            answer.await
        };
        for (name, value) in &self.headers {
            if name == VARY {
                response.headers_mut().append(name, value.clone());
            } else {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }
}
