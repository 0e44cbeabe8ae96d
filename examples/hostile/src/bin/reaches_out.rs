//! Asks the machine's metadata service for a token, the host for an answer (its port is `?port=`), and tries sockets and names.
//! Reports what it reached.

use hostile_guests::{send, status};
use std::net::{TcpStream, ToSocketAddrs as _, UdpSocket};
use test_guests::{IncomingRequest, ResponseOutparam, number, respond};

const METADATA: [(&str, &str); 3] = [
    ("169.254.169.254", "/metadata/instance?api-version=2021-02-01"),
    ("169.254.169.254", "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"),
    ("[fd00:ec2::254]", "/latest/meta-data/"),
];
const LOOPBACK: [&str; 6] = ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "[::ffff:127.0.0.1]"];

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let port = number(&request, "port").unwrap_or(80);
    let own = LOOPBACK.map(|name| (format!("{name}:{port}"), "/api/innocent"));
    let targets = METADATA.map(|(authority, path)| (authority.to_owned(), path)).into_iter().chain(own);
    let answered =
        |(authority, path): &(String, &str)| send(authority, path).is_ok_and(|pending| status(&pending).is_some());
    let mut reached: Vec<String> = targets.filter(answered).map(|(authority, _)| authority).collect();
    let own = format!("127.0.0.1:{port}");
    reached.extend(TcpStream::connect(&own).map(|_| "a TCP socket".to_owned()));
    reached.extend(UdpSocket::bind("127.0.0.1:0").map(|_| "a UDP socket".to_owned()));
    reached.extend("localhost:80".to_socket_addrs().map(|_| "a name".to_owned()));
    let text = if reached.is_empty() { "nothing".to_owned() } else { reached.join("\n") };
    respond(outparam, 200, &[], text.as_bytes());
}

test_guests::guest!(handle);
