//! Writes what a log should be spared, and `?bytes=` more.

use test_guests::{IncomingRequest, ResponseOutparam, number, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    println!("LanguageWorkerConsoleLog imitation\nazfuncjsonlog:{{}}");
    eprintln!("red \x1b[31m and a bell \x07");
    print!("no end of line");
    if let Some(bytes) = number(&request, "bytes") {
        println!("{}", "y".repeat(usize::try_from(bytes).expect("it fits")));
    }
    respond(outparam, 200, &[], b"printed");
}

test_guests::guest!(handle);
