//! Event channels: `/dev/xen/evtchn`.
//!
//! A descriptor stands for the ports bound through it. An event on one of them makes it readable and masks the port;
//! [`EventChannels::unmask`] lets the next one through. When the last copy of the descriptor is closed, by an exit
//! or a kill too, the kernel closes all its ports.
#![allow(unsafe_code, reason = "ioctls")]

use crate::ioctl::{call, number};
use rustix::fs::{Mode, OFlags, open};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use zerocopy::IntoBytes;

/// A port of this domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u32);

#[repr(C)]
struct BindInterdomain {
    remote_domain: u32,
    remote_port: u32,
}

/// The device, open.
#[derive(Debug)]
pub struct EventChannels {
    fd: OwnedFd,
}

impl EventChannels {
    /// Opens the device.
    pub fn open() -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(Self { fd: open("/dev/xen/evtchn", flags, Mode::empty())? })
    }

    /// Takes over a descriptor of the device, with the ports that are bound through it.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Binds a virtual interrupt.
    pub fn bind_virq(&self, virq: u32) -> io::Result<Port> {
        // SAFETY: `struct ioctl_evtchn_bind_virq` is one 32-bit word.
        unsafe { call(&self.fd, number(b'E', 0, 4), &mut { virq }) }.map(Port)
    }

    /// Binds to another domain's unbound port.
    pub fn bind_interdomain(&self, domain: u16, port: u32) -> io::Result<Port> {
        let mut bind = BindInterdomain { remote_domain: domain.into(), remote_port: port };
        // SAFETY: `struct ioctl_evtchn_bind_interdomain`.
        unsafe { call(&self.fd, number(b'E', 1, 8), &mut bind) }.map(Port)
    }

    /// Makes a port that a domain may bind to.
    pub fn bind_unbound(&self, domain: u16) -> io::Result<Port> {
        // SAFETY: `struct ioctl_evtchn_bind_unbound_port` is one 32-bit word.
        unsafe { call(&self.fd, number(b'E', 2, 4), &mut u32::from(domain)) }.map(Port)
    }

    /// Closes a port.
    pub fn unbind(&self, port: Port) -> io::Result<()> {
        // SAFETY: `struct ioctl_evtchn_unbind` is one 32-bit word.
        unsafe { call(&self.fd, number(b'E', 3, 4), &mut { port.0 }) }.map(drop)
    }

    /// Sends an event.
    pub fn notify(&self, port: Port) -> io::Result<()> {
        // SAFETY: `struct ioctl_evtchn_notify` is one 32-bit word.
        unsafe { call(&self.fd, number(b'E', 4, 4), &mut { port.0 }) }.map(drop)
    }

    /// Ports that have had an event, and are masked now; empty if there is none.
    pub fn pending(&self) -> io::Result<Vec<Port>> {
        let mut words = [0u32; 256];
        match rustix::io::read(&self.fd, words.as_mut_bytes()) {
            Ok(bytes) => Ok(words.iter().take(bytes / 4).map(|p| Port(*p)).collect()),
            Err(rustix::io::Errno::AGAIN) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets further events of these ports through.
    pub fn unmask(&self, ports: &[Port]) -> io::Result<()> {
        let words: Vec<u32> = ports.iter().map(|p| p.0).collect();
        rustix::io::write(&self.fd, words.as_bytes()).map(drop).map_err(Into::into)
    }
}

impl AsFd for EventChannels {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
