//! A store written down as records, and made again from them.
//!
//! The same records serve the journal (a state, then every change to it) and a live update (a state, with what only a
//! running daemon has: file descriptors and processes' connections).
//!
//! Transactions survive as numbers only. One that is made again is *stale*: it works, and its commit answers EAGAIN,
//! which every client must be prepared for.

use crate::connection::{ConnId, Connection};
use crate::perm::{DomId, Identity};
use crate::record::Record;
use crate::store::{SPECIALS, Store};
use crate::transaction::Transaction;
use crate::tree::Node;
use crate::watch::Watch;
use crate::wire;
use std::collections::BTreeMap;
use xen_abi::xs_wire::XS_WATCH_EVENT;

/// Where a domain's byte streams stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Index of the request ring up to which bytes were fetched.
    pub received: u32,
    /// Fetched bytes that are part of a request.
    pub rest: Vec<u8>,
    /// Index of the reply ring at which the bytes of the outbox begin.
    pub sent: u32,
    /// The ring failed with this error.
    pub broken: Option<u32>,
}

/// A process's connection, passed on by a live update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Number of the connection.
    pub id: u32,
    /// Its file descriptor.
    pub fd: i32,
    /// Fetched bytes that are part of a request.
    pub rest: Vec<u8>,
}

/// What a live update passes on besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// The listening socket.
    pub listener: i32,
    /// The event channels; -1 without Xen.
    pub events: i32,
    /// Local port of `VIRQ_DOM_EXC`.
    pub virq: u32,
}

/// A state made again.
#[derive(Debug, Default)]
pub struct Restored {
    /// The store.
    pub store: Store,
    /// The connected domains' streams.
    pub streams: BTreeMap<DomId, Stream>,
    /// Processes' connections.
    pub sockets: Vec<Socket>,
    /// Domains' local ports.
    pub ports: BTreeMap<DomId, u32>,
    /// Descriptors of a live update.
    pub descriptors: Option<Descriptors>,
}

impl Restored {
    /// Carries out one record.
    pub fn apply(&mut self, record: Record<'_>) {
        match record {
            Record::Put { path, value, perms } => {
                if self.store.tree.get(&path).is_some() {
                    self.store.update(&path, (*value).into(), perms, DomId::DOM0);
                } else {
                    self.store.insert(&path, (*value).into(), perms, DomId::DOM0);
                }
            }
            Record::Remove { path } => drop(self.store.detach(&path, DomId::DOM0)),
            Record::Introduced { domid, gfn, port, received, sent } => {
                self.store.restart(domid);
                if let Some(known) = self.store.introduced.get_mut(&domid) {
                    (known.gfn, known.port) = (gfn, port);
                } else {
                    self.store.install(domid, gfn, port);
                }
                self.streams.insert(domid, Stream { received, sent, ..Stream::default() });
            }
            Record::Released { domid } => {
                self.store.forget(domid);
                self.streams.remove(&domid);
            }
            Record::Shutdown { domid, yes } => {
                if let Some(known) = self.store.introduced.get_mut(&domid) {
                    known.shutdown = yes;
                }
            }
            Record::Target { domid, target } => {
                if let Some(connection) = self.store.connections.get_mut(&ConnId::Domain(domid)) {
                    connection.who.target = Some(target);
                }
            }
            Record::Limit { name, soft, value } => drop(self.store.limits.set(&name, soft, value)),
            Record::Special { name, perms } => {
                let which = SPECIALS.iter().position(|s| *s == name);
                if let Some(special) = which.and_then(|w| self.store.specials.get_mut(w)) {
                    *special = perms;
                }
            }
            Record::Descriptors { listener, events, virq } => {
                self.descriptors = Some(Descriptors { listener, events, virq });
            }
            Record::Bound { domid, port } => drop(self.ports.insert(domid, port)),
            other => self.apply_to_connection(other),
        }
        self.store.take_journal();
        self.store.take_ready();
    }

