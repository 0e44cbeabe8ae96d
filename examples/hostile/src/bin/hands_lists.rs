//! Hands the host lists as long as it takes them, of which it can use nothing: the names are not valid.

use test_guests::{Fields, IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    let entries = vec![(" ".to_owned(), Vec::new()); 5_000];
    loop {
        let _ = Fields::from_list(&entries);
    }
}

test_guests::guest!(handle);
