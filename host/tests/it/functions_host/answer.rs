//! The answer to an envelope, on its way back to the Functions host.

use super::Request;
use super::wire::Pool;
use crate::support::Response;
use flexwasm::send::verdict::{Answer, Called, Verdict, read};

/// Sends an envelope, follows redirects, and reads what comes in the end.
pub fn ask(pool: &Pool, mut request: Request) -> Verdict {
    loop {
        let Ok((mut client, head)) = pool.once(&request) else { return Verdict::Failed("no answer".to_owned()) };
        let answer = client.body(head, false);
        pool.put(client, &answer);
        match answer.header("location") {
            Some(location) if (300..400).contains(&answer.status) => {
                request = Request::get(location);
            }
            _ => return read(answer.status, answer.header("content-type"), &answer.body),
        }
    }
}

/// What an HTTP caller gets through the output binding `name`.
pub fn called(answer: &Answer, name: &str) -> Response {
    let Called { status, headers, body, complete } = answer.http(name);
    Response { status, headers, body, complete }
}
