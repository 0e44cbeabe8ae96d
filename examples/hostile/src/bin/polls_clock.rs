//! Waits for 450 timers at once, one of which is due: again and again.

use test_guests::bindings::wasi::clocks::monotonic_clock::subscribe_duration;
use test_guests::bindings::wasi::io::poll::poll;
use test_guests::{IncomingRequest, ResponseOutparam};

const HOUR: u64 = 3_600_000_000_000;

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    let timers: Vec<_> = (0..450).map(|number| subscribe_duration(number * HOUR)).collect();
    let timers: Vec<_> = timers.iter().collect();
    loop {
        std::hint::black_box(poll(&timers));
    }
}

test_guests::guest!(handle);
