//! A front end's rings, being served: one thread for each.

use crate::disk::Disk;
use crate::queue::{FIRST_WAIT, Guest, Queue};
use crate::request::Protocol;
use crate::ring::{self, Ring};
use crate::table::Table;
use radon_linux::uring;
use radon_xen::evtchn::{EventChannels, Port};
use radon_xen::gntdev::{Copy, GrantDevice, GrantedPage};
use radon_xen::page::SharedPages;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// What a front end says of one ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingNodes {
    /// Grants of its pages, in order.
    pub pages: Vec<u32>,
    /// The front end's port.
    pub port: u32,
}

/// What a front end says of its rings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontNodes {
    /// Layout of the requests.
    pub protocol: Protocol,
    /// The rings.
    pub rings: Vec<RingNodes>,
}

/// Whether rings are new or were served by a predecessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// They hold nothing that was taken.
    New,
    /// The tables say what was.
    Again,
}

/// The guest behind a ring.
struct XenGuest {
    domid: u16,
    grants: GrantDevice,
    events: Arc<EventChannels>,
    port: Port,
}

impl Guest for XenGuest {
    fn copy(&mut self, memory: &SharedPages, copies: &[Copy], done: &mut Vec<bool>) -> io::Result<()> {
        self.grants.copy(self.domid, memory, copies, done)
    }

    fn notify(&mut self) -> io::Result<()> {
        self.events.notify(self.port)
    }
}

#[derive(Debug)]
struct Server {
    stop: OwnedFd,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Rings being served. Dropped: they are let go; what the kernel is doing for them is waited for.
#[derive(Debug)]
pub struct Connection {
    servers: Vec<Server>,
}

/// Where a ring's table is.
pub fn table_path(folder: &Path, name: &str, ring: usize) -> PathBuf {
    folder.join(format!("{name}.{ring}"))
}

/// Makes the tables of new rings, which hold nothing: before anyone can put something into the rings.
pub fn make_tables(front: &FrontNodes, folder: &Path, name: &str) -> io::Result<()> {
    for (index, ring) in front.rings.iter().enumerate() {
        let size = ring::size(front.protocol, ring.pages.len());
        Table::create(&table_path(folder, name, index), size, front.protocol, 0)?;
    }
    Ok(())
}

/// Removes tables of connections that are none of `names`: their guests went while nobody served them.
pub fn remove_stale(folder: &Path, names: &[&str]) {
    for path in std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // <domain>-<device>.<connection>.<ring>
        if let [device, connection, ring] = name.split('.').collect::<Vec<_>>()[..]
            && ring.parse::<u32>().is_ok()
            && !names.contains(&format!("{device}.{connection}").as_str())
        {
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// Removes the tables of rings that are let go.
pub fn remove_tables(folder: &Path, name: &str) {
    for index in 0.. {
        if std::fs::remove_file(table_path(folder, name, index)).is_err() {
            return;
        }
    }
}

impl Connection {
    /// Takes up the rings of `domid`. `buffer`: bytes of memory for data of each.
    pub fn open(
        domid: u16,
        front: &FrontNodes,
        disk: &Arc<Disk>,
        begin: Begin,
        (folder, name): (&Path, &str),
        buffer: usize,
    ) -> io::Result<Self> {
        let mut connection = Self { servers: Vec::new() };
        for (index, nodes) in front.rings.iter().enumerate() {
            let grants = GrantDevice::open()?;
            let pages = grants.map_many(domid, &nodes.pages)?;
            let size = ring::size(front.protocol, nodes.pages.len());
            let mut table = Table::open(&table_path(folder, name, index), size, front.protocol)?;
            let seen = Ring::attach(&*pages, front.protocol).published();
            // A new ring begins where its front end says; one that was served, where the table says.
            let (ring, again) = match (begin, table.left(seen)) {
                (Begin::New, Some(left)) if left.again.is_empty() && seen == 0 => {
                    (Ring::attach(pages, front.protocol), Vec::new())
                }
                (Begin::Again, Some(left)) => {
                    let ring = Ring::resume(pages, front.protocol, left.taken, left.answered);
                    (ring, left.again)
                }
                _ => {
                    let what = "the guest has written over what only the back end writes into the ring";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
            };
            let events = Arc::new(EventChannels::open()?);
            let port = events.bind_interdomain(domid, nodes.port)?;
            let guest = XenGuest { domid, grants, events: events.clone(), port };
            let queue = Queue::new(guest, ring, table, again, disk.clone(), buffer)?;
            connection.servers.push(Server::start(queue, events, port, format!("{domid}-{index}"))?);
        }
        Ok(connection)
    }

    /// Whether one of the rings is not served any more because its front end broke it.
    pub fn is_broken(&self) -> bool {
        self.servers.iter().any(|s| s.ended.load(Ordering::Acquire))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for server in &self.servers {
            let _ = rustix::io::write(&server.stop, &1u64.to_ne_bytes());
        }
        for thread in self.servers.iter_mut().filter_map(|s| s.thread.take()) {
            let _ = thread.join();
        }
    }
}

impl Server {
    fn start(
        queue: Queue<GrantedPage, XenGuest>,
        events: Arc<EventChannels>,
        port: Port,
        name: String,
    ) -> io::Result<Self> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let ended = Arc::new(AtomicBool::new(false));
        let (stopped, says) = (uring::copy_of(&stop)?, ended.clone());
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let result = serve(queue, &events, port, &stopped);
            let _ = events.unbind(port);
            if let Err(error) = result {
                log::warn!("{}: {error}", std::thread::current().name().unwrap_or_default());
                says.store(true, Ordering::Release);
            }
        })?;
        Ok(Self { stop, ended, thread: Some(thread) })
    }
}

const EVENT: u64 = FIRST_WAIT;
const STOP: u64 = FIRST_WAIT + 1;

/// Serves one ring until told to stop; an error: it cannot be served.
fn serve(
    mut queue: Queue<GrantedPage, XenGuest>,
    events: &EventChannels,
    port: Port,
    stop: &Arc<OwnedFd>,
) -> io::Result<()> {
    let channel = uring::copy_of(events)?;
    queue.await_readable(&channel, EVENT)?;
    queue.await_readable(stop, STOP)?;
    // A predecessor may have been killed between its last answers and the event for them.
    let _ = queue.guest().notify();
    loop {
        let moved = queue.turn().map_err(io::Error::other)?;
        let sleep = !moved && !queue.ask().map_err(io::Error::other)?;
        for token in queue.wait(sleep)? {
            if token == STOP {
                return Ok(());
            }
            // Let through again before the ring is looked at: an event from now on is for what comes later.
            if !events.pending()?.is_empty() {
                events.unmask(&[port])?;
            }
            queue.await_readable(&channel, EVENT)?;
        }
    }
}
