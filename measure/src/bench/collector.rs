//! A collector of OpenTelemetry that takes what a host exports and keeps nothing of it.

use anyhow::Result;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

/// Which traces are exported; metrics and the log are exported as by default.
const SAMPLER: [(&str, &str); 2] = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.01")];

pub struct Collector {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Collector {
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, requests) = (listener.local_addr()?, Arc::<AtomicU64>::default());
        let taken = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let taken = Arc::clone(&taken);
                // Its end is that of the host.
                thread::spawn(move || take(stream, &taken));
            }
        });
        Ok(Self { address, requests })
    }

    /// What lets a host export to it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let sampler = SAMPLER.map(|(name, value)| (name, value.to_owned()));
        [("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.address))].into_iter().chain(sampler).collect()
    }

    /// How many requests it has taken.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }
}

/// Takes every request of a connection.
fn take(stream: TcpStream, taken: &AtomicU64) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.to_ascii_lowercase().trim_end().split_once(": ") {
                Some(("content-length", digits)) => length = digits.parse().unwrap_or_default(),
                Some(_) => {}
                None if line == "\r\n" => break,
                // The first line.
                None => {}
            }
        }
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        taken.fetch_add(1, Relaxed);
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}
