//! The connected domains' rings.

use super::machine::Machine;
use super::ring::{Ring, RingError};
use crate::connection::Outbox;
use crate::errno::{Errno, Result};
use crate::perm::DomId;
use crate::state::Stream;
use radon_xen::evtchn::Port;
use std::collections::{BTreeMap, HashMap};
use std::io;

/// A connected domain.
#[derive(Debug)]
struct Domain<P> {
    ring: Ring<P>,
    /// Ours; `None` if the domain's could not be bound.
    port: Option<Port>,
}

/// All of them, and the machine they are on (`None`: no Xen, sockets only).
#[derive(Debug)]
pub struct Domains<M: Machine> {
    machine: Option<M>,
    domains: BTreeMap<DomId, Domain<M::Page>>,
    by_port: HashMap<Port, DomId>,
}

impl<M: Machine> Domains<M> {
    /// None yet.
    pub fn new(machine: Option<M>) -> Self {
        Self { machine, domains: BTreeMap::new(), by_port: HashMap::new() }
    }

    /// The machine.
    pub fn machine(&mut self) -> Option<&mut M> {
        self.machine.as_mut()
    }

    /// Whether there is such a domain. Without Xen there is every domain.
    pub fn exists(&mut self, domid: DomId) -> bool {
        match &mut self.machine {
            None => true,
            Some(machine) => matches!(machine.domain(domid), Ok(Some(info)) if !info.dying),
        }
    }

    /// Takes on a ring that is mapped and bound to.
    pub fn adopt(&mut self, domid: DomId, page: M::Page, port: Option<Port>, stream: Stream) {
        if let Some(port) = port {
            self.by_port.insert(port, domid);
        }
        self.domains.insert(domid, Domain { ring: Ring::new(page, stream), port });
    }

    /// Maps and binds as a toolstack's INTRODUCE asks for; both streams start afresh.
    pub fn connect(&mut self, domid: DomId, gfn: u64, port: u32) -> Result<()> {
        let machine = self.machine.as_mut().ok_or(Errno::Nosys)?;
        let failed = |error: io::Error| {
            log::warn!("domain {domid}: cannot connect: {error}");
            match error.raw_os_error() {
                Some(2 | 3) => Errno::Noent,
                Some(12) => Errno::Nomem,
                Some(22) => Errno::Inval,
                _ => Errno::Io,
            }
        };
        if let Some(domain) = self.domains.get_mut(&domid) {
            // The domain's end of the channel is a new one.
            if let Some(old) = domain.port.take() {
                machine.unbind(old);
                self.by_port.remove(&old);
            }
            domain.port = machine.bind(domid, port).inspect_err(|e| log::warn!("domain {domid}: {e}")).ok();
            domain.ring.reset();
        } else {
            let page = machine.map(domid, gfn).map_err(failed)?;
            let local = machine.bind(domid, port).map_err(failed)?;
            let mut ring = Ring::new(page, Stream::default());
            ring.reset();
            self.domains.insert(domid, Domain { ring, port: Some(local) });
        }
        if let Some(port) = self.domains.get(&domid).and_then(|d| d.port) {
            self.by_port.insert(port, domid);
            machine.notify(port);
        }
        Ok(())
    }

    /// Lets a domain go.
    pub fn disconnect(&mut self, domid: DomId) {
        let Some(domain) = self.domains.remove(&domid) else { return };
        if let (Some(port), Some(machine)) = (domain.port, &mut self.machine) {
            machine.unbind(port);
            self.by_port.remove(&port);
        }
    }

    /// Whose port this is.
    pub fn of_port(&self, port: Port) -> Option<DomId> {
        self.by_port.get(&port).copied()
    }

    /// A domain's ring.
    pub fn ring(&mut self, domid: DomId) -> Option<&mut Ring<M::Page>> {
        self.domains.get_mut(&domid).map(|d| &mut d.ring)
    }

    /// Where all streams stand, and our ports.
    pub fn streams(&self) -> (BTreeMap<DomId, Stream>, BTreeMap<DomId, u32>) {
        let streams = self.domains.iter().map(|(id, d)| (*id, d.ring.stream().clone())).collect();
        let ports = self.domains.iter().filter_map(|(id, d)| d.port.map(|p| (*id, p.0))).collect();
        (streams, ports)
    }

    /// The connected domains.
    pub fn ids(&self) -> Vec<DomId> {
        self.domains.keys().copied().collect()
    }

    /// Tells a domain what we have fetched and sends it what fits; whether either was news, after which there may be more
    /// to fetch without an event of the domain's.
    pub fn exchange(&mut self, domid: DomId, out: &mut Outbox) -> std::result::Result<bool, RingError> {
        let Some(domain) = self.domains.get_mut(&domid) else { return Ok(false) };
        let sent = domain.ring.send(out)?;
        let fetched = domain.ring.publish();
        let news = sent > 0 || fetched;
        if news && let (Some(port), Some(machine)) = (domain.port, &mut self.machine) {
            machine.notify(port);
        }
        Ok(news)
    }

    /// Sends a domain an event.
    pub fn notify(&mut self, domid: DomId) {
        if let (Some(domain), Some(machine)) = (self.domains.get(&domid), &mut self.machine)
            && let Some(port) = domain.port
        {
            machine.notify(port);
        }
    }
}
