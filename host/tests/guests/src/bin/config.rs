//! Tells what it finds in `wasi:config/store`: the value of the key that its path names, then all pairs.

use test_guests::{IncomingRequest, ResponseOutparam, respond};

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package test:config;
            world imports { import wasi:config/store@0.2.0-rc.1; }
        ",
        world: "test:config/imports",
        generate_all,
    });
}
use bindings::wasi::config::store::{get, get_all};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let path = request.path_with_query().unwrap_or_default();
    let key = path.rsplit('/').next().unwrap_or_default();
    respond(outparam, 200, &[], format!("{:?} {:?}", get(key), get_all()).as_bytes());
}

test_guests::guest!(handle);
