//! A server for network block devices, after the NBD project's `doc/proto.md`.
//!
//! Fixed newstyle negotiation; simple or structured replies; `base:allocation`, and a context of our own that says which blocks
//! have changed since an older state ([`Export::changed`]). A client is untrusted: whatever it sends, [`serve`] ends with the
//! connection or goes on, and keeps no more of it than one request.
//!
//! One connection is served in sequence; a client that wants more opens several ([`Device`] keeps nothing between requests, so
//! that is announced). There is no encryption: serve a Unix socket, or a network that is trusted.

#![forbid(unsafe_code)]

mod device;
mod handshake;
mod server;
mod transmission;
mod wire;

pub use device::{Access, Device, Export};
pub use server::Server;

use std::io::{self, Read, Write};

/// Serves one client until it leaves. An error is the connection's, or a client that breaks the protocol.
pub fn serve(input: impl Read, output: impl Write, exports: &[Export]) -> io::Result<()> {
    let mut connection = wire::Connection { input, output };
    match handshake::negotiate(&mut connection, exports)? {
        Some(session) => transmission::run(&mut connection, &session),
        None => Ok(()),
    }
}
