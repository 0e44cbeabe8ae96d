//! Takes all memory that it gets, and keeps it.

use std::time::Duration;
use test_guests::{IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    let mut more = Vec::new();
    while more.try_reserve_exact(1 << 20).is_ok() {
        more.resize(1 << 20, 1);
        hoard.push(std::mem::take(&mut more));
    }
    loop {
        std::thread::sleep(Duration::from_secs(3600));
        std::hint::black_box(&hoard);
    }
}

test_guests::guest!(handle);
