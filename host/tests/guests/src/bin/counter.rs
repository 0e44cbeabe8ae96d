//! Counts its requests in its own memory: 1, 1, 1 where every request gets a fresh instance, 1, 2, 3 where one serves
//! several. What should keep an instance from being used again is asked for in the query.

use std::sync::atomic::{AtomicU32, Ordering};
use test_guests::{Fields, IncomingRequest, ResponseOutparam, number, respond};

static REQUESTS: AtomicU32 = AtomicU32::new(0);

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let served = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
    let asked = |name| number(&request, name);
    let (grow, hoard, sleep) = (asked("grow"), asked("hoard"), asked("sleep"));
    assert!(asked("trap").is_none(), "asked to");
    if let Some(pages) = grow {
        std::mem::forget(vec![0_u8; usize::try_from(pages << 16).expect("it fits")]);
    }
    for _ in 0..hoard.unwrap_or(0) {
        std::mem::forget(Fields::new());
    }
    std::thread::sleep(std::time::Duration::from_millis(sleep.unwrap_or(0)));
    respond(outparam, 200, &[], served.to_string().as_bytes());
}

test_guests::guest!(handle);
