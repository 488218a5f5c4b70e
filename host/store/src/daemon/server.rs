//! The loop.
//!
//! Clients that may have something to say stand in a queue. In one turn each is served up to [`SHARE`] units and goes
//! to the end if it is not done; then the kernel is asked for news. So a client that never stops asking delays
//! another one by its share, no more, however much it asks.

use super::admin::{Admin, Asked, Outside};
use super::domains::Domains;
use super::journal::Journal;
use super::logger;
use super::machine::Machine;
use super::ring::RingError;
use super::socket::{Client, Gone};
use crate::connection::ConnId;
use crate::perm::DomId;
use crate::record::Record;
use crate::state::{Socket, Stream};
use crate::store::Store;
use crate::wire::{self, Request};
use rustix::event::{Timespec, epoll};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// What one client may use in one turn, in units of a plain read.
const SHARE: u32 = 16;

/// Who has news, as the kernel tells it.
const LISTENER: u64 = 0;
const EVENTS: u64 = 1;
const SIGNAL: u64 = 2;
const SOCKETS: u64 = 16;

/// The daemon at work.
pub struct Server<M: Machine> {
    /// What it is all about.
    pub store: Store,
    /// Rings.
    pub domains: Domains<M>,
    /// Its own affairs.
    pub admin: Admin,
    journal: Option<Journal>,
    listener: Option<UnixListener>,
    /// Too many files are open: no new clients until one leaves.
    deaf: bool,
    signal: Option<OwnedFd>,
    clients: HashMap<u32, Client>,
    next_client: u32,
    poll: OwnedFd,
    queue: VecDeque<ConnId>,
    queued: HashSet<ConnId>,
    /// Domains to be served at a later time.
    later: BTreeMap<ConnId, u64>,
    /// Domains whose rings are to be looked at when the turn ends.
    rings: BTreeSet<DomId>,
    scratch: Vec<u8>,
    begun: Instant,
}

impl<M: Machine> Server<M> {
    /// A daemon that serves nobody yet.
    pub fn new(store: Store, machine: Option<M>) -> io::Result<Self> {
        let mut server = Self {
            store,
            domains: Domains::new(machine),
            admin: Admin::default(),
            journal: None,
            listener: None,
            deaf: false,
            signal: None,
            clients: HashMap::new(),
            next_client: 0,
            poll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            queue: VecDeque::new(),
            queued: HashSet::new(),
            later: BTreeMap::new(),
            rings: BTreeSet::new(),
            scratch: vec![0; 64 << 10],
            begun: Instant::now(),
        };
        if let Some(events) = server.domains.machine().and_then(|m| m.events()) {
            watch_fd(&server.poll, events, EVENTS)?;
        }
        Ok(server)
    }

