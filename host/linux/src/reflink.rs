//! Ranges of files that share their blocks (`FICLONERANGE`), and a block device's discard (`BLKDISCARD`; both `linux/fs.h`).
#![allow(unsafe_code, reason = "ioctls")]

use rustix::ioctl::{Setter, ioctl, opcode};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `struct file_clone_range`.
#[repr(C)]
struct CloneRange {
    source: i64,
    source_offset: u64,
    length: u64,
    destination_offset: u64,
}

const FICLONERANGE: rustix::ioctl::Opcode = opcode::write::<CloneRange>(0x94, 13);
const BLKDISCARD: rustix::ioctl::Opcode = opcode::none(0x12, 119);

/// Makes `length` bytes of `destination` from `to` on share the blocks of `source` from `from` on; whole blocks.
pub fn clone_range(
    source: impl AsFd,
    from: u64,
    length: u64,
    destination: impl AsFd,
    to: u64,
) -> io::Result<()> {
    let range = CloneRange {
        source: source.as_fd().as_raw_fd().into(),
        source_offset: from,
        length,
        destination_offset: to,
    };
    // SAFETY: the opcode's argument is a `struct file_clone_range`, which the kernel only reads.
    unsafe { ioctl(destination, Setter::<FICLONERANGE, CloneRange>::new(range)) }?;
    Ok(())
}

/// Tells a block device that a range holds nothing of interest any more.
pub fn discard(device: impl AsFd, from: u64, length: u64) -> io::Result<()> {
    // SAFETY: the opcode's argument is two 64-bit words, which the kernel only reads.
    unsafe { ioctl(device, Setter::<BLKDISCARD, [u64; 2]>::new([from, length])) }?;
    Ok(())
}
