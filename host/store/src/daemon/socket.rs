//! A process's connection.

use crate::connection::Outbox;
use crate::wire::{self, Oversized};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use std::io::IoSlice;
use std::os::fd::OwnedFd;

/// One client of the socket.
#[derive(Debug)]
pub struct Client {
    /// The connection.
    pub fd: OwnedFd,
    input: Vec<u8>,
    /// Bytes of `input` that are dealt with.
    done: usize,
    /// Whether the loop waits for room to send.
    pub blocked: bool,
}

/// Why a client is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It has closed the connection, or the connection failed.
    Closed,
    /// It does not speak the protocol.
    Confused(Oversized),
}

impl Client {
    /// A new one; `rest` is what a predecessor had fetched.
    pub fn new(fd: OwnedFd, rest: Vec<u8>) -> Self {
        Self { fd, input: rest, done: 0, blocked: false }
    }

    /// Fetched bytes that are not dealt with.
    pub fn rest(&self) -> &[u8] {
        self.input.get(self.done..).unwrap_or_default()
    }

    /// The range of the next complete request in the input.
    pub fn next_request(&self) -> Result<Option<usize>, Gone> {
        match wire::split(self.rest()) {
            Ok(found) => Ok(found.map(|(_, used)| used)),
            Err(oversized) => Err(Gone::Confused(oversized)),
        }
    }

    /// The next request was dealt with.
    pub fn advance(&mut self, used: usize) {
        self.done += used;
        if self.done >= self.input.len() {
            self.input.clear();
            self.done = 0;
        }
    }

    /// Fetches what there is; whether there was anything.
    pub fn fetch(&mut self, scratch: &mut [u8]) -> Result<bool, Gone> {
        match recv(&self.fd, &mut *scratch, RecvFlags::DONTWAIT) {
            Ok((_, count)) => {
                if count == 0 {
                    return Err(Gone::Closed);
                }
                self.input.drain(..self.done);
                self.done = 0;
                self.input.extend_from_slice(scratch.get(..count).unwrap_or_default());
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(_) => Err(Gone::Closed),
        }
    }

    /// Sends what the connection takes.
    pub fn send(&mut self, out: &mut Outbox) -> Result<(), Gone> {
        while !out.is_empty() {
            match self.send_some(out) {
                Ok(count) => out.advance(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.blocked = true;
                    return Ok(());
                }
                Err(_) => return Err(Gone::Closed),
            }
        }
        self.blocked = false;
        Ok(())
    }

    fn send_some(&self, out: &Outbox) -> Result<usize, Errno> {
        const PIECES: usize = 64;
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let mut pieces = out.pieces();
        let first = pieces.next().unwrap_or_default();
        match pieces.next() {
            None => send(&self.fd, first, flags),
            Some(second) => {
                let all = [first, second].into_iter().chain(pieces).take(PIECES);
                let all: Vec<IoSlice<'_>> = all.map(IoSlice::new).collect();
                sendmsg(&self.fd, &all, &mut SendAncillaryBuffer::default(), flags)
            }
        }
    }
}