    /// Accepts processes' connections.
    pub fn listen(&mut self, listener: UnixListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        watch_fd(&self.poll, listener.as_fd(), LISTENER)?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Opens the trace file anew whenever a byte comes from here.
    pub fn reopen_log_on(&mut self, signal: OwnedFd) -> io::Result<()> {
        watch_fd(&self.poll, signal.as_fd(), SIGNAL)?;
        self.signal = Some(signal);
        Ok(())
    }

    /// Takes on a process's connection; the store knows it already if `id` is given.
    pub fn add_client(&mut self, fd: OwnedFd, id: Option<u32>, rest: Vec<u8>) -> io::Result<ConnId> {
        let conn = match id {
            Some(id) => ConnId::Socket(id),
            None => {
                while self.clients.contains_key(&self.next_client) {
                    self.next_client = self.next_client.wrapping_add(1);
                }
                self.store.connect_socket(self.next_client)
            }
        };
        let ConnId::Socket(number) = conn else { return Ok(conn) };
        watch_fd(&self.poll, fd.as_fd(), SOCKETS + u64::from(number))?;
        self.next_client = self.next_client.max(number).wrapping_add(1);
        self.clients.insert(number, Client::new(fd, rest));
        if id.is_some() {
            self.send_to_client(number);
        }
        self.wake(conn);
        Ok(conn)
    }

    /// Keeps a journal from now on.
    pub fn keep(&mut self, journal: Journal) {
        self.store.take_journal();
        self.journal = Some(journal);
    }

    /// The state as records: of the domains alone, or with processes' connections too.
    pub fn state(&self, sockets: &[Socket]) -> Vec<u8> {
        let mut state = Vec::new();
        self.store.save(&self.domains.streams().0, sockets, &mut state);
        state
    }

    /// Processes' connections, to be passed on.
    pub fn clients(&self) -> impl Iterator<Item = (u32, &Client)> {
        self.clients.iter().map(|(id, client)| (*id, client))
    }

    /// The listening socket.
    pub fn listener(&self) -> Option<&UnixListener> {
        self.listener.as_ref()
    }

    /// Serves a ring that is mapped and bound to; the store knows the domain.
    pub fn add_ring(
        &mut self,
        domid: DomId,
        page: M::Page,
        port: Option<radon_xen::evtchn::Port>,
        stream: Stream,
    ) {
        self.domains.adopt(domid, page, port, stream);
        self.rings.insert(domid);
        self.wake(ConnId::Domain(domid));
        self.domains.notify(domid);
    }

    /// Has a client served in the next turn.
    pub fn wake(&mut self, conn: ConnId) {
        if self.queued.insert(conn) {
            self.queue.push_back(conn);
        }
    }

    /// One turn: waits for news, but no longer than `longest`; serves; keeps; sends.
    pub fn turn(&mut self, longest: Option<Duration>) -> io::Result<()> {
        self.wait(longest)?;
        let now = self.begun.elapsed().as_millis() as u64;
        self.store.set_time(now);
        let due: Vec<ConnId> =
            self.later.iter().filter(|(_, at)| **at <= now).map(|(conn, _)| *conn).collect();
        for conn in due {
            self.later.remove(&conn);
            self.wake(conn);
        }
        for _ in 0..self.queue.len() {
            let Some(conn) = self.queue.pop_front() else { break };
            self.queued.remove(&conn);
            match conn {
                ConnId::Socket(id) => self.serve_client(id),
                ConnId::Domain(domid) => self.serve_domain(domid),
            }
        }
        self.write_journal();
        self.send();
        // Rings that failed while sending have changed the state once more.
        self.write_journal();
        Ok(())
    }

    /// Whether a client waits to be served.
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }

