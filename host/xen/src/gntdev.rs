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
use xen_abi::grant_table::{GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GNTST_OKAY};

/// `struct ioctl_gntdev_map_grant_ref` with one reference.
#[repr(C)]
struct Map {
    count: u32,
    _pad: u32,
    index: u64,
    domid: u32,
    reference: u32,
}

/// Pages of one mapping at most: the largest ring of a block or network device (`max-ring-page-order` 4).
pub const MOST_PAGES: usize = 16;

/// `struct ioctl_gntdev_map_grant_ref` with room for [`MOST_PAGES`] references, of which the first `count` are meant.
#[repr(C)]
struct MapMany {
    count: u32,
    _pad: u32,
    index: u64,
    references: [(u32, u32); MOST_PAGES],
}

/// `struct ioctl_gntdev_grant_copy`.
#[repr(C)]
struct CopyAll {
    count: u32,
    _pad: u32,
    segments: u64,
}

/// Copies of one call at most: a list on the stack, and the driver hands the hypervisor 16 at a time anyway.
const COPIES_AT_ONCE: usize = 64;

/// `struct ioctl_gntdev_grant_copy_segment`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct RawCopy {
    source: u64,
    dest: u64,
    length: u16,
    flags: u16,
    status: i16,
    _pad: u16,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the granted page into this process.
    FromGrant,
    /// From this process into the granted page.
    ToGrant,
}

/// Bytes between a page that another domain grants and this process's own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Which way.
    pub direction: Direction,
    /// The grant.
    pub reference: u32,
    /// Where in the granted page.
    pub offset: u16,
    /// Where in this process's memory.
    pub at: usize,
    /// Bytes: within the granted page.
    pub length: u16,
}

impl Copy {
    fn raw(&self, domain: u16, memory: &SharedPages) -> io::Result<RawCopy> {
        let in_memory = self.at.checked_add(self.length.into()).is_some_and(|end| end <= memory.len());
        let in_page = usize::from(self.offset) + usize::from(self.length) <= PAGE_SIZE;
        if !in_memory || !in_page {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // A union in both places: an address, or (reference, offset, domain).
        let own = memory.address() + self.at as u64;
        let foreign = u64::from(self.reference) | u64::from(self.offset) << 32 | u64::from(domain) << 48;
        let (source, dest, flags) = match self.direction {
            Direction::FromGrant => (foreign, own, GNTCOPY_SOURCE_GREF),
            Direction::ToGrant => (own, foreign, GNTCOPY_DEST_GREF),
        };
        Ok(RawCopy { source, dest, length: self.length, flags, status: 0, _pad: 0 })
    }
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

/// A granted page, or several in a row, mapped for as long as this lives.
#[derive(Debug)]
pub struct GrantedPage {
    /// Dropped first: the driver lets go of a grant only when its pages are unmapped.
    pages: Option<SharedPages>,
    index: u64,
    count: u32,
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
        let mut granted = GrantedPage { pages: None, index: map.index, count: 1, fd: self.fd.clone() };
        granted.pages = Some(SharedPages::map(&*self.fd, map.index, 1)?);
        Ok(granted)
    }

    /// Maps pages that `domain` grants under `references`, one behind the other: 1 to [`MOST_PAGES`] of them.
    pub fn map_many(&self, domain: u16, references: &[u32]) -> io::Result<GrantedPage> {
        let mut map = MapMany { count: 0, _pad: 0, index: 0, references: [(0, 0); MOST_PAGES] };
        if references.is_empty() || references.len() > MOST_PAGES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        map.count = references.len() as u32;
        for (to, reference) in map.references.iter_mut().zip(references) {
            *to = (domain.into(), *reference);
        }
        // SAFETY: the number is that of the structure with one reference; the driver reads `count` of them, which are there.
        unsafe { call(&*self.fd, number(b'G', 0, size_of::<Map>()), &mut map) }?;
        let mut granted =
            GrantedPage { pages: None, index: map.index, count: map.count, fd: self.fd.clone() };
        granted.pages = Some(SharedPages::map(&*self.fd, map.index, references.len())?);
        Ok(granted)
    }

    /// Copies between pages that `domain` grants and `memory`, in the hypervisor: nothing is mapped. `done` has, for each copy,
    /// whether it was made; an error is a mistake of the program or of the driver, and anything may have been copied.
    pub fn copy(
        &self,
        domain: u16,
        memory: &SharedPages,
        copies: &[Copy],
        done: &mut Vec<bool>,
    ) -> io::Result<()> {
        done.clear();
        let mut all = [RawCopy::default(); COPIES_AT_ONCE];
        for part in copies.chunks(COPIES_AT_ONCE) {
            let (raw, _) = all.split_at_mut(part.len());
            for (raw, copy) in raw.iter_mut().zip(part) {
                *raw = copy.raw(domain, memory)?;
            }
            let mut call_all =
                CopyAll { count: part.len() as u32, _pad: 0, segments: raw.as_mut_ptr() as u64 };
            // SAFETY: `struct ioctl_gntdev_grant_copy` with `count` segments at `segments`, alive and exclusive for the call; `raw`
            // has seen to it that the memory they name lies inside `memory`, which is only ever reached as shared memory.
            unsafe { call(&*self.fd, number(b'G', 8, size_of::<CopyAll>()), &mut call_all) }?;
            done.extend(raw.iter().map(|r| r.status == GNTST_OKAY));
        }
        Ok(())
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
        let mut unmap = Unmap { index: self.index, count: self.count, _pad: 0 };
        // SAFETY: `struct ioctl_gntdev_unmap_grant_ref`; nothing of the mapping is left.
        let _ = unsafe { call(&*self.fd, number(b'G', 1, size_of::<Unmap>()), &mut unmap) };
    }
}

const _: () = assert!(size_of::<Map>() == 24 && size_of::<Unmap>() == 16 && PAGE_SIZE == 4096);
const _: () = assert!(size_of::<MapMany>() == 16 + 8 * MOST_PAGES && size_of::<CopyAll>() == 16);
const _: () = assert!(size_of::<RawCopy>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_the_header_s() {
        let memory = SharedPages::anonymous(2).unwrap();
        let copy =
            Copy { direction: Direction::FromGrant, reference: 7, offset: 512, at: 4096, length: 1024 };
        let raw = copy.raw(5, &memory).unwrap();
        // foreign: u32 ref, u16 offset, u16 domid.
        assert_eq!(raw.source.to_le_bytes(), [7, 0, 0, 0, 0, 2, 5, 0]);
        assert_eq!((raw.dest, raw.length, raw.flags), (memory.address() + 4096, 1024, 1));
        let raw = Copy { direction: Direction::ToGrant, ..copy }.raw(5, &memory).unwrap();
        assert_eq!((raw.source, raw.flags), (memory.address() + 4096, 2));
        for wrong in
            [Copy { at: 8192 - 1023, ..copy }, Copy { offset: 3073, ..copy }, Copy { at: usize::MAX, ..copy }]
        {
            assert!(wrong.raw(5, &memory).is_err(), "{wrong:?}");
        }
    }
}
