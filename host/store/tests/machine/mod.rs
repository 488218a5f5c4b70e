//! A machine made of plain memory, and the guests on it.
#![allow(dead_code, reason = "each test program uses its part")]

pub mod restart;

use radon_store::daemon::machine::Machine;
use radon_store::daemon::server::Server;
use radon_store::perm::DomId;
use radon_store::wire;
use radon_xen::evtchn::Port;
use radon_xen::page::SharedPages;
use radon_xen::privcmd::DomainInfo;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::mem::offset_of;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use xen_abi::xs_wire::*;

const VIRQ: Port = Port(1);

/// A guest's page, as the daemon has it mapped.
#[derive(Debug)]
pub struct Mapped(Arc<SharedPages>, Arc<AtomicU32>, Arc<Meanwhile>);

impl Deref for Mapped {
    type Target = SharedPages;
    fn deref(&self) -> &SharedPages {
        let left = self.1.load(Ordering::Relaxed);
        self.1.store(left.saturating_sub(1), Ordering::Relaxed);
        assert!(left != 1, "killed");
        self.2.step();
        &self.0
    }
}

/// What somebody does just before one of the daemon's accesses to a page.
#[derive(Default)]
struct Meanwhile(Mutex<(u32, Option<Act>)>);

type Act = Box<dyn FnOnce() + Send>;

impl Meanwhile {
    fn step(&self) {
        let mut due = None;
        if let (left, act @ Some(_)) = &mut *self.0.lock().unwrap() {
            *left -= 1;
            if *left == 0 {
                due = act.take();
            }
        }
        if let Some(act) = due {
            act();
        }
    }
}

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

#[derive(Debug, Default)]
struct World {
    pages: BTreeMap<DomId, Arc<SharedPages>>,
    states: BTreeMap<DomId, DomainInfo>,
    ports: BTreeMap<DomId, Port>,
    pending: BTreeSet<u32>,
    next_port: u32,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Fake {
    world: Arc<Mutex<World>>,
    /// Readable while an event is pending, as the device is.
    alarm: Arc<(UnixStream, UnixStream)>,
    /// Accesses to pages until the daemon is killed; none is left: never.
    fuse: Arc<AtomicU32>,
    meanwhile: Arc<Meanwhile>,
}

impl Default for Fake {
    fn default() -> Self {
        let alarm = UnixStream::pair().unwrap();
        alarm.0.set_nonblocking(true).unwrap();
        let world = Arc::new(Mutex::new(World { next_port: 10, ..World::default() }));
        Self { world, alarm: Arc::new(alarm), fuse: Arc::default(), meanwhile: Arc::default() }
    }
}

impl Fake {
    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Has the daemon killed at its `count`th access to a page from now on; 0: not at all.
    pub fn kill_after(&self, count: u32) {
        self.fuse.store(count, Ordering::Relaxed);
    }

    /// Has somebody act just before the daemon's `count`th access to a page from now on.
    pub fn meanwhile(&self, count: u32, act: impl FnOnce() + Send + 'static) {
        *self.meanwhile.0.lock().unwrap() = (count, Some(Box::new(act)));
    }

    /// Has somebody who has not acted yet do it now; whether there was one.
    pub fn act_now(&self) -> bool {
        let act = self.meanwhile.0.lock().unwrap().1.take();
        act.map(|act| act()).is_some()
    }

    /// A new domain.
    pub fn create(&self, domid: DomId) -> Guest {
        let page = Arc::new(SharedPages::anonymous(1).unwrap());
        let mut world = self.world();
        world.pages.insert(domid, page.clone());
        world.states.insert(domid, DomainInfo { domid: domid.0, dying: false, shutdown: false });
        Guest::over(domid, page)
    }

    fn raise(&self, port: Port) {
        self.world().pending.insert(port.0);
    }

    /// A guest sends an event.
    pub fn event(&self, domid: DomId) {
        let port = self.world().ports.get(&domid).copied();
        if let Some(port) = port {
            self.raise(port);
        }
    }

    pub fn virq(&self) {
        self.raise(VIRQ);
    }

    pub fn shut_down(&self, domid: DomId) {
        self.world().states.get_mut(&domid).unwrap().shutdown = true;
        self.virq();
    }

