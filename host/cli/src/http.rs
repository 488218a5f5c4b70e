//! Just enough HTTP: one request a connection, version 1.0, over TLS.

use crate::Failed;
use crate::pin::Pin;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// The longest head of an answer, in bytes.
const MOST_HEAD: u64 = 64 << 10;

/// Where a host is, and who it must be.
#[derive(Clone, Debug)]
pub struct Server {
    /// NAME or NAME:PORT.
    pub host: String,
    /// SHA-256 of its certificate.
    pub fingerprint: Option<[u8; 32]>,
}

/// An answer's body, from its beginning; an end without TLS's own end is an error.
pub type Body = BufReader<StreamOwned<ClientConnection, TcpStream>>;

impl Server {
    /// Name, and name with port.
    fn parts(&self) -> (String, String) {
        match self.host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => {
                (name.trim_matches(['[', ']']).to_owned(), self.host.clone())
            }
            _ => (self.host.clone(), format!("{}:443", self.host)),
        }
    }

    /// A connection to the host, greeted.
    pub fn connect(&self) -> Result<StreamOwned<ClientConnection, TcpStream>, Failed> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pin = Arc::new(Pin::new(self.fingerprint, provider.clone()));
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.dangerous().with_custom_certificate_verifier(pin).with_no_client_auth();
        let (name, address) = self.parts();
        let name = ServerName::try_from(name).map_err(|e| format!("{}: {e}", self.host))?;
        let connection = ClientConnection::new(Arc::new(config), name)?;
        let stream =
            TcpStream::connect(&address).map_err(|e| format!("{address}: {e} (is radond running there?)"))?;
        stream.set_nodelay(true)?;
        Ok(StreamOwned::new(connection, stream))
    }

    /// One request; `length` bytes of `body` are sent. The answer's body, if its status is 200.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        length: u64,
        body: &mut dyn Read,
    ) -> Result<Body, Failed> {
        let mut stream = self.connect()?;
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Length: {length}\r\nContent-Type: application/json\r\n\r\n",
            self.host
        );
        stream.write_all(head.as_bytes())?;
        // Who refuses answers before the body's end.
        let sent = io::copy(&mut body.take(length), &mut stream).and_then(|_| stream.flush());
        let mut answer = BufReader::new(stream);
        let status = match head_of(&mut answer) {
            Ok(status) => status,
            Err(error) => return Err(sent.err().unwrap_or(error).into()),
        };
        if status == 200 {
            return Ok(answer);
        }
        let mut why = String::new();
        // The words are for people; what of them cannot be read is left out.
        let _ = answer.take(MOST_HEAD).read_to_string(&mut why);
        Err(format!("the host answers {status}: {}", why.trim()).into())
    }
}

/// Reads an answer's head; its status.
fn head_of(answer: &mut impl BufRead) -> io::Result<u16> {
    let mut head = answer.take(MOST_HEAD);
    let mut first = String::new();
    head.read_line(&mut first)?;
    let status = first.split_whitespace().nth(1).and_then(|s| s.parse().ok());
    let status = status.filter(|_| first.starts_with("HTTP/1."));
    let status = status.ok_or_else(|| io::Error::other("this is no HTTP: is it radond?"))?;
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim_end().is_empty() {
            return Ok(status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_or_refused() {
        assert_eq!(head_of(&mut &b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody"[..]).unwrap(), 200);
        for bad in ["", "HTTP/1.1 200 OK\r\nA: b", "SSH-2.0\r\n\r\n", "HTTP/1.1\r\n\r\n"] {
            assert!(head_of(&mut bad.as_bytes()).is_err(), "{bad}");
        }
        let long = format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(100_000));
        assert!(head_of(&mut long.as_bytes()).is_err());
    }

    #[test]
    fn hosts_have_a_port() {
        let parts = |host: &str| Server { host: host.into(), fingerprint: None }.parts();
        assert_eq!(parts("a"), ("a".into(), "a:443".into()));
        assert_eq!(parts("a:8443"), ("a".into(), "a:8443".into()));
        assert_eq!(parts("[::1]:8443"), ("::1".into(), "[::1]:8443".into()));
    }
}
