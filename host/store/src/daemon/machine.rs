//! What the daemon needs of Xen; the real thing is [`Xen`], tests have their own.

use crate::perm::DomId;
use radon_xen::evtchn::{EventChannels, Port};
use radon_xen::gntdev::GrantDevice;
use radon_xen::guest::GuestPages;
use radon_xen::page::SharedPages;
use radon_xen::privcmd::{DomainInfo, Privcmd};
use radon_xen::xenbus;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use xen_abi::grant_table::GNTTAB_RESERVED_XENSTORE;
use xen_abi::xen::VIRQ_DOM_EXC;

/// Domains, their rings and event channels.
pub trait Machine {
    /// A domain's ring, mapped.
    type Page: Deref<Target = SharedPages> + std::fmt::Debug;

    /// All domains.
    fn domains(&mut self) -> io::Result<Vec<DomainInfo>>;
    /// One domain.
    fn domain(&mut self, domid: DomId) -> io::Result<Option<DomainInfo>>;
    /// Maps a guest's ring.
    fn map(&mut self, domid: DomId, gfn: u64) -> io::Result<Self::Page>;
    /// Binds to a domain's port.
    fn bind(&mut self, domid: DomId, port: u32) -> io::Result<Port>;
    /// Closes a port of ours.
    fn unbind(&mut self, port: Port);
    /// Sends an event.
    fn notify(&mut self, port: Port);
    /// Ports that had an event.
    fn pending(&mut self) -> io::Result<Vec<Port>>;
    /// Lets their next events through.
    fn unmask(&mut self, ports: &[Port]);
    /// The port on which Xen tells that a domain has shut down or died.
    fn virq(&self) -> Port;
    /// The ring and the port of this domain's own kernel.
    fn own_ring(&mut self) -> io::Result<(Self::Page, u32)>;
    /// What becomes readable with an event.
    fn events(&self) -> Option<BorrowedFd<'_>>;
}

/// Xen, through its device nodes.
#[derive(Debug)]
pub struct Xen {
    privcmd: Privcmd,
    events: EventChannels,
    grants: GrantDevice,
    virq: Port,
}

impl Xen {
    /// Opens the devices.
    pub fn open() -> io::Result<Self> {
        let events = EventChannels::open()?;
        let virq = events.bind_virq(VIRQ_DOM_EXC)?;
        Self::with(events, virq)
    }

    /// Opens the devices, but for the event channels, which a live update has kept.
    pub fn inherit(events: OwnedFd, virq: Port) -> io::Result<Self> {
        Self::with(EventChannels::from_fd(events), virq)
    }

    fn with(events: EventChannels, virq: Port) -> io::Result<Self> {
        Ok(Self { privcmd: Privcmd::open()?, events, grants: GrantDevice::open()?, virq })
    }
}

impl Machine for Xen {
    type Page = GuestPages;

    fn domains(&mut self) -> io::Result<Vec<DomainInfo>> {
        const BATCH: usize = 512;
        let mut all: Vec<DomainInfo> = Vec::new();
        loop {
            let first = all.last().map_or(0, |d| d.domid + 1);
            let some = self.privcmd.domains(first, BATCH)?;
            let full = some.len() == BATCH;
            all.extend(some);
            if !full {
                return Ok(all);
            }
        }
    }

    fn domain(&mut self, domid: DomId) -> io::Result<Option<DomainInfo>> {
        self.privcmd.domain(domid.0)
    }

    fn map(&mut self, domid: DomId, gfn: u64) -> io::Result<GuestPages> {
        GuestPages::reserved(&self.privcmd, Some(&self.grants), domid.0, GNTTAB_RESERVED_XENSTORE, gfn)
    }

    fn bind(&mut self, domid: DomId, port: u32) -> io::Result<Port> {
        self.events.bind_interdomain(domid.0, port)
    }

    fn unbind(&mut self, port: Port) {
        if let Err(error) = self.events.unbind(port) {
            log::warn!("cannot close port {}: {error}", port.0);
        }
    }

    fn notify(&mut self, port: Port) {
        if let Err(error) = self.events.notify(port) {
            log::debug!("cannot send an event to port {}: {error}", port.0);
        }
    }

    fn pending(&mut self) -> io::Result<Vec<Port>> {
        self.events.pending()
    }

    fn unmask(&mut self, ports: &[Port]) {
        if let Err(error) = self.events.unmask(ports) {
            log::warn!("cannot unmask ports: {error}");
        }
    }

    fn virq(&self) -> Port {
        self.virq
    }

    fn own_ring(&mut self) -> io::Result<(GuestPages, u32)> {
        let backend = xenbus::Backend::open()?;
        Ok((GuestPages::Shared(backend.page), backend.port))
    }

    fn events(&self) -> Option<BorrowedFd<'_>> {
        Some(self.events.as_fd())
    }
}
