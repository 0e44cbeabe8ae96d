//! The two kinds of guests, by the version of WASI that their handler is written for: what an instance is made of, and what is
//! called in it.

use crate::sandbox::Sandbox;
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::{ProxyPre, exports::wasi::http::incoming_handler};
use wasmtime_wasi_http::p3::bindings::{ServicePre, exports::wasi::http::handler};

/// What an instance is made of, by the version of WASI.
#[derive(Clone)]
pub enum Pre {
    /// Of 0.2.
    P2(ProxyPre<Sandbox>),
    /// Of 0.3.
    P3(ServicePre<Sandbox>),
}

/// What is called in an instance.
#[derive(Clone)]
pub enum Handler {
    /// Of 0.2.
    P2(incoming_handler::Guest),
    /// Of 0.3.
    P3(handler::Guest),
}

impl Pre {
    /// Makes an instance.
    ///
    /// # Errors
    /// No room is left for a memory, or a start function failed.
    pub async fn instantiate(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Handler> {
        match self {
            Self::P2(pre) => {
                let proxy = pre.instantiate_async(store).await?;
                Ok(Handler::P2(proxy.wasi_http_incoming_handler().clone()))
            }
            Self::P3(pre) => {
                let service = pre.instantiate_async(store).await?;
                Ok(Handler::P3(service.wasi_http_handler().clone()))
            }
        }
    }
}
