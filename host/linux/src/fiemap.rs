//! Where a file's bytes lie on its device: `FS_IOC_FIEMAP` (`linux/fiemap.h`).
#![allow(unsafe_code, reason = "an ioctl")]

use rustix::ioctl::{Updater, ioctl, opcode};
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

const COUNT: usize = 64;

/// `struct fiemap` with room for [`COUNT`] extents.
#[repr(C)]
struct Map {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Raw; COUNT],
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Raw {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved_end: [u32; 3],
}

const _: () = assert!(size_of::<Raw>() == 56);

/// The number holds the size of `struct fiemap` without extents.
const FS_IOC_FIEMAP: rustix::ioctl::Opcode = opcode::read_write::<[u64; 4]>(b'f', 11);

/// Of the call: write back first what is in memory only.
const SYNC: u32 = 0x1;

/// Flags of an extent.
mod flag {
    pub const LAST: u32 = 0x1;
    pub const UNWRITTEN: u32 = 0x800;
    pub const SHARED: u32 = 0x2000;
}

/// A part of a file that lies in one piece. Parts that no extent covers are holes and read as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file it begins, in bytes.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// Where its bytes are.
    pub place: Place,
    /// Whether another file may have them too.
    pub shared: bool,
}

/// Where bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Reserved but never written: they read as zeros.
    Zeros,
    /// At this byte of the file system's device. Two files that have the same place have the same bytes.
    Disk(u64),
    /// The file system does not say (packed, inside something else, not placed yet, ...).
    Unknown,
}

impl Extent {
    /// The part of the file.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start.saturating_add(self.length)
    }
}

/// The extents that `length` bytes from `start` on have a part in, in order; whole extents, and at most 64 of them.
pub fn extents(file: impl AsFd, start: u64, length: u64) -> io::Result<Vec<Extent>> {
    Ok(ask(file, start, length, 0)?.0)
}

/// All extents of a file, in order; what was written before the call is on the disk after it.
pub fn all(file: impl AsFd) -> io::Result<Vec<Extent>> {
    let mut found: Vec<Extent> = Vec::new();
    loop {
        let start = found.last().map_or(0, |e| e.range().end);
        let flags = if found.is_empty() { SYNC } else { 0 };
        let (more, last) = ask(file.as_fd(), start, u64::MAX - start, flags)?;
        let done = last || more.is_empty();
        found.extend(more);
        if done {
            return Ok(found);
        }
    }
}

/// At most [`COUNT`] extents, and whether the file's last is among them.
fn ask(file: impl AsFd, start: u64, length: u64, flags: u32) -> io::Result<(Vec<Extent>, bool)> {
    let count = COUNT as u32;
    let mut map =
        Map { start, length, flags, mapped: 0, count, reserved: 0, extents: [Raw::default(); COUNT] };
    // SAFETY: the opcode's argument is a `struct fiemap` with room for `count` extents behind it, which is `Map`.
    unsafe { ioctl(file, Updater::<FS_IOC_FIEMAP, Map>::new(&mut map)) }?;
    let found = map.extents.get(..map.mapped as usize).unwrap_or(&map.extents);
    let last = found.iter().any(|raw| raw.flags & flag::LAST != 0);
    Ok((found.iter().map(extent).collect(), last))
}

fn extent(raw: &Raw) -> Extent {
    let place = if raw.flags & flag::UNWRITTEN != 0 {
        Place::Zeros
    } else if raw.flags & !(flag::LAST | flag::SHARED) == 0 {
        Place::Disk(raw.physical)
    } else {
        Place::Unknown
    };
    Extent { start: raw.logical, length: raw.length, place, shared: raw.flags & flag::SHARED != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_only_where_the_bytes_are_as_they_are() {
        let of = |flags| extent(&Raw { logical: 1, physical: 2, length: 3, flags, ..Raw::default() });
        assert_eq!(of(0), Extent { start: 1, length: 3, place: Place::Disk(2), shared: false });
        assert_eq!(of(0x2001), Extent { start: 1, length: 3, place: Place::Disk(2), shared: true });
        assert_eq!(of(0x801).place, Place::Zeros);
        // Not placed, delayed, encoded, encrypted, not whole blocks, inside metadata, a tail; and what is not known here.
        for flags in [0x2, 0x4, 0x8, 0x80, 0x100, 0x200, 0x400, 0x8000] {
            assert_eq!(of(flags).place, Place::Unknown, "{flags:#x}");
        }
    }
}
