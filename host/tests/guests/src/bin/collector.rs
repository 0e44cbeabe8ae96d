//! Drops handles late, like a guest whose language collects garbage: what belongs to one request is kept until another one
//! asks for its drop (`?collect=1`) or touches it (`?touch=1`, `?read=1`, `?fields=1`). `?dangling=1`
//! makes it keep an answer that it has not sent. Answers how many requests it has served.

use std::cell::{Cell, RefCell};
use test_guests::{
    Fields, IncomingBody, IncomingRequest, InputStream, OutgoingResponse, Pollable, ResponseOutparam, number, respond,
};

/// The handles of one request. Each is dropped before what it came from.
struct Garbage {
    _waiting: Pollable,
    stream: InputStream,
    _body: IncomingBody,
    headers: Fields,
    request: IncomingRequest,
}

thread_local! {
    static SERVED: Cell<u32> = const { Cell::new(0) };
    static HEAP: RefCell<Vec<Garbage>> = const { RefCell::new(Vec::new()) };
}

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let asked = |name| number(&request, name);
    let (collect, touch, read, fields) = (asked("collect"), asked("touch"), asked("read"), asked("fields"));
    let dangling = asked("dangling");
    HEAP.with_borrow_mut(|heap| {
        if let Some(garbage) = heap.last() {
            let _ = touch.map(|_| garbage.request.method());
            let _ = read.map(|_| garbage.stream.read(1));
            let _ = fields.map(|_| garbage.headers.entries());
        }
        if collect.is_some() {
            heap.clear();
        }
    });
    if dangling.is_some() {
        std::mem::forget(OutgoingResponse::new(Fields::new()));
    }
    let body = request.consume().expect("taken once");
    let stream = body.stream().expect("taken once");
    let (waiting, headers) = (stream.subscribe(), request.headers());
    HEAP.with_borrow_mut(|heap| heap.push(Garbage { _waiting: waiting, stream, _body: body, headers, request }));
    SERVED.set(SERVED.get() + 1);
    respond(outparam, 200, &[], SERVED.get().to_string().as_bytes());
}

test_guests::guest!(handle);
