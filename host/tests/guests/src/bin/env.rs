//! Tells its environment, a variable a line, and whether it can list files or reach the network.

use test_guests::{IncomingRequest, ResponseOutparam, respond};

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let mut text: String = std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
    text += &format!("files: {}\n", std::fs::read_dir("/").is_ok());
    text += &format!("network: {}\n", std::net::TcpStream::connect("127.0.0.1:80").is_ok());
    respond(outparam, 200, &[], text.as_bytes());
}

test_guests::guest!(handle);
