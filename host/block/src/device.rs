//! One disk of one guest: its nodes in the store, its file, its rings.

use crate::connection::{self, Begin, Connection, FrontNodes, RingNodes};
use crate::disk::{Disk, OpenError};
use crate::request::{MOST_SEGMENTS, Protocol, SECTOR};
use crate::share::Shares;
use crate::state::{self, Have, Seen, State, Step};
use radon_store::client::{self, Tx, Xenstore};
use std::fmt;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use xen_abi::blkif::VDISK_READONLY;

/// The kind of back end, as its directory in the store is called: `backend/rdisk/<domid>/<device>`.
pub const KIND: &str = "rdisk";

/// How long the file may be somebody else's when a guest begins: another domain of the same VM may just be ending.
const IN_USE: Duration = Duration::from_secs(10);
/// How long what a killed predecessor asked of the kernel may take.
const OLD_WRITES: Duration = Duration::from_secs(120);

/// A disk of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The guest's domain.
    pub domid: u16,
    /// The disk's number (`virtual-device`).
    pub device: u32,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.domid, self.device)
    }
}

impl Id {
    /// This end's directory in the store.
    pub fn path(self) -> String {
        format!("/local/domain/0/backend/{KIND}/{}/{}", self.domid, self.device)
    }

    /// The device that a path at or below such a directory belongs to.
    pub fn of_path(path: &str) -> Option<Self> {
        let mut words =
            path.strip_prefix("/local/domain/0/backend/")?.strip_prefix(KIND)?.strip_prefix('/')?.split('/');
        Some(Self { domid: words.next()?.parse().ok()?, device: words.next()?.parse().ok()? })
    }
}

/// What is the same for all disks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where tables and counters are: a folder that does not outlive the machine.
    pub folder: PathBuf,
    /// Rings of a disk at most.
    pub rings: u32,
    /// Pages of a ring at most: a power of two's exponent.
    pub ring_order: u32,
    /// Memory for the data of each ring, in bytes.
    pub buffer: usize,
    /// What clones share is read once.
    pub shares: Option<Arc<Shares>>,
}

/// What went wrong with a disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] client::Error),
    /// The file; tried again for a while.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The front end's nodes, or rings.
    #[error("{0}")]
    Front(String),
}

/// One disk.
#[derive(Debug)]
pub struct Device {
    id: Id,
    settings: Settings,
    disk: Option<Arc<Disk>>,
    connection: Option<Connection>,
    /// Name of the connection's tables, also in the store.
    name: Option<String>,
    failed: bool,
    /// Since when the file is somebody else's.
    waiting: Option<Instant>,
    counters: String,
}

type Result<T, E = Error> = std::result::Result<T, E>;

impl Device {
    /// One that nothing is known of.
    pub fn new(id: Id, settings: Settings) -> Self {
        Self {
            id,
            settings,
            disk: None,
            connection: None,
            name: None,
            failed: false,
            waiting: None,
            counters: String::new(),
        }
    }

    fn have(&self) -> Have {
        match (&self.connection, &self.disk) {
            _ if self.failed => Have::Failed,
            (Some(_), _) => Have::Rings,
            (None, Some(_)) => Have::Disk,
            (None, None) => Have::Nothing,
        }
    }

    fn read(&self, store: &mut Xenstore, name: &str) -> Result<Option<String>> {
        Ok(store.read(Tx::NONE, &format!("{}/{name}", self.id.path()))?)
    }

    fn say(&self, store: &mut Xenstore, state: State) -> Result<()> {
        Ok(store.write(Tx::NONE, &format!("{}/state", self.id.path()), state.text())?)
    }

    /// Where the front end's directory is, if the device is there.
    pub fn front(&self, store: &mut Xenstore) -> Result<Option<String>> {
        self.read(store, "frontend")
    }