    fn apply_to_connection(&mut self, record: Record<'_>) {
        match record {
            Record::Watched { conn, path, token, depth, cut } => {
                let (path, token) = ((*path).into(), (*token).into());
                self.store.add_watch(Watch { conn, path, token, depth, cut: cut as usize });
            }
            Record::Unwatched { conn, path, token } => {
                drop(self.store.remove_watch(conn, &path, &token));
            }
            Record::Began { conn, id } => {
                let mut transaction = Transaction::new(&self.store.tree, 0);
                transaction.stale = true;
                if let Some(connection) = self.store.connections.get_mut(&conn) {
                    connection.transactions.insert(id, transaction);
                    connection.next_transaction = id.wrapping_add(1);
                }
            }
            Record::Ended { conn, id } => {
                if let Some(connection) = self.store.connections.get_mut(&conn) {
                    connection.transactions.remove(&id);
                }
            }
            Record::Reset { conn } => self.store.reset(conn),
            Record::Queued { conn, bytes } => {
                if let Some(connection) = self.store.connections.get_mut(&conn) {
                    match wire::split(&bytes) {
                        Ok(Some((message, used)))
                            if message.kind == XS_WATCH_EVENT && used == bytes.len() =>
                        {
                            connection.out.event_again(bytes.to_vec(), message.payload);
                        }
                        _ => connection.out.reply(bytes.to_vec()),
                    }
                }
            }
            Record::Received { domid, index, rest } => {
                if let Some(stream) = self.streams.get_mut(&domid) {
                    (stream.received, stream.rest) = (index, rest.into_owned());
                }
            }
            Record::Broken { domid, error } => {
                if let Some(stream) = self.streams.get_mut(&domid) {
                    stream.broken = Some(error);
                }
            }
            Record::Socket { id, fd, rest } => {
                let conn = ConnId::Socket(id);
                self.store.connections.insert(conn, Connection::new(Identity::TOOLS));
                self.sockets.push(Socket { id, fd, rest: rest.into_owned() });
            }
            _ => {}
        }
    }

    /// Finishes: numbers of changes go on from `epoch`, which no earlier daemon of this store has reached.
    pub fn finish(&mut self, epoch: u64) {
        self.store.generation = self.store.generation.max(epoch);
    }
}

impl Store {
    /// Writes the whole state down. `streams` are where the domains' rings stand now; `sockets` are the processes'
    /// connections to be passed on.
    pub fn save(&self, streams: &BTreeMap<DomId, Stream>, sockets: &[Socket], out: &mut Vec<u8>) {
        for (name, soft) in crate::quota::Limits::names() {
            let value = self.limits.get(name, soft).unwrap_or_default();
            Record::Limit { name: name.into(), soft, value }.write(out);
        }
        for (name, perms) in SPECIALS.iter().zip(&self.specials) {
            Record::Special { name: (*name).into(), perms: perms.clone() }.write(out);
        }
        save_nodes(self.tree.root(), &mut String::from("/"), out);
        for (domid, known) in &self.introduced {
            let stream = streams.get(domid).cloned().unwrap_or_default();
            Record::Introduced {
                domid: *domid,
                gfn: known.gfn,
                port: known.port,
                received: stream.received,
                sent: stream.sent,
            }
            .write(out);
            if !stream.rest.is_empty() {
                let rest = stream.rest.into();
                Record::Received { domid: *domid, index: stream.received, rest }.write(out);
            }
            if let Some(error) = stream.broken {
                Record::Broken { domid: *domid, error }.write(out);
            }
            if known.shutdown {
                Record::Shutdown { domid: *domid, yes: true }.write(out);
            }
        }
        for domid in self.introduced.keys() {
            self.save_connection(ConnId::Domain(*domid), out);
        }
        for Socket { id, fd, rest } in sockets {
            Record::Socket { id: *id, fd: *fd, rest: rest.into() }.write(out);
            self.save_connection(ConnId::Socket(*id), out);
        }
    }

    fn save_connection(&self, conn: ConnId, out: &mut Vec<u8>) {
        let Some(connection) = self.connections.get(&conn) else { return };
        if let (Some(target), ConnId::Domain(domid)) = (connection.who.target, conn) {
            Record::Target { domid, target }.write(out);
        }
        for (path, token) in &connection.watches {
            let watch = self.watches.at(path).iter().find(|w| w.conn == conn && w.token == *token);
            let (depth, cut) = watch.map_or((None, 0), |w| (w.depth, w.cut as u32));
            Record::Watched { conn, path: (&**path).into(), token: (&**token).into(), depth, cut }.write(out);
        }
        for id in connection.transactions.keys() {
            Record::Began { conn, id: *id }.write(out);
        }
        for piece in connection.out.pieces() {
            Record::Queued { conn, bytes: piece.into() }.write(out);
        }
    }
}

/// Parents first, siblings in the order in which they came.
fn save_nodes(node: &Node, path: &mut String, out: &mut Vec<u8>) {
    let value = (&**node.value()).into();
    Record::Put { path: path.as_str().into(), value, perms: node.perms().clone() }.write(out);
    let mut children: Vec<_> = node.children().iter().collect();
    children.sort_unstable_by_key(|c| c.order());
    let length = path.len();
    for child in children {
        if path != "/" {
            path.push('/');
        }
        path.push_str(child.name());
        save_nodes(child, path, out);
        path.truncate(length);
    }
}
