//! Does what `?read=`, `?list=` or `?write=` asks, with the path behind it, and tells what came of it.

use std::fs;
use test_guests::{IncomingRequest, ResponseOutparam, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let target = request.path_with_query().unwrap_or_default();
    let (verb, path) = target.split_once('?').and_then(|(_, query)| query.split_once('=')).unwrap_or_default();
    let result = match verb {
        "read" => fs::read_to_string(path),
        "list" => fs::read_dir(path).map(|entries| {
            let mut names: Vec<_> =
                entries.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names.join(" ")
        }),
        _ => fs::write(path, "written").map(|()| "written".to_owned()),
    };
    match result {
        Ok(text) => respond(outparam, 200, &[], text.as_bytes()),
        Err(error) => respond(outparam, 403, &[], error.to_string().as_bytes()),
    }
}

test_guests::guest!(handle);