    /// Name of its connection's tables.
    pub fn connection_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether it waits for something that the store does not tell.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Does what the states ask for, until they ask for nothing more. `false`: the device is no more.
    pub fn update(&mut self, store: &mut Xenstore) -> Result<bool> {
        // Each step changes a state; a hostile front end may change the other, but not keep this end here.
        for _ in 0..8 {
            let front = self.front(store)?;
            let front_state = match &front {
                Some(front) => store.read(Tx::NONE, &format!("{front}/state"))?,
                None => None,
            };
            let seen = Seen {
                back: State::parse(self.read(store, "state")?.as_deref()),
                front: State::parse(front_state.as_deref()),
                online: self.read(store, "online")?.as_deref() == Some("1"),
                have: self.have(),
            };
            let step = state::next(seen);
            let result = match step {
                Step::Wait => return Ok(true),
                Step::Forget => {
                    self.let_go();
                    return Ok(false);
                }
                Step::Offer => self.offer(store),
                Step::Connect => self.connect(store, front.as_deref().unwrap_or_default()),
                Step::Resume => self.resume(store, front.as_deref().unwrap_or_default()),
                Step::Closing => self.say(store, State::Closing),
                Step::Close => {
                    self.let_go();
                    self.failed = false;
                    self.say(store, State::Closed)
                }
            };
            match result {
                Ok(()) => self.waiting = None,
                Err(Error::Open(OpenError::InUse(_)))
                    if self.waiting.get_or_insert_with(Instant::now).elapsed()
                        < if step == Step::Resume { OLD_WRITES } else { IN_USE } =>
                {
                    return Ok(true);
                }
                Err(Error::Store(error)) => return Err(Error::Store(error)),
                Err(error) => self.fail(store, &error.to_string())?,
            }
        }
        Ok(true)
    }

    /// Cannot be served: the toolstack finds the reason in the store.
    fn fail(&mut self, store: &mut Xenstore, why: &str) -> Result<()> {
        log::warn!("disk {}: {why}", self.id);
        self.let_go();
        (self.failed, self.waiting) = (true, None);
        let path = format!("/local/domain/0/error/backend/{KIND}/{}/{}/error", self.id.domid, self.id.device);
        store.write(Tx::NONE, &path, why)?;
        self.say(store, State::Closing)
    }

    /// Lets go of rings, tables and disk.
    fn let_go(&mut self) {
        self.connection = None;
        self.disk = None;
        if let Some(name) = self.name.take() {
            connection::remove_tables(&self.settings.folder, &name);
        }
        let _ = std::fs::remove_file(self.counters_path());
        self.counters.clear();
    }

    fn open_disk(&mut self, store: &mut Xenstore) -> Result<Arc<Disk>> {
        let path = self.read(store, "params")?.ok_or_else(|| Error::Front("no params node".to_owned()))?;
        let read_only = self.read(store, "mode")?.as_deref() != Some("w");
        let disk = Disk::open(path.as_ref(), read_only, self.settings.shares.as_ref())?;
        let disk = Arc::new(disk);
        self.disk = Some(disk.clone());
        Ok(disk)
    }

    /// Says what the disk is and can do.
    fn offer(&mut self, store: &mut Xenstore) -> Result<()> {
        self.let_go();
        let disk = self.open_disk(store)?;
        let mut nodes = vec![
            ("feature-barrier", "1".to_owned()),
            ("feature-flush-cache", "1".to_owned()),
            ("feature-persistent", "0".to_owned()),
            ("feature-max-indirect-segments", MOST_SEGMENTS.to_string()),
            ("max-ring-page-order", self.settings.ring_order.to_string()),
            ("multi-queue-max-queues", self.settings.rings.to_string()),
        ];
        let wanted = self.read(store, "discard-enable")?.as_deref() != Some("0");
        match disk.discards().filter(|_| wanted) {
            Some(discards) => nodes.extend([
                ("feature-discard", "1".to_owned()),
                ("discard-granularity", discards.granularity.to_string()),
                ("discard-alignment", "0".to_owned()),
                ("discard-secure", "0".to_owned()),
            ]),
            None => nodes.push(("feature-discard", "0".to_owned())),
        }
        let base = self.id.path();
        store.transaction(|store, tx| {
            for (name, value) in &nodes {
                store.write(tx, &format!("{base}/{name}"), value)?;
            }
            size_nodes(store, tx, &base, &disk)?;
            store.remove(tx, &format!("{base}/connection"))?;
            store.write(tx, &format!("{base}/state"), State::InitWait.text())
        })?;
        Ok(())
    }

