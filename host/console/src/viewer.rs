//! A client of the daemon's socket.

use crate::history::History;
use crate::request::LONGEST;
use radon_domain::uuid::Uuid;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// What a client is being served.
#[derive(Debug)]
pub enum Stage {
    /// Its request has not come to its end.
    Greeting(Vec<u8>),
    /// It sees a VM's console and types, from a place of the history on.
    Attached {
        /// Whose.
        vm: Uuid,
        /// Of the next byte for it.
        place: u64,
    },
    /// It gets what is left, and that is all.
    Ending,
}

/// A client.
#[derive(Debug)]
pub struct Viewer {
    stream: UnixStream,
    /// Where it is.
    pub stage: Stage,
    /// Bytes for it that come before anything of a history.
    first: Vec<u8>,
}

/// What a client says first.
#[derive(Debug)]
pub struct Greeting {
    /// Its request, without the end of the line.
    pub line: Vec<u8>,
    /// What it has typed behind it already.
    pub rest: Vec<u8>,
}

/// The client is gone, or has all that it asked for.
#[derive(Debug)]
pub struct Gone;

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Viewer {
    /// Just connected.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, stage: Stage::Greeting(Vec::new()), first: Vec::new() })
    }

    /// Bytes that it has sent, at most so many; empty for none now.
    pub fn read(&mut self, most: usize) -> Result<Vec<u8>, Gone> {
        let mut bytes = vec![0; most];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(Gone),
            Ok(count) => {
                bytes.truncate(count);
                Ok(bytes)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(Vec::new())
            }
            Err(_) => Err(Gone),
        }
    }

    /// The line of its request, once it is whole.
    pub fn greet(&mut self) -> Result<Option<Greeting>, Gone> {
        let bytes = self.read(LONGEST)?;
        let Stage::Greeting(line) = &mut self.stage else { return Ok(None) };
        line.extend(bytes);
        if let Some(end) = line.iter().position(|b| *b == b'\n') {
            let rest = line.split_off(end);
            let line = std::mem::take(line);
            return Ok(Some(Greeting { line, rest: rest.get(1..).unwrap_or_default().to_vec() }));
        }
        if line.len() >= LONGEST {
            self.end(b"error the request is too long\n".to_vec());
        }
        Ok(None)
    }

    /// From now on it is attached; it first gets these bytes.
    pub fn attach(&mut self, vm: Uuid, place: u64, first: &[u8]) {
        self.first.extend_from_slice(first);
        self.stage = Stage::Attached { vm, place };
    }

    /// It gets these bytes, and that is all.
    pub fn end(&mut self, bytes: Vec<u8>) {
        self.first.extend(bytes);
        self.stage = Stage::Ending;
    }

    /// The VM whose console it sees.
    pub fn vm(&self) -> Option<Uuid> {
        match self.stage {
            Stage::Attached { vm, .. } => Some(vm),
            _ => None,
        }
    }

    /// Whether there is something for it.
    pub fn wants_output(&self, history: Option<&History>) -> bool {
        match self.stage {
            _ if !self.first.is_empty() => true,
            Stage::Attached { place, .. } => history.is_some_and(|h| h.end() > place),
            Stage::Ending => true,
            Stage::Greeting(_) => false,
        }
    }

    /// Sends what it takes.
    pub fn write(&mut self, history: Option<&History>) -> Result<(), Gone> {
        if let (Stage::Attached { place, .. }, Some(history)) = (&mut self.stage, history)
            && history.start() > *place
        {
            let lost = history.start() - *place;
            *place = history.start();
            self.first.extend(format!("\r\n[{lost} bytes are left out]\r\n").as_bytes());
        }
        if !self.first.is_empty() {
            let count = self.send_first()?;
            self.first.drain(..count);
            return Ok(());
        }
        match &mut self.stage {
            Stage::Attached { place, .. } => {
                let piece = history.map(|h| h.piece(*place).1).unwrap_or_default();
                *place += send(&self.stream, piece)? as u64;
                Ok(())
            }
            Stage::Ending => Err(Gone),
            Stage::Greeting(_) => Ok(()),
        }
    }

    fn send_first(&self) -> io::Result<usize> {
        send(&self.stream, &self.first)
    }
}

fn send(mut stream: &UnixStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write(bytes) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        result => result,
    }
}

impl AsFd for Viewer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
