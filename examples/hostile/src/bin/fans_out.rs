//! Sends 500 requests at once, to the host itself (its port is `?port=`), and reports how many were answered.

use hostile_guests::{send, status};
use test_guests::{IncomingRequest, ResponseOutparam, number, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let own = format!("127.0.0.1:{}", number(&request, "port").unwrap_or(80));
    let pending: Vec<_> = (0..500).filter_map(|_| send(&own, "/api/innocent").ok()).collect();
    let answered = pending.iter().filter_map(status).count();
    let text = if answered == 0 { "nothing".to_owned() } else { format!("{answered} answers") };
    respond(outparam, 200, &[], text.as_bytes());
}

test_guests::guest!(handle);
