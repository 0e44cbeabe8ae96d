//! Stands in front of a guest and answers in its place, as `marker` does: with its name at both ends.

use test_guests::{IncomingRequest, OutgoingBody, ResponseOutparam, begin, next, write};

static MARKER: &[u8; 11] = b"MARKER-0000";

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    if request.path_with_query().unwrap_or_default().ends_with("?pass") {
        return next::handle(request, outparam);
    }
    let body = begin(outparam, 200, &[]);
    let stream = body.write().expect("taken once");
    // Read at run time, or the compiler would write the number into its code.
    let marker = || std::hint::black_box(MARKER);
    write(&stream, marker());
    write(&stream, b" ");
    write(&stream, marker());
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was announced");
}

test_guests::guest!(handle);
