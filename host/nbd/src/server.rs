//! Clients over a Unix socket or TCP, each in a thread of its own.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::{Export, serve};

/// Most clients at a time; further ones wait to be accepted.
const CLIENTS: usize = 64;

/// Serves exports to anybody who connects.
#[derive(Clone)]
pub struct Server {
    exports: Arc<[Export]>,
    clients: Arc<AtomicUsize>,
}

impl Server {
    /// A server of these exports.
    pub fn new(exports: Vec<Export>) -> Self {
        Self { exports: exports.into(), clients: Arc::new(AtomicUsize::new(0)) }
    }

    /// Serves a Unix socket; `lives` says after each client whether to go on.
    pub fn unix(&self, listener: &UnixListener, mut lives: impl FnMut(usize) -> bool) -> io::Result<()> {
        for (number, stream) in listener.incoming().enumerate() {
            let stream = stream?;
            let input = stream.try_clone()?;
            self.client(input, stream);
            if !lives(number + 1) {
                break;
            }
        }
        self.drain();
        Ok(())
    }

    /// Serves TCP.
    pub fn tcp(&self, listener: &TcpListener, mut lives: impl FnMut(usize) -> bool) -> io::Result<()> {
        for (number, stream) in listener.incoming().enumerate() {
            let stream = stream?;
            stream.set_nodelay(true)?;
            let input = stream.try_clone()?;
            self.client(input, stream);
            if !lives(number + 1) {
                break;
            }
        }
        self.drain();
        Ok(())
    }

    fn client(&self, input: impl Read + Send + 'static, output: impl Write + Send + 'static) {
        while self.clients.load(Ordering::Acquire) >= CLIENTS {
            thread::park_timeout(std::time::Duration::from_millis(10));
        }
        self.clients.fetch_add(1, Ordering::AcqRel);
        let server = self.clone();
        thread::spawn(move || {
            let leave = Leave(&server.clients);
            // What went wrong is between the client and its connection, which is closed now.
            let _ = serve(
                BufReader::with_capacity(64 << 10, input),
                BufWriter::with_capacity(64 << 10, output),
                &server.exports,
            );
            drop(leave);
        });
    }

    /// Waits for the clients that are there.
    fn drain(&self) {
        while self.clients.load(Ordering::Acquire) > 0 {
            thread::park_timeout(std::time::Duration::from_millis(10));
        }
    }
}

/// A client leaves, however its thread ends.
struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