    fn connect(&mut self, store: &mut Xenstore, front: &str) -> Result<()> {
        let nodes = front_nodes(store, front, &self.settings)?;
        let disk = self.disk.clone().ok_or_else(|| Error::Front("no disk".to_owned()))?;
        let name = format!("{}.{:016x}", self.id, unique());
        let tables = connection::make_tables(&nodes, &self.settings.folder, &name);
        self.name = Some(name.clone());
        tables.map_err(|e| Error::Front(format!("{}: {e}", self.settings.folder.display())))?;
        self.begin(&nodes, &disk, Begin::New, &name)?;
        let base = self.id.path();
        store.transaction(|store, tx| {
            size_nodes(store, tx, &base, &disk)?;
            store.write(tx, &format!("{base}/connection"), &name)?;
            store.write(tx, &format!("{base}/state"), State::Connected.text())
        })?;
        log::info!("disk {}: {} rings", self.id, nodes.rings.len());
        Ok(())
    }

    fn resume(&mut self, store: &mut Xenstore, front: &str) -> Result<()> {
        let name = self
            .read(store, "connection")?
            .filter(|name| !name.contains('/'))
            .ok_or_else(|| Error::Front("its guest is connected, but to whom is not known".to_owned()))?;
        // From now on: the tables are in use, also while the disk is waited for.
        self.name = Some(name.clone());
        let nodes = front_nodes(store, front, &self.settings)?;
        let disk = self.open_disk(store)?;
        self.begin(&nodes, &disk, Begin::Again, &name)?;
        log::info!("disk {}: goes on with {} rings", self.id, nodes.rings.len());
        Ok(())
    }

    fn begin(&mut self, nodes: &FrontNodes, disk: &Arc<Disk>, begin: Begin, name: &str) -> Result<()> {
        let place = (&*self.settings.folder, name);
        let connection = Connection::open(self.id.domid, nodes, disk, begin, place, self.settings.buffer);
        self.connection = Some(connection.map_err(|e| Error::Front(format!("its rings: {e}")))?);
        Ok(())
    }

    /// What has to be looked at now and then: the disk's size, broken rings; counters for `radon-block list`.
    pub fn tick(&mut self, store: &mut Xenstore) -> Result<()> {
        let Some(disk) = self.disk.clone() else { return Ok(()) };
        if self.connection.as_ref().is_some_and(Connection::is_broken) {
            return self.fail(store, "its guest broke the rules of the ring");
        }
        if self.connection.is_some() && disk.measure().unwrap_or(false) {
            let base = self.id.path();
            log::info!("disk {}: {} sectors now", self.id, disk.geometry().sectors);
            // The front end looks at the size when the state is written, be it the same.
            store.transaction(|store, tx| {
                size_nodes(store, tx, &base, &disk)?;
                let state = store.read(tx, &format!("{base}/state"))?;
                store.write(tx, &format!("{base}/state"), state.as_deref().unwrap_or(State::Connected.text()))
            })?;
        }
        self.write_counters(&disk);
        Ok(())
    }

    fn counters_path(&self) -> PathBuf {
        self.settings.folder.join(format!("{}.counters", self.id))
    }

