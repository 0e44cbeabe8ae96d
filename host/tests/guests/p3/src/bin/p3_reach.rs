//! Tries to reach what nobody granted, and says what it sees, on standard output and error as well.

use p3_test_guests::{ErrorCode, Request, Response, client, fields, respond, wit_future};

async fn handle(_: Request) -> Result<Response, ErrorCode> {
    println!("said on stdout");
    eprintln!("said on stderr");
    let (_end, trailers) = wit_future::new(|| Ok(None));
    let (request, _) = Request::new(fields(&[]), None, trailers, None);
    request.set_authority(Some("127.0.0.1:1")).expect("a valid authority");
    request.set_path_with_query(Some("/")).expect("a valid path");
    let request = client::send(request).await.map(drop);
    let environment: Vec<_> = std::env::vars().collect();
    let files = std::fs::read_dir("/").is_ok();
    let network = std::net::TcpStream::connect("127.0.0.1:1").map(drop).map_err(|error| error.kind());
    Ok(respond(format!("request: {request:?}\nenvironment: {environment:?}\nfiles: {files}\nnetwork: {network:?}\n")))
}

p3_test_guests::guest!(handle);
