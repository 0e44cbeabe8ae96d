//! Makes the host keep headers for it, as many as it can.

use test_guests::{Fields, IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    let entry = [("x".to_owned(), vec![b'x'; 32 << 10])];
    loop {
        std::mem::forget(Fields::from_list(&entry));
    }
}

test_guests::guest!(handle);
