//! A key is a blob of a container.

use super::account::{Answer, Call};
use super::{Failure, Only, Result, Service};
use crate::keyvalue::{MANY, VALUE};
use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderName, IF_MATCH, IF_NONE_MATCH};
use roxmltree::Document;

pub struct Blob(pub String);

impl Blob {
    fn call(&self, method: Method, name: &str) -> Call {
        let path = format!("{}/{name}", self.0);
        Call { method, path, query: Vec::new(), headers: Vec::new(), body: Bytes::new() }
    }

    fn container(&self, method: Method, query: Vec<(&'static str, String)>) -> Call {
        Call { method, path: self.0.clone(), query, headers: Vec::new(), body: Bytes::new() }
    }
}

fn unreadable<T>(_: T) -> Failure {
    Failure::Unavailable("it answers with what is no value or list of this store".to_owned())
}

impl Service for Blob {
    fn value_limit(&self) -> (usize, &'static str) {
        (VALUE, "the value has more than 1 MiB")
    }

    fn create(&self) -> Call {
        self.container(Method::PUT, vec![("restype", "container".to_owned())])
    }

    fn read(&self, name: &str) -> Call {
        self.call(Method::GET, name)
    }

    fn value(&self, answer: &Answer) -> Result<Vec<u8>> {
        if answer.body.len() > VALUE { Err(unreadable(())) } else { Ok(answer.body.to_vec()) }
    }

    fn write(&self, name: &str, value: Vec<u8>, only: &Only) -> Call {
        let mut headers = vec![
            (CONTENT_TYPE, "application/octet-stream".to_owned()),
            (HeaderName::from_static("x-ms-blob-type"), "BlockBlob".to_owned()),
        ];
        match only {
            Only::Always => {}
            Only::New => headers.push((IF_NONE_MATCH, "*".to_owned())),
            Only::Unchanged(etag) => headers.push((IF_MATCH, etag.clone())),
        }
        Call { headers, body: value.into(), ..self.call(Method::PUT, name) }
    }

    fn delete(&self, name: &str) -> Call {
        self.call(Method::DELETE, name)
    }

    fn list(&self, prefix: &str, from: Option<&str>) -> Call {
        let mut query = vec![("comp", "list".to_owned())];
        query.extend(from.map(|from| ("marker", from.to_owned())));
        query.extend([("maxresults", MANY.to_string()), ("prefix", prefix.to_owned())]);
        query.push(("restype", "container".to_owned()));
        self.container(Method::GET, query)
    }

    fn names(&self, answer: &Answer) -> Result<(Vec<String>, Option<String>)> {
        let text = str::from_utf8(&answer.body).map_err(unreadable)?;
        let document = Document::parse(text.trim_start_matches('\u{feff}')).map_err(unreadable)?;
        let texts = |tag: &'static str| {
            let nodes = document.descendants().filter(move |node| node.has_tag_name(tag));
            nodes.filter_map(|node| node.text().map(str::to_owned))
        };
        Ok((texts("Name").collect(), texts("NextMarker").next()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, StatusCode};

    #[test]
    fn a_page_is_read() {
        let page = |body: &'static str| {
            let answer =
                Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into(), repeated: false };
            Blob("abc".to_owned()).names(&answer)
        };
        let more = "\u{feff}<?xml version=\"1.0\"?><E><Blobs><Blob><Name>a</Name></Blob><Blob><Name>b~2E</Name></Blob></Blobs>\
                    <NextMarker>2!&amp;x</NextMarker></E>";
        assert_eq!(page(more), Ok((vec!["a".to_owned(), "b~2E".to_owned()], Some("2!&x".to_owned()))));
        assert_eq!(page("<E><Blobs /><NextMarker /></E>"), Ok((Vec::new(), None)));
        assert!(page("<E>").is_err());
    }
}