    fn wait(&mut self, longest: Option<Duration>) -> io::Result<()> {
        let now = self.begun.elapsed().as_millis() as u64;
        let next = self.later.values().min().map(|at| Duration::from_millis(at.saturating_sub(now)));
        let timeout = if self.queue.is_empty() {
            [longest, next].into_iter().flatten().min()
        } else {
            Some(Duration::ZERO)
        };
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        let mut news =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 256];
        let count = match epoll::wait(&self.poll, &mut news[..], timeout.as_ref()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in news.iter().take(count) {
            let (flags, data) = (event.flags, event.data);
            match data.u64() {
                LISTENER => self.accept(),
                EVENTS => self.events(),
                SIGNAL => {
                    if let Some(signal) = &self.signal {
                        let _ = rustix::io::read(signal, &mut self.scratch[..]);
                    }
                    logger::trace(true);
                }
                token => {
                    let id = (token - SOCKETS) as u32;
                    if flags.contains(epoll::EventFlags::OUT) {
                        self.send_to_client(id);
                    }
                    self.wake(ConnId::Socket(id));
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) {
        loop {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((stream, _)) => {
                    if let Err(error) = self.add_client(stream.into(), None, Vec::new()) {
                        log::warn!("cannot serve a client: {error}");
                    }
                }
                Err(error) => {
                    // No file descriptors left: the news would come again and again.
                    if matches!(error.raw_os_error(), Some(23 | 24)) && !self.deaf {
                        log::error!("cannot accept a client: {error}");
                        self.deaf = epoll::delete(&self.poll, listener).is_ok();
                    }
                    return;
                }
            }
        }
    }

    fn events(&mut self) {
        let Some(machine) = self.domains.machine() else { return };
        let ports = match machine.pending() {
            Ok(ports) => ports,
            Err(error) => return log::error!("event channels: {error}"),
        };
        machine.unmask(&ports);
        let virq = machine.virq();
        for port in ports {
            if port == virq {
                self.check_domains();
            } else if let Some(domid) = self.domains.of_port(port) {
                self.rings.insert(domid);
                self.wake(ConnId::Domain(domid));
            }
        }
    }

    /// Looks which domains have shut down or are gone.
    pub fn check_domains(&mut self) {
        let Some(machine) = self.domains.machine() else { return };
        let all = match machine.domains() {
            Ok(all) => all,
            Err(error) => return log::error!("cannot list domains: {error}"),
        };
        let by_id: HashMap<u16, _> = all.into_iter().map(|info| (info.domid, info)).collect();
        for domid in self.store.known_domains() {
            match by_id.get(&domid.0) {
                Some(info) if !info.dying => {
                    if info.shutdown {
                        self.store.shut_down(domid);
                    }
                }
                _ => {
                    self.store
                        .end(domid, &mut Outside { domains: &mut self.domains, admin: &mut self.admin });
                    self.later.remove(&ConnId::Domain(domid));
                }
            }
        }
    }

    fn serve_client(&mut self, id: u32) {
        let conn = ConnId::Socket(id);
        let mut used = 0;
        loop {
            let Some(client) = self.clients.get_mut(&id) else { return };
            let length = match client.next_request() {
                Ok(Some(length)) => length,
                Ok(None) if used > 0 && client.rest().is_empty() => return,
                Ok(None) => match client.fetch(&mut self.scratch) {
                    Ok(true) => continue,
                    Ok(false) => return,
                    Err(gone) => return self.drop_client(id, gone),
                },
                Err(gone) => return self.drop_client(id, gone),
            };
            if used >= SHARE {
                return self.wake(conn);
            }
            if let Ok(Some((request, _))) = wire::split(client.rest()) {
                let mut outside = Outside { domains: &mut self.domains, admin: &mut self.admin };
                used += handle(&mut self.store, conn, &request, &mut outside);
            }
            client.advance(length);
        }
    }

    fn serve_domain(&mut self, domid: DomId) {
        let conn = ConnId::Domain(domid);
        if self.domains.ring(domid).is_some_and(|r| r.wants_reset()) {
            self.reconnect(domid);
        }
        let mut used = 0;
        loop {
            match self.store.served_at(conn) {
                Some(at) if at <= self.begun.elapsed().as_millis() as u64 => {}
                Some(at) => {
                    self.later.insert(conn, at);
                    return;
                }
                None => return,
            }
            let Some(ring) = self.domains.ring(domid) else { return };
            if used >= SHARE {
                return if ring.has_input() {
                    self.wake(conn)
                };
            }
            let before = ring.stream().received;
            let request = match ring.next_request() {
                Ok(request) => request,
                Err(error) => return self.break_ring(domid, error),
            };
            if ring.stream().received != before {
                let (index, rest) = (ring.stream().received, ring.stream().rest.as_slice().into());
                self.store.record(&Record::Received { domid, index, rest });
                self.rings.insert(domid);
            }
            let Some(bytes) = request else { return };
            if let Ok(Some((request, _))) = wire::split(&bytes) {
                let mut outside = Outside { domains: &mut self.domains, admin: &mut self.admin };
                used += handle(&mut self.store, conn, &request, &mut outside);
            }
        }
    }

    /// A domain has asked for its ring to be reset.
    fn reconnect(&mut self, domid: DomId) {
        log::info!("domain {domid}: reconnects");
        let Some(known) = self.store.introduced().get(&domid).cloned() else { return };
        self.store.adopt(domid, known.gfn, known.port);
        // The journal first: from now on it says zero, whatever the ring says.
        self.write_journal();
        if let Some(ring) = self.domains.ring(domid) {
            ring.reset();
        }
        self.domains.notify(domid);
    }

    fn break_ring(&mut self, domid: DomId, error: RingError) {
        log::warn!("domain {domid}: its ring is out of order ({error}); no longer served");
        self.store.restart(domid);
        self.store.record(&Record::Broken { domid, error: error.0 });
        if let Some(ring) = self.domains.ring(domid) {
            ring.fail(error);
        }
        self.domains.notify(domid);
    }

    fn drop_client(&mut self, id: u32, why: Gone) {
        if let Gone::Confused(oversized) = why {
            log::warn!("a client is given up: {oversized}");
        }
        if let Some(client) = self.clients.remove(&id) {
            let _ = epoll::delete(&self.poll, &client.fd);
        }
        self.store.close(ConnId::Socket(id));
        if self.admin.update.is_some_and(|asked| asked.conn == ConnId::Socket(id)) {
            self.admin.update = None;
        }
        if let (true, Some(listener)) = (self.deaf, &self.listener) {
            self.deaf = watch_fd(&self.poll, listener.as_fd(), LISTENER).is_err();
        }
    }

    fn write_journal(&mut self) {
        let records = self.store.take_journal();
        let Some(journal) = &mut self.journal else { return };
        let mut result = if records.is_empty() { Ok(()) } else { journal.append(&records) };
        if result.is_ok() && journal.is_long() {
            let mut state = Vec::new();
            self.store.save(&self.domains.streams().0, &[], &mut state);
            result = journal.renew(&state);
        }
        if let Err(error) = result {
            log::error!("the journal cannot be written, a restart will begin with an empty store: {error}");
            if let Some(journal) = self.journal.take() {
                journal.discard();
            }
        }
    }

    fn send(&mut self) {
        for conn in self.store.take_ready() {
            match conn {
                ConnId::Socket(id) => self.send_to_client(id),
                ConnId::Domain(domid) => drop(self.rings.insert(domid)),
            }
        }
        for domid in std::mem::take(&mut self.rings) {
            let conn = ConnId::Domain(domid);
            let Some(connection) = self.store.connection_mut(conn) else { continue };
            match self.domains.exchange(domid, &mut connection.out) {
                Ok(false) => {}
                Ok(true) => {
                    if self.domains.ring(domid).is_some_and(|r| r.has_input()) {
                        self.wake(conn);
                    }
                }
                Err(error) => self.break_ring(domid, error),
            }
        }
    }

    fn send_to_client(&mut self, id: u32) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Some(connection) = self.store.connection_mut(ConnId::Socket(id)) else { return };
        let was_blocked = client.blocked;
        match client.send(&mut connection.out) {
            Ok(()) if client.blocked != was_blocked => {
                let mut flags = epoll::EventFlags::IN;
                if client.blocked {
                    flags |= epoll::EventFlags::OUT;
                }
                let token = epoll::EventData::new_u64(SOCKETS + u64::from(id));
                let _ = epoll::modify(&self.poll, &client.fd, token, flags);
            }
            Ok(()) => {}
            Err(gone) => self.drop_client(id, gone),
        }
    }

    /// Sends a reply outside a turn, as far as it goes.
    pub fn answer(&mut self, asked: Asked, text: &str) {
        let payload = [text.as_bytes(), &[0]].concat();
        self.store.answer(asked.conn, asked.kind, asked.req_id, asked.tx_id, &payload);
        self.write_journal();
        self.send();
    }
}

fn watch_fd(poll: &OwnedFd, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    epoll::add(poll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN).map_err(Into::into)
}

fn handle<M: Machine>(
    store: &mut Store,
    conn: ConnId,
    request: &Request<'_>,
    outside: &mut Outside<'_, M>,
) -> u32 {
    let Request { kind, req_id, tx_id, payload } = *request;
    outside.admin.current = Some(Asked { conn, kind, req_id, tx_id });
    if logger::is_tracing() {
        let text = String::from_utf8_lossy(payload).replace('\0', " ");
        logger::trace_line(&format!("IN {conn:?} {kind} tx={tx_id} ({text})"));
    }
    store.handle(conn, request, outside)
}
