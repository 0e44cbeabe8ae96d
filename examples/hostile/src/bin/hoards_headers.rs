//! Makes the host keep headers: set after set, each nearly as large as it may be.

use test_guests::{Fields, IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    let entry = [("x".to_owned(), vec![b'x'; 60 << 10])];
    loop {
        std::mem::forget(Fields::from_list(&entry));
    }
}

test_guests::guest!(handle);