    fn write_counters(&mut self, disk: &Disk) {
        let c = &disk.counters;
        let mut text = String::new();
        for (name, counter) in [
            ("reads", &c.reads),
            ("writes", &c.writes),
            ("flushes", &c.flushes),
            ("discards", &c.discards),
            ("errors", &c.errors),
            ("bytes-read", &c.bytes_read),
            ("bytes-shared", &c.bytes_shared),
            ("bytes-written", &c.bytes_written),
        ] {
            let _ = write!(text, "{name}={} ", counter.load(Ordering::Relaxed));
        }
        if text != self.counters && std::fs::write(self.counters_path(), &text).is_ok() {
            self.counters = text;
        }
    }
}

fn size_nodes(store: &mut Xenstore, tx: Tx, base: &str, disk: &Disk) -> client::Result<()> {
    let geometry = disk.geometry();
    // The disk has to be a whole number of these.
    let physical = if geometry.sectors.is_multiple_of(8) { 8 * SECTOR } else { SECTOR };
    let info = if geometry.read_only { VDISK_READONLY } else { 0 };
    for (name, value) in [
        ("sectors", geometry.sectors),
        ("sector-size", SECTOR),
        ("physical-sector-size", physical),
        ("info", info.into()),
    ] {
        store.write(tx, &format!("{base}/{name}"), &value.to_string())?;
    }
    Ok(())
}

/// What the front end says; its nodes are the guest's and may hold anything.
fn front_nodes(store: &mut Xenstore, front: &str, settings: &Settings) -> Result<FrontNodes> {
    let mut read = |name: &str| store.read(Tx::NONE, &format!("{front}/{name}"));
    let number = |name: &str, text: Option<String>| -> Result<u32> {
        let text = text.ok_or_else(|| Error::Front(format!("its guest's {name} is missing")))?;
        text.trim().parse().map_err(|_| Error::Front(format!("its guest's {name} is no number")))
    };
    let protocol = Protocol::named(read("protocol")?.as_deref()).ok_or_else(|| {
        Error::Front("its guest's protocol is neither x86_64-abi nor x86_32-abi".to_owned())
    })?;
    let rings =
        number("multi-queue-num-queues", Some(read("multi-queue-num-queues")?.unwrap_or("1".into())))?;
    let order = read("ring-page-order")?.map(|text| number("ring-page-order", Some(text))).transpose()?;
    if rings == 0 || rings > settings.rings || order.unwrap_or(0) > settings.ring_order {
        let why = format!("its guest wants {rings} rings of order {}: more than offered", order.unwrap_or(0));
        return Err(Error::Front(why));
    }
    let mut all = Vec::new();
    for ring in 0..rings {
        let base = if rings == 1 { String::new() } else { format!("queue-{ring}/") };
        let port = number("event-channel", read(&format!("{base}event-channel"))?)?;
        let mut pages = Vec::new();
        // One page: `ring-ref`, unless the guest speaks of several.
        let single = read(&format!("{base}ring-ref"))?.filter(|_| order.unwrap_or(0) == 0);
        match single {
            Some(page) => pages.push(number("ring-ref", Some(page))?),
            None => {
                for page in 0..1u32 << order.unwrap_or(0) {
                    pages.push(number("ring-ref", read(&format!("{base}ring-ref{page}"))?)?);
                }
            }
        }
        all.push(RingNodes { pages, port });
    }
    Ok(FrontNodes { protocol, rings: all })
}

/// A number that no other connection had or will have.
fn unique() -> u64 {
    let mut bytes = [0; 8];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let id = Id { domid: 5, device: 51712 };
        assert_eq!(Id::of_path(&id.path()), Some(id));
        assert_eq!(Id::of_path(&(id.path() + "/state")), Some(id));
        for other in [
            "",
            "/local/domain/0/backend/rdisk",
            "/local/domain/0/backend/rdisk/5",
            "/local/domain/0/backend/vbd/5/51712",
        ] {
            assert_eq!(Id::of_path(other), None, "{other}");
        }
    }
}
