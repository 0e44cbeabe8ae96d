//! What a guest is called with and what comes back, whichever version of WASI it is written for.

use super::fault::Fault;
use super::instance::Instance;
use std::pin::Pin;
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiBody;

/// Drives a guest until it has nothing left to do, and gives its instance back.
pub type Run = Pin<Box<dyn Future<Output = Result<Instance, Fault>> + Send>>;

/// A response whose body the guest may still be writing, or how the guest failed before there was one.
pub type Head = Result<http::Response<WasiBody>, Fault>;

/// Where the head arrives, in the middle of the run. The sender is dropped unused by a guest that never sets a response.
pub type AwaitedHead = oneshot::Receiver<Head>;
