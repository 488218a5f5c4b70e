//! Pages of guests, and event channels.

use radon_xen::evtchn::{EventChannels, Port};
use radon_xen::gntdev::GrantDevice;
use radon_xen::guest::GuestPages;
use radon_xen::page::SharedPages;
use radon_xen::privcmd::Privcmd;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use xen_abi::grant_table::GNTTAB_RESERVED_CONSOLE;

/// What the daemon needs of a machine; tests have one of their own.
pub trait Machine {
    /// A mapped page.
    type Page: Deref<Target = SharedPages>;
    /// Maps the page of a domain's console, which is at this frame of its.
    fn map(&self, domid: u16, frame: u64) -> io::Result<Self::Page>;
    /// Binds to a domain's event channel.
    fn bind(&self, domid: u16, port: u32) -> io::Result<Port>;
    /// Lets one go.
    fn unbind(&self, port: Port);
    /// Sends an event.
    fn notify(&self, port: Port);
    /// Ports that have had an event, and are masked now.
    fn pending(&self) -> io::Result<Vec<Port>>;
    /// Lets further events of a port through.
    fn unmask(&self, port: Port);
    /// Readable when there are events.
    fn events(&self) -> BorrowedFd<'_>;
}

/// Xen's.
#[derive(Debug)]
pub struct Xen {
    privcmd: Arc<Privcmd>,
    grants: Option<GrantDevice>,
    channels: EventChannels,
}

impl Xen {
    /// Opens the devices.
    pub fn open(privcmd: Arc<Privcmd>) -> io::Result<Self> {
        let named = |name: &'static str| {
            move |e: io::Error| io::Error::new(e.kind(), format!("/dev/xen/{name}: {e}"))
        };
        // Without it there is still the way by frames.
        let grants = GrantDevice::open().map_err(named("gntdev")).inspect_err(|e| log::warn!("{e}")).ok();
        Ok(Self { privcmd, grants, channels: EventChannels::open().map_err(named("evtchn"))? })
    }
}

impl Machine for Xen {
    type Page = GuestPages;

    fn map(&self, domid: u16, frame: u64) -> io::Result<GuestPages> {
        GuestPages::reserved(&self.privcmd, self.grants.as_ref(), domid, GNTTAB_RESERVED_CONSOLE, frame)
    }

    fn bind(&self, domid: u16, port: u32) -> io::Result<Port> {
        self.channels.bind_interdomain(domid, port)
    }

    fn unbind(&self, port: Port) {
        let _ = self.channels.unbind(port);
    }

    fn notify(&self, port: Port) {
        // A domain that is going away has no channel any more.
        let _ = self.channels.notify(port);
    }

    fn pending(&self) -> io::Result<Vec<Port>> {
        self.channels.pending()
    }

    fn unmask(&self, port: Port) {
        let _ = self.channels.unmask(&[port]);
    }

    fn events(&self) -> BorrowedFd<'_> {
        self.channels.as_fd()
    }
}
