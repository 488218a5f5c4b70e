//! Where a part of a file lies on its device: `FS_IOC_FIEMAP` (`linux/fiemap.h`).
#![allow(unsafe_code, reason = "an ioctl")]

use rustix::ioctl::{Updater, ioctl, opcode};
use std::io;
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

const LAST: u32 = 0x1;
const SHARED: u32 = 0x2000;

/// A part of a file that lies in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file, in bytes.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// Where on the device, if that is a place where its bytes can be found as they are.
    pub place: Option<u64>,
    /// Whether another file may lie there, too.
    pub shared: bool,
}

/// The extents that `length` bytes from `start` on have a part in, in order; whole extents, and at most 64 of them.
pub fn extents(file: impl AsFd, start: u64, length: u64) -> io::Result<Vec<Extent>> {
    let count = COUNT as u32;
    let mut map =
        Map { start, length, flags: 0, mapped: 0, count, reserved: 0, extents: [Raw::default(); COUNT] };
    // SAFETY: the opcode's argument is a `struct fiemap` with room for `count` extents behind it, which is `Map`.
    unsafe { ioctl(file, Updater::<FS_IOC_FIEMAP, Map>::new(&mut map)) }?;
    let found = map.extents.iter().take(map.mapped as usize);
    Ok(found
        .map(|raw| Extent {
            start: raw.logical,
            length: raw.length,
            // No other flag: not unwritten, packed, inside something else, or not placed yet.
            place: (raw.flags & !(LAST | SHARED) == 0).then_some(raw.physical),
            shared: raw.flags & SHARED != 0,
        })
        .collect())
}
