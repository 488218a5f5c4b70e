//! The store itself: the tree, who owns what, who is connected, who is to be told.
//!
//! Pure: it does no input or output and does not know the time. A request comes in through [`Store::handle`]; replies
//! and events wait in each connection's outbox; what must survive the daemon is appended to a journal that the
//! caller takes with [`Store::take_journal`] and keeps *before* it sends anything. What only the outside world can
//! do (map a ring, ask whether a domain exists) is behind [`Host`].

use crate::connection::{ConnId, Connection};
use crate::errno::{Errno, Result};
use crate::path;
use crate::perm::{Access, DomId, Identity, Perms};
use crate::quota::{Account, Limits};
use crate::record::Record;
use crate::tree::{Node, Stamp, Tree};
use crate::watch::Watches;
use crate::wire;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use xen_abi::xs_wire::XS_WATCH_EVENT;

/// What the store needs of the world outside.
pub trait Host {
    /// Whether there is such a domain.
    fn exists(&mut self, domid: DomId) -> bool;

    /// Connects to a domain's ring, or to its new event channel if the ring is connected already; both streams
    /// then start afresh.
    fn connect(&mut self, domid: DomId, gfn: u64, port: u32) -> Result<()>;

    /// Lets go of a domain's ring.
    fn disconnect(&mut self, domid: DomId);

    /// A command of `xenstore-control` that is the daemon's business; `None` if it is not.
    fn control(&mut self, conn: ConnId, arguments: &[&[u8]]) -> Option<Result<Control>>;
}

/// Answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// This text.
    Reply(Vec<u8>),
    /// The answer follows later ([`Store::answer`]).
    Later,
}

/// A special watch, with the permissions that let others than the control domain see it.
pub const SPECIALS: [&str; 2] = ["@introduceDomain", "@releaseDomain"];

/// Places of [`SPECIALS`].
pub(crate) const INTRODUCE: usize = 0;
pub(crate) const RELEASE: usize = 1;

