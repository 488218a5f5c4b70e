//! The kernel's end of the store: as a client, and for the daemon that serves it.
#![allow(unsafe_code, reason = "ioctls")]

use crate::ioctl::{call, number};
use crate::page::SharedPages;
use rustix::fs::{Mode, OFlags, open};
use std::fs::File;
use std::io;

/// Opens a connection to the store through the kernel; messages are written to it and read from it.
pub fn open_client() -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let fd = open("/dev/xen/xenbus", flags, Mode::empty())?;
    Ok(fd.into())
}

/// The kernel's ring and its event channel, for the daemon on the same domain.
#[derive(Debug)]
pub struct Backend {
    /// The ring's page.
    pub page: SharedPages,
    /// The kernel's port, which the daemon is to bind to.
    pub port: u32,
}

impl Backend {
    /// Finds them: through the device, or through xenfs where there is none.
    pub fn open() -> io::Result<Self> {
        Self::from_device().or_else(|error| Self::from_xenfs().map_err(|_| error))
    }

    fn from_device() -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let fd = open("/dev/xen/xenbus_backend", flags, Mode::empty())?;
        // SAFETY: `IOCTL_XENBUS_BACKEND_EVTCHN` takes no argument.
        let port = unsafe { call(&fd, number(b'B', 0, 0), &mut ()) }?;
        Ok(Self { page: SharedPages::map(&fd, 0, 1)?, port })
    }

    fn from_xenfs() -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/xen/xsd_port")?;
        let port = text.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
        let fd = open("/proc/xen/xsd_kva", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { page: SharedPages::map(&fd, 0, 1)?, port })
    }
}