    pub fn destroy(&self, domid: DomId) {
        self.world().states.remove(&domid);
        self.virq();
    }

    pub fn has_events(&self) -> bool {
        !self.world().pending.is_empty()
    }

    /// Pages that the daemon has mapped.
    pub fn mapped(&self) -> usize {
        let mut world = self.world();
        let dead: Vec<DomId> =
            world.pages.keys().filter(|d| !world.states.contains_key(d)).copied().collect();
        // The world's own reference and the guest's are not the daemon's.
        dead.iter().map(|d| Arc::strong_count(&world.pages.remove(d).unwrap()) - 2).sum()
    }

    /// All ports are closed, as when the daemon's descriptor is.
    pub fn close_ports(&self) {
        let mut world = self.world();
        world.ports.clear();
        world.pending.clear();
    }

    /// Makes the daemon's descriptor readable if there are events.
    pub fn deliver(&self, _: &mut Server<Self>) {
        if self.has_events() {
            (&self.alarm.1).write_all(b"!").unwrap();
        }
    }
}

impl Machine for Fake {
    type Page = Mapped;

    fn domains(&mut self) -> io::Result<Vec<DomainInfo>> {
        Ok(self.world().states.values().copied().collect())
    }

    fn domain(&mut self, domid: DomId) -> io::Result<Option<DomainInfo>> {
        Ok(self.world().states.get(&domid).copied())
    }

    fn map(&mut self, domid: DomId, _: u64) -> io::Result<Mapped> {
        self.world()
            .pages
            .get(&domid)
            .cloned()
            .map(|p| Mapped(p, self.fuse.clone(), self.meanwhile.clone()))
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn bind(&mut self, domid: DomId, _: u32) -> io::Result<Port> {
        let mut world = self.world();
        world.next_port += 1;
        let port = Port(world.next_port);
        world.ports.insert(domid, port);
        Ok(port)
    }

    fn unbind(&mut self, port: Port) {
        self.world().ports.retain(|_, p| *p != port);
    }

    fn notify(&mut self, _: Port) {}

    fn pending(&mut self) -> io::Result<Vec<Port>> {
        while matches!((&self.alarm.0).read(&mut [0; 64]), Ok(n) if n > 0) {}
        Ok(std::mem::take(&mut self.world().pending).into_iter().map(Port).collect())
    }

    fn unmask(&mut self, _: &[Port]) {}

    fn virq(&self) -> Port {
        VIRQ
    }

    fn events(&self) -> Option<BorrowedFd<'_>> {
        Some(self.alarm.0.as_fd())
    }

    fn own_ring(&mut self) -> io::Result<(Mapped, u32)> {
        Ok((self.map(DomId::DOM0, 0)?, 1))
    }
}

/// A message that somebody got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: u32,
    pub req_id: u32,
    pub payload: Vec<u8>,
}

fn take_message(bytes: &mut Vec<u8>) -> Option<Message> {
    let (message, used) = wire::split(bytes).unwrap()?;
    let message = Message { kind: message.kind, req_id: message.req_id, payload: message.payload.to_vec() };
    bytes.drain(..used);
    Some(message)
}

/// The guest's end of a ring.
#[derive(Debug)]
pub struct Guest {
    pub domid: DomId,
    page: Arc<SharedPages>,
    taken: Vec<u8>,
}

macro_rules! at {
    ($field:ident) => {
        offset_of!(XenstoreDomainInterface, $field)
    };
}

impl Guest {
    /// A guest whose ring is this page.
    pub fn over(domid: DomId, page: Arc<SharedPages>) -> Self {
        Self { domid, page, taken: Vec::new() }
    }

