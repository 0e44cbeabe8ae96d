//! Hands the host lists of 20,000 entries, of which it wants none: the names are not valid.

use test_guests::{Fields, IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    let entries = vec![(" ".to_owned(), Vec::new()); 20_000];
    loop {
        let _ = Fields::from_list(&entries);
    }
}

test_guests::guest!(handle);
