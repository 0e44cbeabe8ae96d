//! Sends every chunk of the request body back as soon as it arrives. The attack is in the client, which reads nothing meanwhile.

use test_guests::{IncomingRequest, OutgoingBody, ResponseOutparam, begin, read, write};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let body = begin(outparam, 200, &[]);
    let stream = body.write().expect("taken once");
    read(&request, |chunk| write(&stream, chunk));
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

test_guests::guest!(handle);