    /// Puts what fits; how much that was.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let (cons, prod) = (self.page.load(at!(req_cons)), self.page.load(at!(req_prod)));
        let room = 1024 - prod.wrapping_sub(cons) as usize;
        let bytes = &bytes[..bytes.len().min(room)];
        for (n, byte) in bytes.iter().enumerate() {
            self.page.write(at!(req) + (prod as usize + n) % 1024, &[*byte]);
        }
        self.page.store(at!(req_prod), prod.wrapping_add(bytes.len() as u32));
        bytes.len()
    }

    /// Puts bytes as Linux does it (`xb_write`): it sends an event only if everything before them is fetched. Returns
    /// whether it would.
    pub fn put_as_linux(&mut self, bytes: &[u8]) -> bool {
        let before = self.page.load(at!(req_prod));
        assert_eq!(self.put(bytes), bytes.len());
        before <= self.page.load(at!(req_cons))
    }

    /// Fetches as Linux does it (`xb_read`): it sends an event only if the ring was full. Returns whether it would.
    pub fn take_as_linux(&mut self) -> bool {
        let cons = self.page.load(at!(rsp_cons));
        self.take();
        self.page.load(at!(rsp_prod)).wrapping_sub(cons) >= 1024
    }

    /// Puts a message if there is room for all of it.
    pub fn put_whole(&mut self, bytes: &[u8]) -> bool {
        let (cons, prod) = (self.page.load(at!(req_cons)), self.page.load(at!(req_prod)));
        let fits = prod.wrapping_sub(cons) as usize + bytes.len() <= 1024;
        if fits {
            self.put(bytes);
        }
        fits
    }

    /// Fetches all bytes of replies.
    pub fn take(&mut self) {
        let (cons, prod) = (self.page.load(at!(rsp_cons)), self.page.load(at!(rsp_prod)));
        assert!(prod.wrapping_sub(cons) <= 1024);
        for n in 0..prod.wrapping_sub(cons) {
            let mut byte = [0];
            self.page.read(at!(rsp) + (cons.wrapping_add(n) % 1024) as usize, &mut byte);
            self.taken.push(byte[0]);
        }
        self.page.store(at!(rsp_cons), prod);
    }

    pub fn message(&mut self) -> Option<Message> {
        take_message(&mut self.taken)
    }

    pub fn features(&self) -> u32 {
        self.page.load(at!(server_features))
    }

    pub fn error(&self) -> u32 {
        self.page.load(at!(error))
    }

    pub fn move_prod(&self, by: u32) {
        self.page.store(at!(req_prod), self.page.load(at!(req_prod)).wrapping_add(by));
    }

    pub fn ask_for_reset(&mut self) {
        self.taken.clear();
        self.page.store(at!(connection), XENSTORE_RECONNECT);
    }

    pub fn is_reset(&self) -> bool {
        let zero = [at!(req_cons), at!(req_prod), at!(rsp_cons), at!(rsp_prod), at!(connection)];
        zero.iter().all(|index| self.page.load(*index) == 0)
    }
}

/// A process.
#[derive(Debug)]
pub struct Tool {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Tool {
    pub fn new(stream: UnixStream) -> Self {
        stream.set_nonblocking(true).unwrap();
        Self { stream, bytes: Vec::new() }
    }

    pub fn ask(&mut self, kind: u32, tx_id: u32, payload: &[u8]) {
        self.stream.write_all(&wire::message(kind, 1, tx_id, payload)).unwrap();
    }

    fn fetch(&mut self) {
        let mut some = [0; 65536];
        while let Ok(count) = self.stream.read(&mut some) {
            assert!(count > 0, "the daemon has hung up");
            self.bytes.extend_from_slice(&some[..count]);
        }
    }

    pub fn drain(&mut self) {
        self.fetch();
        self.bytes.clear();
    }

    /// Sends bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next message, if it is there.
    pub fn message(&mut self) -> Option<Message> {
        self.fetch();
        take_message(&mut self.bytes)
    }

    /// The next reply; events before it are dropped.
    pub fn reply(&mut self) -> Message {
        self.fetch();
        loop {
            let message = take_message(&mut self.bytes).expect("a reply");
            if message.kind != XS_WATCH_EVENT {
                return message;
            }
        }
    }

    /// All events that have come, as `path token`.
    pub fn events(&mut self) -> Vec<String> {
        self.fetch();
        let mut all = VecDeque::new();
        while let Some(message) = take_message(&mut self.bytes) {
            if message.kind == XS_WATCH_EVENT {
                all.push_back(
                    String::from_utf8(message.payload).unwrap().trim_end_matches('\0').replace('\0', " "),
                );
            }
        }
        all.into()
    }
}
