//! Keeps answers to `GET` in the store `cache`, and gives them again for `CACHE_SECONDS` (60 without it) without asking the guest.
//! An answer is kept if it is whole, has the status 200 and at most 256 KiB, and is not meant for one client: neither request nor answer
//! has a cookie, nor credentials, nor a `cache-control` or `vary` that forbids it.

use middleware_examples::{
    ErrorCode, Fields, Method, Request, Response, StreamReader, StreamResult, answer, header, in_front, next,
    spawn_local, store, wit_future, wit_stream,
};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a body that is kept. A store takes values of 1 MiB.
const MOST: usize = 256 << 10;
/// Bytes of a path that is a key. A store takes keys of 1 KiB.
const PATH: usize = 1000;

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let Some(key) = key(&request) else { return next::handle(request).await };
    let store = match store::open("cache") {
        Ok(store) => store,
        Err(why) => {
            eprintln!("nothing is cached, for want of the grant grants.keyvalue cache: {why:?}");
            return next::handle(request).await;
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let kept = store.get(&key).ok().flatten();
    if let Some((kind, body)) = kept.as_deref().and_then(|kept| fresh(kept, now)) {
        return Ok(answer(200, &[("content-type", kind), ("x-cache", "hit")], body.to_vec()));
    }
    let response = next::handle(request).await?;
    if !is_for_everybody(&response) {
        return Ok(response);
    }
    let headers = response.get_headers().clone();
    let kind = header(&headers, "content-type").unwrap_or_else(|| "application/octet-stream".to_owned());
    let (_, read) = wit_future::new(|| Ok(()));
    let (mut rest, trailers) = Response::consume_body(response, read);
    let (body, ended) = beginning(&mut rest).await;
    let (mut writer, contents) = wit_stream::new();
    if !ended {
        let (response, _) = Response::new(headers, Some(contents), trailers);
        spawn_local(async move {
            let mut chunk = body;
            while writer.write_all(chunk).await.is_empty() {
                let (result, more) = rest.read(Vec::with_capacity(64 << 10)).await;
                if more.is_empty() && matches!(result, StreamResult::Dropped) {
                    return;
                }
                chunk = more;
            }
        });
        return Ok(response);
    }
    // A body that broke off has ended, too: only its end tells.
    let end = trailers.await;
    if matches!(end, Ok(None)) {
        let seconds = std::env::var("CACHE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
        // What cannot be kept is asked for again.
        let _ = store.set(&key, &kept_as(now + seconds, &kind, &body));
    }
    let (sender, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(headers, Some(contents), trailers);
    spawn_local(async move {
        writer.write_all(body).await;
        drop(writer);
        let _ = sender.write(end).await;
    });
    Ok(response)
}

/// Under which key the answer to a request is kept. None if it may be meant for one client.
fn key(request: &Request) -> Option<String> {
    let headers = request.get_headers();
    let personal = ["authorization", "cookie", "range", "cache-control"].iter().any(|name| headers.has(name));
    let path = request.get_path_with_query()?;
    (matches!(request.get_method(), Method::Get) && !personal && path.len() <= PATH).then_some(path)
}

fn is_for_everybody(response: &Response) -> bool {
    let headers: Fields = response.get_headers();
    let personal = ["set-cookie", "vary", "content-encoding"].iter().any(|name| headers.has(name));
    let control = header(&headers, "cache-control").unwrap_or_default();
    let forbidden = ["no-store", "no-cache", "private", "max-age=0"].iter().any(|word| control.contains(word));
    response.get_status_code() == 200 && !personal && !forbidden
}

/// The first bytes of a body, somewhat more than [`MOST`] at the most, and whether they are all.
async fn beginning(from: &mut StreamReader<u8>) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while body.len() <= MOST {
        let (result, chunk) = from.read(Vec::with_capacity(64 << 10)).await;
        body.extend(chunk);
        if matches!(result, StreamResult::Dropped) {
            return (body, true);
        }
    }
    (body, false)
}

/// What is kept: until when, the length of the type, the type, the body.
fn kept_as(until: u64, kind: &str, body: &[u8]) -> Vec<u8> {
    [&until.to_le_bytes()[..], &(kind.len() as u64).to_le_bytes(), kind.as_bytes(), body].concat()
}

/// The type and the body of what was kept, if it is not too old.
fn fresh(kept: &[u8], now: u64) -> Option<(&str, &[u8])> {
    let (until, rest) = kept.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (kind, body) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let kind = str::from_utf8(kind).ok()?;
    (u64::from_le_bytes(*until) > now).then_some((kind, body))
}

in_front!(handle);
