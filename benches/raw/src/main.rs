//! Raw hyper: what the machine, the kernel, tokio and hyper cost without a guest.
//!
//! Runtime, allocator and hyper's settings are those of flexwasm (`host/src/cli/context.rs`, `host/src/http/`). `--current-thread`
//! swaps the runtime for a single-threaded one, the cheapest that tokio has.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::net::TcpSocket;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BODY: &[u8; 460] = include_bytes!("../../body.json");
const HEAD_LIMIT: usize = 64 << 10;
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const BACKLOG: u32 = 4096;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    let current_thread = arguments.next_if(|argument| argument == "--current-thread").is_some();
    let port = arguments.next().and_then(|port| port.parse().ok());
    let (Some(port), None) = (port, arguments.next()) else {
        return Err(io::Error::other("usage: bench-raw [--current-thread] PORT"));
    };
    let mut runtime = if current_thread {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let runtime = runtime.enable_all().event_interval(16).build()?;
    let (kind, workers) = (runtime.handle().runtime_flavor(), runtime.metrics().num_workers());
    println!("tokio {kind:?}, {workers} workers, event_interval 16, mimalloc, hyper http1 with its head timer");
    runtime.block_on(serve(port))
}

async fn serve(port: u16) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    let listener = socket.listen(BACKLOG)?;
    println!("http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_header_size(HEAD_LIMIT)
                .serve_connection(TokioIo::new(stream), service_fn(answer)),
        );
    }
}

/// hyper adds `content-length` and `date`.
async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = Response::builder().header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::from_static(BODY)));
    Ok(answer.expect("the header is valid"))
}
