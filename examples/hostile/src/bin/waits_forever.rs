//! Waits for something that never comes.

use std::time::Duration;
use test_guests::{IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

test_guests::guest!(handle);
