//! Stands in front of a guest: says what is in its environment, answers `?stop` itself, and passes everything else on.

use test_guests::{IncomingRequest, ResponseOutparam, next, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let names: Vec<_> = std::env::vars().map(|(name, _)| name).collect();
    println!("in front: {}", names.join(","));
    if request.path_with_query().unwrap_or_default().ends_with("?stop") {
        return respond(outparam, 401, &[], b"stopped");
    }
    next::handle(request, outparam);
}

test_guests::guest!(handle);
