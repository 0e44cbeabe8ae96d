//! Tries to set headers that belong to the connection, and tells which it could.

use test_guests::{Fields, IncomingRequest, ResponseOutparam, respond};

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let fields = Fields::new();
    let set = ["connection", "transfer-encoding", "upgrade", "keep-alive"]
        .into_iter()
        .filter(|name| fields.set(name, &[b"chunked".to_vec()]).is_ok())
        .collect::<Vec<_>>();
    respond(outparam, 200, &[("x-flexwasm-instance", "forged")], format!("set: {set:?}").as_bytes());
}

test_guests::guest!(handle);
