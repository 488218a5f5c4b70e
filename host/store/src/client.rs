//! A client of the store: requests one after the other, watches, transactions that are tried again on a conflict.

use crate::perm::Perm;
use crate::wire;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use xen_abi::xs_wire::*;

/// Where the daemon listens.
const SOCKETS: [&str; 2] = ["/run/xenstored/socket", "/var/run/xenstored/socket"];

/// How long the daemon may take for an answer.
const ANSWER: Duration = Duration::from_secs(60);

/// The store refused, or is gone.
#[derive(Debug, thiserror::Error)]
#[error("the store refused to {what} {path}: {source}")]
pub struct Error {
    /// The operation.
    pub what: &'static str,
    /// On what.
    pub path: String,
    /// Its errno.
    pub source: io::Error,
}

/// Result of a request.
pub type Result<T> = std::result::Result<T, Error>;

/// A transaction; [`Tx::NONE`] for single operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tx(u32);

impl Tx {
    /// Outside any transaction.
    pub const NONE: Self = Self(0);
}

/// A change that a watch saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// The node.
    pub path: String,
    /// The watch's token.
    pub token: String,
}

#[derive(Debug)]
enum Link {
    Socket(UnixStream),
    Kernel(File),
}

/// An answer.
struct Message {
    kind: u32,
    /// Its request's.
    id: u32,
    body: Vec<u8>,
}

/// A connection to the store.
#[derive(Debug)]
pub struct Xenstore {
    link: Link,
    next_id: u32,
    events: VecDeque<WatchEvent>,
    /// What has been read and is not a whole message yet.
    input: Vec<u8>,
}

impl Xenstore {
    /// Connects to the daemon's socket, or through the kernel where there is none.
    pub fn open() -> Result<Self> {
        for path in SOCKETS {
            if let Ok(socket) = UnixStream::connect(path) {
                return Ok(Self::over(Link::Socket(socket)));
            }
        }
        let file = radon_xen::xenbus::open_client().map_err(|source| Error {
            what: "answer at",
            path: format!("{} and /dev/xen/xenbus (is a store running?)", SOCKETS[0]),
            source,
        })?;
        Ok(Self::over(Link::Kernel(file)))
    }

    /// Speaks over a socket that is there already.
    pub fn over_socket(socket: UnixStream) -> Self {
        Self::over(Link::Socket(socket))
    }

    fn over(link: Link) -> Self {
        Self { link, next_id: 1, events: VecDeque::new(), input: Vec::new() }
    }

