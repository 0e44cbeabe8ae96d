//! The reader of HTTP/1.1 answers. It waits for nothing: the owner of a socket hands over the bytes that have arrived.

use anyhow::{Context as _, Result, bail, ensure};
use httparse::{EMPTY_HEADER, Status};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// Lines of one head, or of trailers, at most.
const LINES: usize = 256;

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// 0 when the connection ended without an answer.
    pub status: u16,
    /// In the order of their lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// As much as has arrived, without the framing.
    pub body: Vec<u8>,
    /// The body ended as its framing says it should.
    pub complete: bool,
}

impl Response {
    /// Takes the head of an answer from the front of `received`, once all of it is there.
    ///
    /// # Errors
    /// When it is not the head of an answer.
    pub fn head(received: &mut Vec<u8>) -> Result<Option<Self>> {
        let mut lines = [EMPTY_HEADER; LINES];
        let mut head = httparse::Response::new(&mut lines);
        let Status::Complete(length) = head.parse(received).context("not the head of an answer")? else {
            return Ok(None);
        };
        let status = head.code.context("a head without a status")?;
        let headers = named(head.headers);
        received.drain(..length);
        Ok(Some(Self { status, headers, body: Vec::new(), complete: true }))
    }

    /// The first line with this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every line with this name, which is in lower case.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `reason` of an answer in the host's own words.
    pub fn reason(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        body["error"]["reason"].as_str().unwrap().to_owned()
    }

    /// Instance id and parameters such as `slot`, from `x-flexwasm-instance`.
    pub fn instance(&self) -> BTreeMap<String, String> {
        let value = self.header("x-flexwasm-instance").unwrap();
        let parts = value.split("; ").map(|part| part.split_once('=').unwrap_or(("id", part)));
        parts.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

fn named(lines: &[httparse::Header]) -> Vec<(String, String)> {
    let spelled = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    lines.iter().map(|line| (line.name.to_ascii_lowercase(), spelled(line.value))).collect()
}

/// Status and length of the head of an answer, once all of it is there. It takes and allocates nothing: for load.
///
/// # Errors
/// When it is not the head of an answer.
pub fn glance(received: &[u8]) -> Result<Option<(u16, usize)>> {
    let mut lines = [EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut lines);
    let Status::Complete(length) = head.parse(received).context("not the head of an answer")? else { return Ok(None) };
    Ok(head.code.map(|status| (status, length)))
}

/// Takes the line with the size of a chunk, once all of it is there; 0 is that of the last one.
///
/// # Errors
/// When it is no such line.
pub fn chunk_size(received: &mut Vec<u8>) -> Result<Option<u64>> {
    match httparse::parse_chunk_size(received) {
        Ok(Status::Complete((length, size))) => {
            received.drain(..length);
            Ok(Some(size))
        }
        Ok(Status::Partial) => Ok(None),
        Err(_) => bail!("not the size of a chunk: {:?}", String::from_utf8_lossy(received)),
    }
}

/// Takes trailers and the empty line that ends them, once all of it is there.
///
/// # Errors
/// When they are none.
pub fn trailers(received: &mut Vec<u8>) -> Result<Option<Vec<(String, String)>>> {
    let mut lines = [EMPTY_HEADER; LINES];
    let parsed = httparse::parse_headers(received, &mut lines).context("no trailers")?;
    let Status::Complete((length, lines)) = parsed else { return Ok(None) };
    let trailers = named(lines);
    received.drain(..length);
    Ok(Some(trailers))
}

/// An answer whose head is there, and whose body is on its way.
pub struct Answer {
    /// As much of it as has arrived.
    pub response: Response,
    next: Next,
}

/// What comes next in a body.
enum Next {
    /// So many bytes of announced length.
    Length(u64),
    Size,
    /// So many bytes of a chunk.
    Chunk(u64),
    LineEnd,
    Trailers,
    /// Whatever comes before the connection ends.
    Connection,
}

impl Answer {
    /// What follows this head. An answer to HEAD has no body.
    ///
    /// # Errors
    /// When it has more than one framing, or one that is unknown.
    pub fn of(head: Response, to_head: bool) -> Result<Self> {
        let framing = (&head.headers("content-length")[..], &head.headers("transfer-encoding")[..]);
        let next = match framing {
            _ if to_head || matches!(head.status, 100..=199 | 204 | 304) => Next::Length(0),
            ([], []) => Next::Connection,
            ([length], []) => Next::Length(length.parse().context("not a length")?),
            ([], ["chunked"]) => Next::Size,
            other => bail!("more than one framing: {other:?}"),
        };
        Ok(Self { response: Response { complete: false, ..head }, next })
    }

    /// Takes a head, as [`Response::head`] does, and what it says of the body.
    ///
    /// # Errors
    /// Those of both.
    pub fn begin(received: &mut Vec<u8>) -> Result<Option<Self>> {
        Response::head(received)?.map(|head| Self::of(head, false)).transpose()
    }

    /// Takes what has arrived of the body; true when that was all of it. What follows the answer stays.
    ///
    /// # Errors
    /// When it is not framed as it should be.
    pub fn take(&mut self, received: &mut Vec<u8>, ended: bool) -> Result<bool> {
        loop {
            match &mut self.next {
                Next::Length(0) => {
                    self.response.complete = true;
                    return Ok(true);
                }
                Next::Chunk(0) => self.next = Next::LineEnd,
                Next::Length(_) | Next::Chunk(_) if received.is_empty() => return Ok(false),
                Next::Length(left) | Next::Chunk(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(received.len());
                    self.response.body.extend(received.drain(..taken));
                    *left -= taken as u64;
                }
                Next::Size => match chunk_size(received)? {
                    None => return Ok(false),
                    Some(0) => self.next = Next::Trailers,
                    Some(size) => self.next = Next::Chunk(size),
                },
                Next::LineEnd => {
                    if received.len() < 2 {
                        return Ok(false);
                    }
                    ensure!(received.starts_with(b"\r\n"), "a chunk is longer than its size");
                    received.drain(..2);
                    self.next = Next::Size;
                }
                Next::Trailers => match trailers(received)? {
                    None => return Ok(false),
                    Some(_) => self.next = Next::Length(0),
                },
                Next::Connection => {
                    self.response.body.append(received);
                    self.response.complete = ended;
                    return Ok(ended);
                }
            }
        }
    }

    /// Takes the rest from a stream that blocks. A stream that fails ends the body, as one that ends does; only where that is its
    /// framing is the body complete then.
    ///
    /// # Errors
    /// Those of [`take`](Self::take).
    pub fn finish(mut self, stream: &mut impl Read, received: &mut Vec<u8>) -> Result<Response> {
        let mut ended = false;
        while !self.take(received, ended)? && !ended {
            match fill(stream, received) {
                Ok(more) => ended = !more,
                Err(_) => break,
            }
        }
        Ok(self.response)
    }
}

/// Reads once; false at the end of the stream.
///
/// # Errors
/// The stream's.
pub fn fill(stream: &mut impl Read, received: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 16 << 10];
    let read = stream.read(&mut buffer)?;
    received.extend_from_slice(&buffer[..read]);
    Ok(read > 0)
}

/// Sends a request on a stream that blocks, and reads its answer.
///
/// # Errors
/// When there is no whole answer.
pub fn exchange(stream: &mut (impl Read + Write), request: &str) -> Result<Response> {
    stream.write_all(request.as_bytes())?;
    let mut received = Vec::new();
    let answer = loop {
        if let Some(answer) = Answer::begin(&mut received)? {
            break answer;
        }
        ensure!(fill(stream, &mut received)?, "the connection ended before an answer");
    };
    let response = answer.finish(stream, &mut received)?;
    ensure!(response.complete, "the answer broke off");
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::{Answer, Response, chunk_size, glance, trailers};

    /// What is left, the body, and whether it is whole.
    fn take(bytes: &str) -> (Vec<u8>, Vec<u8>, bool) {
        let (mut received, mut answer, mut whole) = (Vec::new(), None, false);
        // One byte at a time, as it may arrive.
        for byte in bytes.bytes() {
            received.push(byte);
            if answer.is_none() {
                answer = Answer::begin(&mut received).unwrap();
            }
            if let Some(answer) = answer.as_mut().filter(|_| !whole) {
                whole = answer.take(&mut received, false).unwrap();
            }
        }
        (received, answer.unwrap().response.body, whole)
    }

    #[test]
    fn a_body_of_announced_length() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
        assert_eq!(take(answer), (vec![], b"body".to_vec(), true));
        assert_eq!(take(&answer[..answer.len() - 1]), (vec![], b"bod".to_vec(), false));
        assert_eq!(take(&format!("{answer}+")), (vec![b'+'], b"body".to_vec(), true));
    }

