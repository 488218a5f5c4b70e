//! Two daemons behind one face: ours, in this process, and Debian's, a process of its own. Two processes of the control
//! domain and two guests are connected to each.

use crate::machine::{Fake, Guest, Message, Tool};
use radon_store::daemon::server::Server;
use radon_store::perm::DomId;
use radon_store::{Store, wire};
use radon_xen::page::SharedPages;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use xen_abi::xs_wire::*;

/// Clients: two processes, then guests 1 and 2.
pub const CLIENTS: usize = 4;
const TOOLS: usize = 2;

/// The domain of a client that is a guest.
pub fn domain(who: usize) -> Option<DomId> {
    who.checked_sub(TOOLS).map(|n| DomId(n as u16 + 1))
}

/// Longest time for a reply.
const PATIENCE: Duration = Duration::from_secs(5);

/// A daemon with its clients.
pub trait Daemon {
    /// Sends a whole message.
    fn put(&mut self, who: usize, bytes: &[u8]);
    /// The next message for a client; panics if none comes.
    fn next(&mut self, who: usize) -> Message;
    /// Gives a guest a new ring, before it is introduced.
    fn create(&mut self, who: usize);
    /// The guest is gone, as the hypervisor sees it, and the daemon has noticed. Returns events that came meanwhile.
    fn kill(&mut self, who: usize) -> Vec<(usize, String)>;
}

/// What one request has led to: its reply, as kind and text, and the events that everybody got, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub reply: (u32, String),
    pub events: Vec<(usize, String)>,
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.payload).replace('\0', "|")
}

/// One request, and everything that comes of it.
pub fn ask(
    daemon: &mut dyn Daemon,
    alive: &[bool],
    who: usize,
    kind: u32,
    tx_id: u32,
    payload: &[u8],
) -> Effect {
    let mut events = Vec::new();
    daemon.put(who, &wire::message(kind, 7, tx_id, payload));
    let mut reply = reply(daemon, who, &mut events);
    if reply.0 == XS_DIRECTORY_PART {
        // The number of a node's generation is anyone's.
        reply.1 = reply.1.split_once('|').map_or(reply.1.clone(), |(_, names)| names.to_owned());
    }
    events.extend(settled(daemon, alive));
    events.sort();
    Effect { reply, events }
}

/// All events that are under way. Each client asks something harmless; what came before its reply was told by then.
pub fn settled(daemon: &mut dyn Daemon, alive: &[bool]) -> Vec<(usize, String)> {
    let mut events = Vec::new();
    for who in (0..CLIENTS).filter(|who| alive[*who]) {
        daemon.put(who, &wire::message(XS_GET_DOMAIN_PATH, 7, 0, b"9\0"));
        let reply = reply(daemon, who, &mut events);
        assert_eq!(reply, (XS_GET_DOMAIN_PATH, "/local/domain/9|".into()));
    }
    events
}

fn reply(daemon: &mut dyn Daemon, who: usize, events: &mut Vec<(usize, String)>) -> (u32, String) {
    loop {
        let message = daemon.next(who);
        if message.kind != XS_WATCH_EVENT {
            return (message.kind, text(&message));
        }
        events.push((who, text(&message)));
    }
}

/// Ours.
pub struct Ours {
    server: Server<Fake>,
    fake: Fake,
    tools: Vec<Tool>,
    guests: Vec<Guest>,
}

impl Ours {
    pub fn start() -> Self {
        let fake = Fake::default();
        let mut server = Server::new(Store::default(), Some(fake.clone())).unwrap();
        server.store.furnish();
        fake.create(DomId::DOM0);
        server.domains.connect(DomId::DOM0, 0, 1).unwrap();
        server.store.adopt(DomId::DOM0, 0, 1);
        let mut tools = Vec::new();
        for _ in 0..TOOLS {
            let (ours, theirs) = UnixStream::pair().unwrap();
            server.add_client(theirs.into(), None, Vec::new()).unwrap();
            tools.push(Tool::new(ours));
        }
        let guests = (TOOLS..CLIENTS).map(|who| fake.create(domain(who).unwrap())).collect();
        Self { server, fake, tools, guests }
    }

    fn settle(&mut self) {
        loop {
            self.fake.deliver(&mut self.server);
            self.server.turn(Some(Duration::ZERO)).unwrap();
            if !self.server.is_busy() && !self.fake.has_events() {
                return;
            }
        }
    }

    /// Whether the store is in order.
    pub fn check(&self) -> Result<(), String> {
        self.server.store.check()
    }
}

impl Daemon for Ours {
    fn put(&mut self, who: usize, bytes: &[u8]) {
        let Some(domid) = domain(who) else { return self.tools[who].put(bytes) };
        let mut rest = bytes;
        let end = Instant::now() + PATIENCE;
        while !rest.is_empty() {
            assert!(Instant::now() < end, "the ring stays full");
            rest = &rest[self.guests[who - TOOLS].put(rest)..];
            self.fake.event(domid);
            self.settle();
        }
    }

