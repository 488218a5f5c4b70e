//! The extents of a file, from the kernel: `FS_IOC_FIEMAP` (`linux/fiemap.h`).

use std::fs::File;
use std::io;

use rustix::ioctl::{Updater, ioctl, opcode};

use crate::{Extent, Place};

const COUNT: usize = 512;

/// `struct fiemap`, without the extents behind it.
#[repr(C)]
struct Header {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved_end: [u32; 3],
}

#[repr(C)]
struct Map {
    header: Header,
    extents: [RawExtent; COUNT],
}

const _: () = assert!(size_of::<Header>() == 32 && size_of::<RawExtent>() == 56);

const FS_IOC_FIEMAP: rustix::ioctl::Opcode = opcode::read_write::<Header>(b'f', 11);

/// Write back first what is in memory only.
const SYNC: u32 = 1;

/// Flags of an extent.
mod flag {
    pub const LAST: u32 = 0x1;
    /// No place is known, it is not decided yet, the bytes are packed, encrypted, not whole blocks, inside metadata, or in a tail.
    pub const NO_PLACE: u32 = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400;
    pub const UNWRITTEN: u32 = 0x800;
    pub const SHARED: u32 = 0x2000;
}

/// All extents, in rising order; what was written before the call is on the disk after it.
pub fn extents(file: &File) -> io::Result<Vec<Extent>> {
    let none =
        RawExtent { logical: 0, physical: 0, length: 0, reserved: [0; 2], flags: 0, reserved_end: [0; 3] };
    let header = Header { start: 0, length: 0, flags: SYNC, mapped: 0, count: 0, reserved: 0 };
    let mut map = Box::new(Map { header, extents: [none; COUNT] });
    let mut found = Vec::new();
    let mut start = 0;
    loop {
        map.header = Header {
            start,
            length: u64::MAX - start,
            flags: if start == 0 { SYNC } else { 0 },
            mapped: 0,
            count: COUNT as u32,
            reserved: 0,
        };
        // SAFETY: the opcode's argument is a `struct fiemap` with room for `count` extents behind it, which is `Map`.
        unsafe { ioctl(file, Updater::<FS_IOC_FIEMAP, Map>::new(&mut map)) }?;
        let count = map.header.mapped as usize;
        let Some(raw) = map.extents.get(..count).filter(|e| !e.is_empty()) else { return Ok(found) };
        for extent in raw {
            found.push(Extent {
                start: extent.logical,
                length: extent.length,
                place: place(extent),
                shared: extent.flags & flag::SHARED != 0,
            });
            start = extent.logical.saturating_add(extent.length);
            if extent.flags & flag::LAST != 0 {
                return Ok(found);
            }
        }
    }
}

fn place(extent: &RawExtent) -> Place {
    if extent.flags & flag::UNWRITTEN != 0 {
        Place::Zeros
    } else if extent.flags & flag::NO_PLACE != 0 {
        Place::Unknown
    } else {
        Place::Disk(extent.physical)
    }
}