    #[test]
    fn a_body_in_chunks() {
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n";
        assert_eq!(take(answer), (vec![], b"body".to_vec(), true));
        for length in answer.find("2\r\n").unwrap()..answer.len() {
            assert!(!take(&answer[..length]).2, "{length}");
        }
        let trailing = answer.replace("0\r\n\r\n", "0\r\nx-sum: 4\r\n\r\n");
        assert_eq!(take(&trailing), (vec![], b"body".to_vec(), true));
    }

    #[test]
    fn what_is_not_framed_right_is_no_body() {
        let two = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(Answer::begin(&mut two.as_bytes().to_vec()).is_err());
        let longer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbody\r\n0\r\n\r\n";
        let mut received = longer.as_bytes().to_vec();
        let mut answer = Answer::begin(&mut received).unwrap().unwrap();
        assert!(answer.take(&mut received, false).is_err());
        assert!(chunk_size(&mut b"x\r\n".to_vec()).is_err());
    }

    #[test]
    fn some_answers_have_no_body_and_one_ends_with_its_connection() {
        let of = |status: u16, to_head: bool| {
            let mut answer = Answer::of(Response { status, ..Response::default() }, to_head).unwrap();
            let mut received = b"rest".to_vec();
            let whole = answer.take(&mut received, false).unwrap();
            (whole, received.len(), answer.take(&mut received, true).unwrap())
        };
        assert_eq!(of(204, false), (true, 4, true));
        assert_eq!(of(200, true), (true, 4, true));
        assert_eq!(of(200, false), (false, 0, true));
    }

    #[test]
    fn trailers_are_taken_with_their_empty_line() {
        let mut received = b"x-sum: 4\r\n\r\n+".to_vec();
        assert_eq!(trailers(&mut received).unwrap(), Some(vec![("x-sum".to_owned(), "4".to_owned())]));
        assert_eq!(received, b"+");
        assert_eq!(trailers(&mut b"\r".to_vec()).unwrap(), None);
    }

    #[test]
    fn a_glance_takes_nothing() {
        let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\n";
        assert_eq!(glance(format!("{head}body").as_bytes()).unwrap(), Some((503, head.len())));
        assert_eq!(glance(&head.as_bytes()[..20]).unwrap(), None);
        assert!(glance(b"garbage").is_err());
    }
}
