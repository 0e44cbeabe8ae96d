//! Says which guest it is, at both ends of an answer that may take its time: `MARKER-0000 … MARKER-0000`. Whoever wants another
//! guest replaces the digits in its file.

use test_guests::{IncomingRequest, OutgoingBody, ResponseOutparam, begin, number, write};

static MARKER: &[u8; 11] = b"MARKER-0000";

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let pause = number(&request, "ms").unwrap_or(0);
    let status = number(&request, "status").and_then(|status| status.try_into().ok()).unwrap_or(200);
    let body = begin(outparam, status, &[]);
    let stream = body.write().expect("taken once");
    // Read at run time, or the compiler would write the number into its code.
    let marker = || std::hint::black_box(MARKER);
    write(&stream, marker());
    std::thread::sleep(std::time::Duration::from_millis(pause));
    write(&stream, b" ");
    write(&stream, marker());
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was announced");
}

test_guests::guest!(handle);
