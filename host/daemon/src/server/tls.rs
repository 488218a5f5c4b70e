//! The certificate: made by the daemon at its first start, or put there by the operator.

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Who this server is.
pub struct Identity {
    /// Greets clients.
    pub acceptor: TlsAcceptor,
    /// SHA-256 of the certificate, as `openssl x509 -fingerprint -sha256` writes it.
    pub fingerprint: String,
}

/// Reads certificate and key (`certificate.pem`, `key.pem`) of a folder; makes them if there are none.
pub fn identity(folder: &Path, name: &str) -> io::Result<Identity> {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    if !certificate.exists() || !key.exists() {
        let made = rcgen::generate_simple_self_signed([name.to_owned(), "localhost".to_owned()]);
        let made = made.map_err(io::Error::other)?;
        // The certificate last: it says that both are there.
        write(&key, made.signing_key.serialize_pem().as_bytes())?;
        write(&certificate, made.cert.pem().as_bytes())?;
    }
    let named =
        |path: &Path, error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
    let chain = CertificateDer::pem_file_iter(&certificate).map_err(|e| named(&certificate, &e))?;
    let chain: Vec<CertificateDer<'static>> =
        chain.collect::<Result<_, _>>().map_err(|e| named(&certificate, &e))?;
    let first = chain.first().ok_or_else(|| named(&certificate, &"holds no certificate"))?;
    let digest = ring::digest::digest(&ring::digest::SHA256, first);
    let fingerprint: Vec<String> = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
    let key = PrivateKeyDer::from_pem_file(&key).map_err(|e| named(&key, &e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?.with_no_client_auth().with_single_cert(chain, key);
    let acceptor = TlsAcceptor::from(Arc::new(config.map_err(io::Error::other)?));
    Ok(Identity { acceptor, fingerprint: fingerprint.join(":") })
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}
