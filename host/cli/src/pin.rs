//! One certificate is trusted: the one whose fingerprint the user knows.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use std::sync::Arc;

/// Takes a certificate by its SHA-256 alone.
#[derive(Debug)]
pub struct Pin {
    wanted: Option<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

/// A fingerprint as 32 bytes: 64 hexadecimal digits, colons between them if one likes.
pub fn parse(text: &str) -> Result<[u8; 32], String> {
    let wrong = || format!("{text} is no SHA-256 fingerprint: 64 hexadecimal digits");
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut bytes = [0; 32];
    for (n, byte) in bytes.iter_mut().enumerate() {
        let pair = digits.get(2 * n..2 * n + 2).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

/// As radond prints it.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")
}

impl Pin {
    /// Without a fingerprint nothing is trusted; the refusal tells what the host has.
    pub fn new(wanted: Option<[u8; 32]>, provider: Arc<CryptoProvider>) -> Self {
        Self { wanted, provider }
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let digest = ring::digest::digest(&ring::digest::SHA256, end_entity);
        match self.wanted {
            Some(wanted) if digest.as_ref() == wanted => Ok(ServerCertVerified::assertion()),
            Some(_) => Err(Error::General(format!(
                "the host's certificate is another one, SHA-256 {}: somebody may be in between, or the host has a new \
                 certificate; compare with what radond printed there, and log in anew with --fingerprint",
                text(digest.as_ref())
            ))),
            None => Err(Error::General(format!(
                "the host's certificate is not known; its SHA-256 is {}: if radond printed the same on the host, pass it \
                 with --fingerprint",
                text(digest.as_ref())
            ))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn fingerprints_are_read_as_they_are_printed() {
        let bytes: [u8; 32] = std::array::from_fn(|n| n as u8 * 7);
        assert_eq!(super::parse(&super::text(&bytes)), Ok(bytes));
        assert_eq!(super::parse(&super::text(&bytes).replace(':', "").to_lowercase()), Ok(bytes));
        for bad in ["", "12", &"g".repeat(64), &"é".repeat(32)] {
            assert!(super::parse(bad).is_err(), "{bad}");
        }
    }
}
