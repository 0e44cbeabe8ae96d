//! Encryption towards the servers that guests call: rustls with the certificates that the system trusts.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Encrypts a connection to the server of this name or address, and verifies that it is that server.
///
/// # Errors
/// When the certificate is not trusted or for another server, or the other side speaks something else.
pub async fn connect(stream: TcpStream, server: ServerName<'static>) -> io::Result<TlsStream<TcpStream>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = match CONFIG.get() {
        Some(config) => config,
        // Reading the certificates takes some ten milliseconds of files: only hosts that need them do.
        None => {
            let read = tokio::task::spawn_blocking(config).await.map_err(io::Error::other)??;
            CONFIG.get_or_init(|| read)
        }
    };
    TlsConnector::from(Arc::clone(config)).connect(server, stream).await
}

/// Certificates come from where OpenSSL would look for them: `SSL_CERT_FILE`, `SSL_CERT_DIR`, else the system's folder.
fn config() -> io::Result<Arc<ClientConfig>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "cannot read a trusted certificate");
    }
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(found.certs);
    if trusted == 0 {
        tracing::error!(
            "the system trusts no certificate, so no https request of a guest can succeed: install ca-certificates, or name a file in SSL_CERT_FILE"
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}
