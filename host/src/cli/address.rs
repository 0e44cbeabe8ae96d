//! Addresses on the command line.

use std::net::{SocketAddr, ToSocketAddrs as _};

/// An address to listen on. A name counts only if it means this machine alone, such as `localhost`: which of the addresses
/// of any other name would be meant?
///
/// # Errors
/// For a person, with what to write instead.
pub fn any(text: &str) -> Result<SocketAddr, String> {
    const EXPECTED: &str = "write an address and a port, such as 127.0.0.1:8080, [::1]:8080 or localhost:8080";
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if !text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        return Err(EXPECTED.to_owned());
    }
    let named = text.to_socket_addrs().map_err(|error| format!("the name cannot be resolved ({error}): {EXPECTED}"))?;
    let (loopback, other): (Vec<_>, Vec<_>) = named.partition(|address| address.ip().is_loopback());
    let first = loopback.iter().find(|address| address.is_ipv4()).or(loopback.first());
    match first {
        Some(address) if other.is_empty() => Ok(*address),
        _ => Err(format!("the name does not mean this machine alone: {EXPECTED}")),
    }
}

/// As [`any`], but no other machine can reach it.
///
/// # Errors
/// As [`any`].
pub fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address = any(text)?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("other machines may reach it: write an address of this machine alone, such as 127.0.0.1:7072".to_owned())
    }
}