    fn next(&mut self, who: usize) -> Message {
        let end = Instant::now() + PATIENCE;
        loop {
            self.settle();
            let message = match domain(who) {
                None => self.tools[who].message(),
                Some(domid) => {
                    let guest = &mut self.guests[who - TOOLS];
                    guest.take();
                    self.fake.event(domid);
                    guest.message()
                }
            };
            if let Some(message) = message {
                return message;
            }
            assert!(Instant::now() < end, "ours does not answer client {who}");
        }
    }

    fn create(&mut self, who: usize) {
        self.guests[who - TOOLS] = self.fake.create(domain(who).unwrap());
    }

    fn kill(&mut self, who: usize) -> Vec<(usize, String)> {
        self.fake.destroy(domain(who).unwrap());
        self.settle();
        Vec::new()
    }
}

/// Debian's, with libraries that pretend (`xtask/store/no-xen.c`).
pub struct Debians {
    dir: TempDir,
    child: Child,
    events: File,
    tools: Vec<Tool>,
    guests: Vec<Guest>,
}

/// The value of a variable that `cargo xtask test differential` sets.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; `cargo xtask test differential` does"))
}

impl Debians {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("events");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let events = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        let guests = (TOOLS..CLIENTS).map(|who| ring(dir.path(), domain(who).unwrap())).collect();
        let mut command = Command::new(variable("RADON_XENSTORED"));
        command.args(["--no-fork"]).env("NO_XEN_DIR", dir.path());
        command.env("XENSTORED_RUNDIR", dir.path()).env("XENSTORED_ROOTDIR", dir.path());
        command.env("LD_PRELOAD", variable("RADON_NO_XEN"));
        command.env("LD_LIBRARY_PATH", variable("RADON_XEN_LIBRARIES"));
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut daemon = Self { dir, child, events, tools: Vec::new(), guests };
        let end = Instant::now() + PATIENCE;
        while daemon.tools.len() < TOOLS {
            match UnixStream::connect(daemon.dir.path().join("socket")) {
                Ok(stream) => daemon.tools.push(Tool::new(stream)),
                Err(error) => assert!(Instant::now() < end, "Debian's xenstored does not answer: {error}"),
            }
            std::thread::yield_now();
        }
        daemon
    }

    /// Panics when it cannot answer any more.
    fn check_alive(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "Debian's xenstored has died: {ended:?}");
    }

    fn event(&mut self, port: u32) {
        self.events.write_all(&port.to_le_bytes()).unwrap();
    }
}

/// A new ring in a file.
fn ring(dir: &Path, domid: DomId) -> Guest {
    let path = dir.join(format!("ring-{domid}"));
    let _ = fs::remove_file(&path);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
    file.set_len(4096).unwrap();
    Guest::over(domid, Arc::new(SharedPages::map(&file, 0, 1).unwrap()))
}

impl Daemon for Debians {
    fn put(&mut self, who: usize, bytes: &[u8]) {
        let Some(domid) = domain(who) else { return self.tools[who].put(bytes) };
        let mut rest = bytes;
        let end = Instant::now() + PATIENCE;
        while !rest.is_empty() {
            assert!(Instant::now() < end, "the ring stays full");
            self.check_alive();
            let put = self.guests[who - TOOLS].put(rest);
            rest = &rest[put..];
            if put > 0 {
                self.event(100 + u32::from(domid.0));
            }
            std::thread::yield_now();
        }
    }

    fn next(&mut self, who: usize) -> Message {
        let end = Instant::now() + PATIENCE;
        loop {
            let message = match domain(who) {
                None => self.tools[who].message(),
                Some(domid) => {
                    let guest = &mut self.guests[who - TOOLS];
                    let was_full = guest.take_as_linux();
                    let message = guest.message();
                    if was_full {
                        self.event(100 + u32::from(domid.0));
                    }
                    message
                }
            };
            if let Some(message) = message {
                return message;
            }
            self.check_alive();
            assert!(Instant::now() < end, "Debian's xenstored does not answer client {who}");
            std::thread::yield_now();
        }
    }

    fn create(&mut self, who: usize) {
        let domid = domain(who).unwrap();
        self.guests[who - TOOLS] = ring(self.dir.path(), domid);
    }

    fn kill(&mut self, who: usize) -> Vec<(usize, String)> {
        let domid = domain(who).unwrap();
        fs::remove_file(self.dir.path().join(format!("ring-{domid}"))).unwrap();
        self.event(1);
        // It looks for the dead when it gets to it: until then the domain is connected.
        let end = Instant::now() + PATIENCE;
        let mut events = Vec::new();
        loop {
            self.put(0, &wire::message(XS_IS_DOMAIN_INTRODUCED, 7, 0, format!("{domid}\0").as_bytes()));
            if reply(self, 0, &mut events).1 == "F|" {
                return events;
            }
            assert!(Instant::now() < end, "Debian's xenstored does not notice that {domid} is gone");
        }
    }
}

impl Drop for Debians {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
