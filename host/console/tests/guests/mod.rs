//! Guests' ends of rings, and a daemon that serves them, without Xen.

use radon_console::daemon::{Daemon, Ears, Settings};
use radon_console::discovery::{Found, Terminal};
use radon_console::machine::Machine;
use radon_domain::uuid::Uuid;
use radon_linux::mailbox::{Mailbox, Post, mailbox};
use radon_xen::evtchn::Port;
use radon_xen::page::SharedPages;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use xen_abi::console::XenconsInterface;

pub const OUT_CONS: usize = offset_of!(XenconsInterface, out_cons);
pub const OUT_PROD: usize = offset_of!(XenconsInterface, out_prod);
pub const IN_CONS: usize = offset_of!(XenconsInterface, in_cons);
pub const IN_PROD: usize = offset_of!(XenconsInterface, in_prod);

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Channels {
    bound: BTreeSet<Port>,
    pending: BTreeSet<Port>,
    masked: BTreeSet<Port>,
}

/// A machine with guests' pages; a domain's channel is its number.
pub struct Fake {
    pages: Mutex<BTreeMap<u16, Arc<SharedPages>>>,
    channels: Mutex<Channels>,
    bell: (Post<()>, Mailbox<()>),
    pub notified: AtomicU32,
}

impl Fake {
    pub fn new() -> Arc<Self> {
        let (pages, channels) = (Mutex::default(), Mutex::default());
        Arc::new(Self { pages, channels, bell: mailbox().unwrap(), notified: AtomicU32::new(0) })
    }

    pub fn guest(self: &Arc<Self>, domid: u16) -> Guest {
        let page = Arc::new(SharedPages::anonymous(1).unwrap());
        self.pages.lock().unwrap().insert(domid, page.clone());
        Guest { page, port: Port(domid.into()), machine: self.clone() }
    }

    fn raise(&self, port: Port) {
        let mut channels = self.channels.lock().unwrap();
        if channels.bound.contains(&port) {
            channels.pending.insert(port);
            self.bell.0.send(());
        }
    }
}

/// What a daemon holds of it: gone with it, as with a process.
pub struct Opened(Arc<Fake>);

impl Drop for Opened {
    fn drop(&mut self) {
        *self.0.channels.lock().unwrap() = Channels::default();
    }
}

impl Machine for Opened {
    type Page = Arc<SharedPages>;

    fn map(&self, domid: u16, _: u64) -> io::Result<Arc<SharedPages>> {
        let pages = self.0.pages.lock().unwrap();
        pages.get(&domid).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn bind(&self, domid: u16, _: u32) -> io::Result<Port> {
        let port = Port(domid.into());
        let mut channels = self.0.channels.lock().unwrap();
        channels.masked.remove(&port);
        if channels.bound.insert(port) { Ok(port) } else { Err(io::ErrorKind::AlreadyExists.into()) }
    }

    fn unbind(&self, port: Port) {
        self.0.channels.lock().unwrap().bound.remove(&port);
    }

    fn notify(&self, _: Port) {
        self.0.notified.fetch_add(1, Ordering::SeqCst);
    }

    fn pending(&self) -> io::Result<Vec<Port>> {
        self.0.bell.1.take();
        let mut channels = self.0.channels.lock().unwrap();
        let ready: Vec<Port> = channels.pending.difference(&channels.masked).copied().collect();
        for port in &ready {
            channels.pending.remove(port);
            channels.masked.insert(*port);
        }
        Ok(ready)
    }

    fn unmask(&self, port: Port) {
        let mut channels = self.0.channels.lock().unwrap();
        channels.masked.remove(&port);
        if channels.pending.contains(&port) {
            self.0.bell.0.send(());
        }
    }

    fn events(&self) -> BorrowedFd<'_> {
        self.0.bell.1.as_fd()
    }
}

/// A guest's end.
pub struct Guest {
    pub page: Arc<SharedPages>,
    port: Port,
    machine: Arc<Fake>,
}

