//! Pages that other domains grant: `/dev/xen/gntdev`.
#![allow(unsafe_code, reason = "ioctls")]

use crate::PAGE_SIZE;
use crate::ioctl::{call, number};
use crate::page::SharedPages;
use rustix::fs::{Mode, OFlags, open};
use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// `struct ioctl_gntdev_map_grant_ref` with one reference.
#[repr(C)]
struct Map {
    count: u32,
    _pad: u32,
    index: u64,
    domid: u32,
    reference: u32,
}

#[repr(C)]
struct Unmap {
    index: u64,
    count: u32,
    _pad: u32,
}

/// The device, open.
#[derive(Clone, Debug)]
pub struct GrantDevice {
    fd: Arc<OwnedFd>,
}

/// A granted page, mapped for as long as this lives.
#[derive(Debug)]
pub struct GrantedPage {
    /// Dropped first: the driver lets go of a grant only when its pages are unmapped.
    pages: Option<SharedPages>,
    index: u64,
    fd: Arc<OwnedFd>,
}

impl GrantDevice {
    /// Opens the device.
    pub fn open() -> io::Result<Self> {
        let fd = open("/dev/xen/gntdev", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { fd: Arc::new(fd) })
    }

    /// Maps a page that `domain` grants under `reference`, to be read and written.
    pub fn map(&self, domain: u16, reference: u32) -> io::Result<GrantedPage> {
        let mut map = Map { count: 1, _pad: 0, index: 0, domid: domain.into(), reference };
        // SAFETY: the structure with room for the one reference that `count` announces.
        unsafe { call(&*self.fd, number(b'G', 0, size_of::<Map>()), &mut map) }?;
        let mut granted = GrantedPage { pages: None, index: map.index, fd: self.fd.clone() };
        granted.pages = Some(SharedPages::map(&*self.fd, map.index, 1)?);
        Ok(granted)
    }
}

impl Deref for GrantedPage {
    type Target = SharedPages;

    fn deref(&self) -> &SharedPages {
        self.pages.as_ref().unwrap_or_else(|| unreachable!("mapped from its making to its end"))
    }
}

impl Drop for GrantedPage {
    fn drop(&mut self) {
        self.pages = None;
        let mut unmap = Unmap { index: self.index, count: 1, _pad: 0 };
        // SAFETY: `struct ioctl_gntdev_unmap_grant_ref`; nothing of the mapping is left.
        let _ = unsafe { call(&*self.fd, number(b'G', 1, size_of::<Unmap>()), &mut unmap) };
    }
}

const _: () = assert!(size_of::<Map>() == 24 && size_of::<Unmap>() == 16 && PAGE_SIZE == 4096);
