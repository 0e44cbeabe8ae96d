//! Encryption towards other servers, those that guests call and those that they come from: rustls with the certificates that the system trusts.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whom the host trusts. Read when the first guest needs it: it takes some ten milliseconds of files.
#[derive(Debug, Default)]
pub struct Trust(OnceCell<Arc<ClientConfig>>);

impl Trust {
    /// Encrypts a connection to the server of this name or address, and verifies that it is that server.
    ///
    /// # Errors
    /// When the certificate is not trusted or for another server, or the other side speaks something else.
    pub async fn connect(&self, stream: TcpStream, server: ServerName<'static>) -> io::Result<TlsStream<TcpStream>> {
        let read = async || tokio::task::spawn_blocking(|| config().map(Arc::new)).await.map_err(io::Error::other)?;
        let config = self.0.get_or_try_init(read).await?;
        TlsConnector::from(Arc::clone(config)).connect(server, stream).await
    }
}

/// Certificates come from where OpenSSL would look for them: `SSL_CERT_FILE`, `SSL_CERT_DIR`, else the system's folder.
///
/// # Errors
/// When the versions of TLS that are safe are not among those of the library.
pub fn config() -> io::Result<ClientConfig> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "cannot read a trusted certificate");
    }
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(found.certs);
    if trusted == 0 {
        tracing::error!(
            "the system trusts no certificate, so no https request can succeed: install ca-certificates, or name a file in SSL_CERT_FILE"
        );
    }
    trusting(roots)
}

/// The same, trusting these certificates only, which are written in PEM.
///
/// # Errors
/// Also when one of them cannot be read.
pub fn config_trusting(certificates: &[u8]) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(certificates) {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    trusting(roots)
}

fn trusting(roots: RootCertStore) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(versions.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth())
}