    /// A node's value, if there is such a node.
    pub fn read(&mut self, tx: Tx, path: &str) -> Result<Option<String>> {
        match self.call(XS_READ, tx, &text(&[path])) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("read", path, e)),
        }
    }

    /// The names of a node's children; empty if there is no such node.
    pub fn list(&mut self, tx: Tx, path: &str) -> Result<Vec<String>> {
        match self.call(XS_DIRECTORY, tx, &text(&[path])) {
            Ok(bytes) => Ok(strings(&bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(failed("list", path, e)),
        }
    }

    /// Writes a node, and makes it if need be.
    pub fn write(&mut self, tx: Tx, path: &str, value: &str) -> Result<()> {
        let mut payload = text(&[path]);
        payload.extend_from_slice(value.as_bytes());
        self.done("write", path, XS_WRITE, tx, &payload)
    }

    /// Removes a node and all below it; none is fine.
    pub fn remove(&mut self, tx: Tx, path: &str) -> Result<()> {
        match self.call(XS_RM, tx, &text(&[path])) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, e)),
            _ => Ok(()),
        }
    }

    /// Sets who may do what with a node.
    pub fn set_perms(&mut self, tx: Tx, path: &str, perms: &[Perm]) -> Result<()> {
        let mut payload = text(&[path]);
        payload.extend(perms.iter().flat_map(|p| text(&[&p.to_string()])));
        self.done("set permissions of", path, XS_SET_PERMS, tx, &payload)
    }

    /// Runs `body` in a transaction, again and again until it is not disturbed. An error if that takes too long: a guest can
    /// write where we do.
    pub fn transaction<T>(&mut self, mut body: impl FnMut(&mut Self, Tx) -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + ANSWER;
        loop {
            let id = self
                .call(XS_TRANSACTION_START, Tx::NONE, &text(&[""]))
                .map_err(|e| failed("begin", "a transaction", e))?;
            let id = String::from_utf8_lossy(&id);
            let tx = id
                .trim_end_matches('\0')
                .parse()
                .map(Tx)
                .map_err(|_| failed("begin", "a transaction", io::ErrorKind::InvalidData.into()))?;
            let result = body(self, tx);
            let end = if result.is_ok() { "T" } else { "F" };
            match self.call(XS_TRANSACTION_END, tx, &text(&[end])) {
                // EAGAIN: somebody else wrote there in the meantime.
                Err(e)
                    if e.kind() == io::ErrorKind::WouldBlock
                        && result.is_ok()
                        && Instant::now() < deadline => {}
                Err(e) if result.is_ok() => return Err(failed("commit", "a transaction", e)),
                _ => return result,
            }
        }
    }

    /// Watches a node and all below it.
    pub fn watch(&mut self, path: &str, token: &str) -> Result<()> {
        self.done("watch", path, XS_WATCH, Tx::NONE, &text(&[path, token]))
    }

    /// Ends a watch.
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<()> {
        self.done("unwatch", path, XS_UNWATCH, Tx::NONE, &text(&[path, token]))
    }

    /// The next change, or `None` at the deadline.
    pub fn next_event(&mut self, deadline: Instant) -> Result<Option<WatchEvent>> {
        while self.events.is_empty() {
            // Anything but a change is an answer that nobody waits for any more.
            if self.receive(deadline).map_err(|e| failed("report", "changes", e))?.is_none() {
                return Ok(None);
            }
        }
        Ok(self.events.pop_front())
    }

    /// Whether there are changes that have been read already, with an answer: the descriptor is not readable for these.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty() || matches!(wire::split(&self.input), Ok(Some(_)))
    }

    /// Tells the daemon about a new domain's ring and port.
    pub fn introduce(&mut self, domid: u16, frame: u64, port: u32) -> Result<()> {
        let payload = text(&[&domid.to_string(), &frame.to_string(), &port.to_string()]);
        self.done("introduce domain", &domid.to_string(), XS_INTRODUCE, Tx::NONE, &payload)
    }

    /// Tells the daemon that a domain's ring is not to be used any more; none is fine.
    pub fn release(&mut self, domid: u16) -> Result<()> {
        match self.call(XS_RELEASE, Tx::NONE, &text(&[&domid.to_string()])) {
            Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
                Err(failed("release domain", &domid.to_string(), e))
            }
            _ => Ok(()),
        }
    }

    fn done(&mut self, what: &'static str, path: &str, kind: u32, tx: Tx, payload: &[u8]) -> Result<()> {
        self.call(kind, tx, payload).map(drop).map_err(|e| failed(what, path, e))
    }

    /// Sends a request and waits for its answer; changes that arrive before it are kept.
    fn call(&mut self, kind: u32, tx: Tx, payload: &[u8]) -> io::Result<Vec<u8>> {
        if payload.len() > wire::PAYLOAD_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let req_id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1).max(1);
        self.send(&wire::message(kind, req_id, tx.0, payload))?;
        let deadline = Instant::now() + ANSWER;
        loop {
            match self.receive(deadline)? {
                None => return Err(io::ErrorKind::TimedOut.into()),
                Some(Message { kind: XS_ERROR, body, id }) if id == req_id => return Err(errno(&body)),
                Some(Message { body, id, .. }) if id == req_id => return Ok(body),
                Some(_) => {}
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.link {
            Link::Socket(socket) => socket.write_all(bytes),
            Link::Kernel(file) => file.write_all(bytes),
        }
    }

    /// The next answer; changes are put into the queue, and one of them is reported as a message with no body. `None` at the
    /// deadline.
    fn receive(&mut self, deadline: Instant) -> io::Result<Option<Message>> {
        loop {
            if let Some(message) = self.take_message()? {
                if message.kind != XS_WATCH_EVENT {
                    return Ok(Some(message));
                }
                let mut words = strings(&message.body).into_iter();
                if let (Some(path), Some(token)) = (words.next(), words.next()) {
                    let event = WatchEvent { path, token };
                    // It says to look again, however often: a guest that writes fast fills no memory here.
                    if !self.events.contains(&event) {
                        self.events.push_back(event);
                    }
                }
                return Ok(Some(Message { id: 0, body: Vec::new(), ..message }));
            }
            if !self.wait(deadline)? {
                return Ok(None);
            }
            let mut chunk = [0; 4096 + 16];
            let count = match &mut self.link {
                Link::Socket(socket) => socket.read(&mut chunk)?,
                Link::Kernel(file) => file.read(&mut chunk)?,
            };
            if count == 0 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            self.input.extend_from_slice(chunk.get(..count).unwrap_or_default());
        }
    }

    fn take_message(&mut self) -> io::Result<Option<Message>> {
        let Some((found, length)) = wire::split(&self.input).map_err(io::Error::other)? else {
            return Ok(None);
        };
        let message = Message { kind: found.kind, id: found.req_id, body: found.payload.to_vec() };
        self.input.drain(..length);
        Ok(Some(message))
    }

    /// Waits until there is something to read; `false` at the deadline.
    fn wait(&self, deadline: Instant) -> io::Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::IN)], Some(&timeout)) {
                Ok(count) => return Ok(count > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Readable when there may be changes.
impl AsFd for Xenstore {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.link {
            Link::Socket(socket) => socket.as_fd(),
            Link::Kernel(file) => file.as_fd(),
        }
    }
}

fn failed(what: &'static str, path: &str, source: io::Error) -> Error {
    Error { what, path: path.to_owned(), source }
}

/// Strings, each ended by a zero.
fn text(words: &[&str]) -> Vec<u8> {
    words.iter().flat_map(|w| w.bytes().chain([0])).collect()
}

fn strings(bytes: &[u8]) -> Vec<String> {
    let ended = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if ended.is_empty() {
        return Vec::new();
    }
    ended.split(|b| *b == 0).map(|s| String::from_utf8_lossy(s).into_owned()).collect()
}

/// The daemon's names of errors (`xs_wire.h`) that matter to a client.
fn errno(body: &[u8]) -> io::Error {
    let name = String::from_utf8_lossy(body.strip_suffix(&[0]).unwrap_or(body)).into_owned();
    let kind = match name.as_str() {
        "ENOENT" => io::ErrorKind::NotFound,
        "EAGAIN" => io::ErrorKind::WouldBlock,
        "EINVAL" => io::ErrorKind::InvalidInput,
        "EEXIST" => io::ErrorKind::AlreadyExists,
        "EACCES" | "EPERM" => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u32, req_id: u32, body: &[u8]) -> Vec<u8> {
        wire::message(kind, req_id, 0, body)
    }

    #[test]
    fn changes_in_front_of_an_answer_are_kept_once() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        for path in ["a", "a", "b", "a"] {
            theirs.write_all(&message(XS_WATCH_EVENT, 0, &text(&[path, "t"]))).unwrap();
        }
        theirs.write_all(&message(XS_READ, 1, b"value")).unwrap();
        theirs.write_all(&message(XS_WATCH_EVENT, 0, &text(&["c", "t"]))).unwrap();
        let mut store = Xenstore::over_socket(ours);
        assert_eq!(store.read(Tx::NONE, "x").unwrap().as_deref(), Some("value"));
        let mut seen = Vec::new();
        while store.has_events()
            && let Some(event) = store.next_event(Instant::now()).unwrap()
        {
            seen.push(event.path);
        }
        assert_eq!(seen, ["a", "b", "c"]);
    }

    #[test]
    fn a_message_longer_than_the_protocol_allows_is_an_error() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut head = message(XS_READ, 1, b"");
        head[12..16].copy_from_slice(&(XENSTORE_PAYLOAD_MAX + 1).to_le_bytes());
        theirs.write_all(&head).unwrap();
        assert!(Xenstore::over_socket(ours).read(Tx::NONE, "x").is_err());
    }
}