impl Guest {
    /// Writes what fits, as Linux's driver does; how much.
    pub fn write(&self, bytes: &[u8]) -> usize {
        let (cons, prod) = (self.page.load(OUT_CONS), self.page.load(OUT_PROD));
        let room = 2048 - prod.wrapping_sub(cons) as usize;
        let count = bytes.len().min(room);
        for (n, byte) in bytes[..count].iter().enumerate() {
            self.page.write(1024 + (prod as usize + n) % 2048, &[*byte]);
        }
        self.page.store(OUT_PROD, prod.wrapping_add(count as u32));
        self.machine.raise(self.port);
        count
    }

    /// Writes all of it, waiting for room.
    pub fn say(&self, text: &str) {
        let mut rest = text.as_bytes();
        until("room in the ring", || {
            rest = &rest[self.write(rest)..];
            rest.is_empty()
        });
    }

    /// Raises its channel.
    pub fn raise(&self) {
        self.machine.raise(self.port);
    }

    /// What was typed.
    pub fn read(&self) -> Vec<u8> {
        let (mut cons, prod) = (self.page.load(IN_CONS), self.page.load(IN_PROD));
        let mut got = Vec::new();
        while cons != prod {
            let mut byte = [0];
            self.page.read(cons as usize % 1024, &mut byte);
            got.push(byte[0]);
            cons = cons.wrapping_add(1);
        }
        self.page.store(IN_CONS, cons);
        got
    }
}

pub fn until(what: &str, mut test: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !test() {
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::yield_now();
    }
}

/// A daemon in a thread; dropped, it is as one that was killed.
pub struct Served {
    folder: PathBuf,
    found: Post<Vec<Found>>,
    terminals: Mailbox<Terminal>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _hangup: UnixStream,
}

pub fn found(domid: u16, vm: u8) -> Found {
    let vm = Uuid::from_bytes([vm; 16]);
    Found { domid, vm, name: format!("guest{domid}"), frame: 0, port: domid.into() }
}

impl Served {
    pub fn start(folder: &Path, machine: &Arc<Fake>, consoles: &[Found]) -> Self {
        Self::in_boot(1, folder, machine, consoles)
    }

    /// Of a host that was started so often.
    pub fn in_boot(boot: u32, folder: &Path, machine: &Arc<Fake>, consoles: &[Found]) -> Self {
        let socket = folder.join("socket");
        let _ = std::fs::remove_file(&socket);
        let histories = folder.join("histories");
        std::fs::create_dir_all(&histories).unwrap();
        let ((found, found_box), (terminals_post, terminals)) = (mailbox().unwrap(), mailbox().unwrap());
        let (hangup, _hangup) = UnixStream::pair().unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let ears = Ears { found: found_box, terminals: terminals_post, listener, hangup, hypervisor: None };
        let settings = Settings { histories, most: 64 << 10, boot, logs: Some(folder.to_owned()) };
        let mut daemon = Daemon::new(Opened(machine.clone()), settings, ears).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                daemon.turn(Some(Duration::from_millis(5))).unwrap();
            }
        });
        found.send(consoles.to_vec());
        Self { folder: folder.to_owned(), found, terminals, stop, thread: Some(thread), _hangup }
    }

    pub fn consoles(&self, consoles: &[Found]) {
        self.found.send(consoles.to_vec());
    }

    pub fn request(&self, line: &str) -> io::Result<UnixStream> {
        radon_console::client::request(&self.folder.join("socket"), line)
    }

    /// All that a request answers.
    pub fn ask(&self, line: &str) -> String {
        let mut text = Vec::new();
        self.request(line).unwrap().read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    pub fn attach(&self, vm: u8) -> View {
        let stream = self.request(&format!("attach {}", Uuid::from_bytes([vm; 16]))).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        View { stream, seen: Vec::new() }
    }

    /// The next terminal that the store was told of.
    pub fn terminal(&self) -> Terminal {
        let mut last = None;
        until("a terminal", || {
            last = self.terminals.take().pop();
            last.is_some()
        });
        last.unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the daemon panicked");
    }
}

/// An attached client.
pub struct View {
    pub stream: UnixStream,
    pub seen: Vec<u8>,
}

impl View {
    pub fn sees(&mut self, text: &str) {
        while !self.seen.windows(text.len()).any(|w| w == text.as_bytes()) {
            let mut bytes = [0; 4096];
            let count = self.stream.read(&mut bytes).expect(text);
            assert_ne!(count, 0, "the end, before {text}");
            self.seen.extend(&bytes[..count]);
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }
}