/// What is known of a connected domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introduced {
    /// Frame of its ring.
    pub gfn: u64,
    /// Its own port of the event channel.
    pub port: u32,
    /// It was seen shut down.
    pub shutdown: bool,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    pub(crate) tree: Tree,
    pub(crate) generation: u64,
    /// Number of changes to the tree, transactions' counted when they commit.
    pub(crate) changes: u64,
    pub(crate) connections: HashMap<ConnId, Connection>,
    pub(crate) accounts: BTreeMap<DomId, Account>,
    pub(crate) introduced: BTreeMap<DomId, Introduced>,
    pub(crate) watches: Watches,
    pub(crate) specials: [Perms; 2],
    pub(crate) limits: Limits,
    /// Domains that may do everything.
    pub(crate) privileged: BTreeSet<DomId>,
    /// A dead domain's nodes go to the control domain instead of being removed.
    pub(crate) keep_orphans: bool,
    pub(crate) now: u64,
    /// What the request in hand costs, in units of a plain read.
    pub(crate) cost: u32,
    journal: Vec<u8>,
    /// Connections with something new to send.
    ready: Vec<ConnId>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Store {
    /// An empty store.
    pub fn new(limits: Limits) -> Self {
        let mut store = Self {
            tree: Tree::default(),
            generation: 1,
            changes: 0,
            connections: HashMap::new(),
            accounts: BTreeMap::from([(DomId::DOM0, Account::default())]),
            introduced: BTreeMap::new(),
            watches: Watches::default(),
            specials: [Perms::private(DomId::DOM0), Perms::private(DomId::DOM0)],
            limits,
            privileged: BTreeSet::from([DomId::DOM0]),
            keep_orphans: false,
            now: 0,
            cost: 0,
            journal: Vec::new(),
            ready: Vec::new(),
        };
        store.charge("/", 0, &Perms::private(DomId::DOM0), true);
        store
    }

    /// The nodes that tools expect in a store that has just begun.
    pub fn furnish(&mut self) {
        for path in ["/tool", "/tool/xenstored"] {
            if self.tree.get(path).is_none() {
                self.insert(path, Arc::default(), Perms::private(DomId::DOM0), DomId::DOM0);
            }
        }
    }

    /// Limits on guests.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Makes a further domain as powerful as the control domain.
    pub fn privilege(&mut self, domid: DomId) {
        self.privileged.insert(domid);
    }

    /// Keeps dead domains' nodes.
    pub fn keep_orphans(&mut self, yes: bool) {
        self.keep_orphans = yes;
    }

    /// The tree, to look at.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Tells the time, in milliseconds of any clock that only runs forward.
    pub fn set_time(&mut self, now: u64) {
        self.now = now;
    }

    /// What domain `domid` has taken.
    pub fn account(&self, domid: DomId) -> Option<&Account> {
        self.accounts.get(&domid)
    }

    /// The connected domains.
    pub fn introduced(&self) -> &BTreeMap<DomId, Introduced> {
        &self.introduced
    }

    /// A process connects.
    pub fn connect_socket(&mut self, id: u32) -> ConnId {
        let conn = ConnId::Socket(id);
        self.connections.insert(conn, Connection::new(Identity::TOOLS));
        conn
    }

    /// A client.
    pub fn connection(&self, conn: ConnId) -> Option<&Connection> {
        self.connections.get(&conn)
    }

    /// A client, to take messages from its outbox.
    pub fn connection_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.connections.get_mut(&conn)
    }

    /// A client is gone.
    pub fn close(&mut self, conn: ConnId) {
        self.reset(conn);
        self.connections.remove(&conn);
    }

    /// Records that are not kept yet; empty when nothing that matters has happened.
    pub fn take_journal(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.journal)
    }

    /// Adds to the journal.
    pub fn record(&mut self, record: &Record<'_>) {
        record.write(&mut self.journal);
    }

    /// Connections that have got something to send since the last call.
    pub fn take_ready(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.ready)
    }

    /// Sends the reply to a request that was left for later.
    pub fn answer(&mut self, conn: ConnId, kind: u32, req_id: u32, tx_id: u32, payload: &[u8]) {
        let bytes = wire::message(kind, req_id, tx_id, payload);
        self.journal_output(conn, &bytes);
        if let Some(connection) = self.connections.get_mut(&conn) {
            if connection.out.is_empty() {
                self.ready.push(conn);
            }
            connection.out.reply(bytes);
        }
    }

    /// Queues an event.
    pub(crate) fn event(&mut self, conn: ConnId, payload: &[u8]) {
        if payload.len() > wire::PAYLOAD_MAX {
            return;
        }
        self.cost += 1;
        let full = self.is_full(conn);
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if full {
            return log::debug!("{conn:?}: event dropped, its memory is used up");
        }
        let idle = connection.out.is_empty();
        let bytes = wire::message(XS_WATCH_EVENT, 0, 0, payload);
        if connection.out.event(bytes.clone(), payload) {
            if idle {
                self.ready.push(conn);
            }
            self.journal_output(conn, &bytes);
        }
    }

    fn journal_output(&mut self, conn: ConnId, bytes: &[u8]) {
        if matches!(conn, ConnId::Domain(_)) {
            self.record(&Record::Queued { conn, bytes: bytes.into() });
        }
    }

    /// Bytes that a domain has taken, its messages and transactions included.
    pub fn memory(&self, domid: DomId) -> usize {
        let own = self.accounts.get(&domid).map_or(0, |a| a.memory);
        let connection = self.connections.get(&ConnId::Domain(domid));
        let transactions = |c: &Connection| c.transactions.values().map(|t| t.memory()).sum::<usize>();
        own + connection.map_or(0, |c| c.out.len() + transactions(c))
    }

    /// Whether a client may take no more memory.
    pub(crate) fn is_full(&self, conn: ConnId) -> bool {
        match conn {
            ConnId::Domain(domid) if !self.privileged.contains(&domid) => {
                self.memory(domid) >= self.limits.memory as usize
            }
            _ => false,
        }
    }

    /// Whether the client's next request may be looked at: at which time (not after now: at once), or, with `None`,
    /// when it has fetched some of what waits for it.
    pub fn served_at(&mut self, conn: ConnId) -> Option<u64> {
        let ConnId::Domain(domid) = conn else { return Some(self.now) };
        if self.privileged.contains(&domid) {
            return Some(self.now);
        }
        let replies = self.connections.get(&conn).map_or(0, |c| c.out.replies());
        if replies >= self.limits.outstanding as usize || self.is_stalled(conn, domid) {
            return None;
        }
        let now = self.now;
        Some(self.accounts.get_mut(&domid).map_or(now, |a| a.credit.served_at(now)))
    }

    /// A domain whose waiting messages take it over its limit must fetch them first. (What it keeps in nodes and
    /// watches does not stall it: it must be able to remove them.)
    fn is_stalled(&self, conn: ConnId, domid: DomId) -> bool {
        let waiting = self.connections.get(&conn).map_or(0, |c| c.out.len());
        waiting > 0 && self.memory(domid) >= self.limits.memory as usize
    }

    /// What a domain's credit says to this conflict.
    pub(crate) fn blame(&mut self, domid: DomId) {
        let now = self.now;
        if !self.privileged.contains(&domid)
            && let Some(account) = self.accounts.get_mut(&domid)
        {
            account.credit.pay(now);
        }
    }

    /// Whether the store knows a domain; one that exists is known from the first question on.
    pub(crate) fn knows(&mut self, domid: DomId, host: &mut dyn Host) -> bool {
        if self.accounts.contains_key(&domid) {
            return true;
        }
        let exists = host.exists(domid);
        if exists {
            self.accounts.insert(domid, Account::default());
        }
        exists
    }

    /// A new stamp.
    pub(crate) fn stamp(&mut self, writer: DomId) -> Stamp {
        self.generation += 1;
        Stamp { generation: self.generation, writer }
    }

    /// Adds a node below an existing one.
    pub(crate) fn insert(&mut self, path: &str, value: Arc<[u8]>, perms: Perms, writer: DomId) {
        let stamp = self.stamp(writer);
        self.changes += 1;
        self.charge(path, value.len(), &perms, true);
        self.record(&Record::Put { path: path.into(), value: (&*value).into(), perms: perms.clone() });
        self.tree.add(path, value, perms, stamp);
    }

    /// Changes an existing node.
    pub(crate) fn update(&mut self, path: &str, value: Arc<[u8]>, perms: Perms, writer: DomId) {
        let Some(node) = self.tree.get(path) else { return };
        let (old_length, old_perms) = (node.value().len(), node.perms().clone());
        let stamp = self.stamp(writer);
        self.changes += 1;
        self.charge(path, old_length, &old_perms, false);
        self.charge(path, value.len(), &perms, true);
        self.record(&Record::Put { path: path.into(), value: (&*value).into(), perms: perms.clone() });
        self.tree.set_value(path, value, stamp);
        if old_perms != perms {
            self.tree.set_perms(path, perms, stamp);
        }
    }

    /// Takes a subtree out.
    pub(crate) fn detach(&mut self, path: &str, writer: DomId) -> Option<Arc<Node>> {
        let stamp = self.stamp(writer);
        let subtree = self.tree.remove(path, stamp)?;
        self.changes += 1;
        self.record(&Record::Remove { path: path.into() });
        subtree.walk(path, &mut |path, node| {
            self.cost += 1;
            self.charge(path, node.value().len(), node.perms(), false);
        });
        Some(subtree)
    }

    /// Adds a node to its owner's account, or takes it off.
    fn charge(&mut self, path: &str, value: usize, perms: &Perms, add: bool) {
        for perm in perms.entries() {
            let account = self.accounts.entry(perm.domid).or_default();
            account.references =
                if add { account.references + 1 } else { account.references.saturating_sub(1) };
        }
        // The name counts twice: in the path, and in the parent's list.
        let name = path::split(path).map_or(0, |(_, name)| name.len() + 1);
        let bytes = crate::tree::size_of(value, perms.entries().len(), name) + path.len();
        let account = self.accounts.entry(perms.owner()).or_default();
        if add {
            account.nodes += 1;
            account.memory += bytes;
        } else {
            account.nodes = account.nodes.saturating_sub(1);
            account.memory = account.memory.saturating_sub(bytes);
        }
    }

    /// Tells the watchers of `path` and of its ancestors. `old` are the permissions it had before, if they changed.
    pub(crate) fn fire(&mut self, path: &str, old: Option<&Perms>) {
        if self.watches.is_empty() {
            return;
        }
        let node = self.tree.get(path);
        let parent = path::split(path).and_then(|(parent, _)| self.tree.get(parent));
        let perms = [old, node.map(Node::perms), parent.map(Node::perms)];
        let told = self.told(self.watches.above(path), path, &perms);
        told.into_iter().for_each(|(conn, payload)| self.event(conn, &payload));
    }

    /// Tells the watchers of a subtree that was removed: those above it of its root, those within each of its own node.
    pub(crate) fn fire_removed(&mut self, path: &str, subtree: &Node) {
        if self.watches.is_empty() {
            return;
        }
        let parent = path::split(path).and_then(|(parent, _)| self.tree.get(parent));
        let mut told =
            self.told(self.watches.above(path), path, &[Some(subtree.perms()), parent.map(Node::perms)]);
        let mut parents: Vec<&Node> = Vec::new();
        let depth = path::components(path).count();
        subtree.walk(path, &mut |at, node| {
            let level = path::components(at).count() - depth;
            parents.truncate(level);
            if level > 0 {
                let perms = [Some(node.perms()), parents.last().map(|n| n.perms())];
                told.extend(self.told(self.watches.at(at).iter(), at, &perms));
            }
            parents.push(node);
        });
        told.into_iter().for_each(|(conn, payload)| self.event(conn, &payload));
    }

    /// The events of those watches whose owners may read by one of `perms`.
    fn told<'a>(
        &self,
        watches: impl Iterator<Item = &'a crate::watch::Watch>,
        path: &str,
        perms: &[Option<&Perms>],
    ) -> Vec<(ConnId, Vec<u8>)> {
        watches
            .filter(|w| {
                self.connections
                    .get(&w.conn)
                    .is_some_and(|c| perms.iter().flatten().any(|p| p.access(&c.who).has(Access::READ)))
            })
            .map(|w| (w.conn, w.event(path)))
            .collect()
    }

    /// Tells the watchers of a special event about a domain.
    pub(crate) fn fire_special(&mut self, which: usize, domid: DomId) {
        let (Some(name), Some(perms)) = (SPECIALS.get(which), self.specials.get(which)) else { return };
        let named = format!("{name}/{domid}");
        let all = self.watches.at(name).iter().map(|w| (w, if w.depth == Some(1) { &*named } else { name }));
        let one = self.watches.at(&named).iter().map(|w| (w, &*named));
        let told: Vec<_> = all
            .chain(one)
            .filter(|(w, _)| {
                self.connections.get(&w.conn).is_some_and(|c| perms.access(&c.who).has(Access::READ))
            })
            .map(|(w, shown)| (w.conn, w.event(shown)))
            .collect();
        told.into_iter().for_each(|(conn, payload)| self.event(conn, &payload));
    }

    /// Takes back all watches and transactions of a client.
    pub(crate) fn reset(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.transactions.clear();
        let watches: Vec<_> = connection.watches.drain().collect();
        for (path, token) in watches {
            self.watches.remove(conn, &path, &token);
            self.charge_watch(conn, &path, &token, false);
        }
        if matches!(conn, ConnId::Domain(_)) {
            self.record(&Record::Reset { conn });
        }
    }

    /// Adds a watch to its owner's account, or takes it off.
    pub(crate) fn charge_watch(&mut self, conn: ConnId, path: &str, token: &[u8], add: bool) {
        let ConnId::Domain(domid) = conn else { return };
        let account = self.accounts.entry(domid).or_default();
        let bytes = path.len() + token.len();
        if add {
            account.watches += 1;
            account.memory += bytes;
        } else {
            account.watches = account.watches.saturating_sub(1);
            account.memory = account.memory.saturating_sub(bytes);
        }
    }

    /// Checks the accounts against the tree; an error says where they differ.
    pub fn check(&self) -> std::result::Result<(), String> {
        let mut fresh = Self::new(self.limits.clone());
        self.tree.root().walk("/", &mut |path, node| {
            if path == "/" {
                fresh.charge("/", 0, &Perms::private(DomId::DOM0), false);
            }
            fresh.charge(path, node.value().len(), node.perms(), true);
        });
        for (conn, connection) in &self.connections {
            for (path, token) in &connection.watches {
                fresh.charge_watch(*conn, path, token, true);
                if !self.watches.at(path).iter().any(|w| w.conn == *conn && w.token == *token) {
                    return Err(format!("{conn:?}: watch on {path} is not in the index"));
                }
            }
        }
        let none = Account::default();
        for domid in self.accounts.keys().chain(fresh.accounts.keys()) {
            let ours = self.accounts.get(domid).unwrap_or(&none);
            let counted = fresh.accounts.get(domid).unwrap_or(&none);
            let key = |a: &Account| (a.nodes, a.references, a.memory, a.watches);
            if key(ours) != key(counted) {
                return Err(format!("domain {domid}: {:?} booked, {:?} counted", key(ours), key(counted)));
            }
        }
        Ok(())
    }

    /// The connection's identity and the start of its relative paths.
    pub(crate) fn caller(&self, conn: ConnId) -> Result<(Identity, Arc<str>)> {
        let connection = self.connections.get(&conn).ok_or(Errno::Io)?;
        Ok((connection.who, connection.base.clone()))
    }
}
