//! Pages of guests, and event channels.

use radon_xen::evtchn::{EventChannels, Port};
use radon_xen::foreign;
use radon_xen::gntdev::GrantDevice;
use radon_xen::guest::GuestPages;
use radon_xen::page::SharedPages;
use radon_xen::privcmd::Privcmd;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// What serving devices needs of a machine; tests have one of their own.
pub trait Machine {
    /// Mapped pages of a guest.
    type Pages: Deref<Target = SharedPages> + Send + 'static;
    /// A bound event channel, let go when dropped.
    type Channel: Channel + Send + 'static;
    /// Maps frames of a domain, in this order.
    fn frames(&self, domid: u16, frames: &[u64]) -> io::Result<Self::Pages>;
    /// Maps a page that a domain grants.
    fn granted(&self, domid: u16, reference: u32) -> io::Result<Self::Pages>;
    /// Binds to a domain's event channel.
    fn bind(&self, domid: u16, port: u32) -> io::Result<Self::Channel>;
}

/// An event channel: readable when there is an event.
pub trait Channel: AsFd {
    /// Sends an event.
    fn notify(&self);
    /// Whether there was one; then no further ones come before [`Channel::unmask`].
    fn take(&self) -> io::Result<bool>;
    /// Lets further ones through.
    fn unmask(&self);
}

/// Xen's.
#[derive(Debug)]
pub struct Xen {
    privcmd: Arc<Privcmd>,
    grants: GrantDevice,
}

impl Xen {
    /// Opens the devices.
    pub fn open(privcmd: Arc<Privcmd>) -> io::Result<Self> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("/dev/xen/gntdev: {e}"));
        Ok(Self { privcmd, grants: GrantDevice::open().map_err(named)? })
    }
}

impl Machine for Xen {
    type Pages = GuestPages;
    type Channel = Bound;

    fn frames(&self, domid: u16, frames: &[u64]) -> io::Result<GuestPages> {
        foreign::map(&self.privcmd, domid, frames).map(GuestPages::Shared)
    }

    fn granted(&self, domid: u16, reference: u32) -> io::Result<GuestPages> {
        self.grants.map(domid, reference).map(GuestPages::Granted)
    }

    fn bind(&self, domid: u16, port: u32) -> io::Result<Bound> {
        // A descriptor of its own: the channel goes with it, and who waits for one guest wakes for no other.
        let channels = EventChannels::open()?;
        let port = channels.bind_interdomain(domid, port)?;
        Ok(Bound { channels, port })
    }
}

/// Xen's event channel.
#[derive(Debug)]
pub struct Bound {
    channels: EventChannels,
    port: Port,
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channels.as_fd()
    }
}

impl Channel for Bound {
    fn notify(&self) {
        // A domain that is going away has no channel any more.
        let _ = self.channels.notify(self.port);
    }

    fn take(&self) -> io::Result<bool> {
        Ok(!self.channels.pending()?.is_empty())
    }

    fn unmask(&self) {
        let _ = self.channels.unmask(&[self.port]);
    }
}
