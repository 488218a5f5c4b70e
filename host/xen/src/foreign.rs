//! Another domain's memory, by frame: what a domain builder and a store may do that no grant covers.
#![allow(unsafe_code, reason = "ioctls")]

use crate::ioctl::{call, number};
use crate::page::SharedPages;
use crate::privcmd::Privcmd;
use std::io;
use std::os::fd::AsFd;

/// `struct privcmd_mmapbatch_v2`.
#[repr(C)]
struct MapBatch {
    count: u32,
    domain: u16,
    address: u64,
    frames: *const u64,
    errors: *mut i32,
}

/// Maps frames of a domain, in the order given, to be read and written.
///
/// All of them or none: the error is the first frame's that could not be mapped.
pub fn map(privcmd: &Privcmd, domain: u16, frames: &[u64]) -> io::Result<SharedPages> {
    let (pages, errors, result) = try_map(privcmd, domain, frames)?;
    if let Some(error) = errors.iter().find(|e| **e != 0) {
        return Err(io::Error::from_raw_os_error(error.saturating_neg()));
    }
    result.map(|()| pages)
}

/// Maps those of the frames that have memory behind them, and says which do. The others' pages must not be touched.
pub fn map_present(privcmd: &Privcmd, domain: u16, frames: &[u64]) -> io::Result<(SharedPages, Vec<bool>)> {
    let (pages, errors, result) = try_map(privcmd, domain, frames)?;
    // The call as a whole fails for some kinds of a frame's error, and with no frame's for others.
    if errors.iter().all(|e| *e == 0) {
        result?;
    }
    Ok((pages, errors.iter().map(|e| *e == 0).collect()))
}

/// The pages, each frame's error, and the call's.
fn try_map(
    privcmd: &Privcmd,
    domain: u16,
    frames: &[u64],
) -> io::Result<(SharedPages, Vec<i32>, io::Result<()>)> {
    let count = u32::try_from(frames.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let pages = SharedPages::map(privcmd.as_fd(), 0, frames.len())?;
    let mut errors = vec![0i32; frames.len()];
    let (frames, address) = (frames.as_ptr(), pages.address());
    let mut batch = MapBatch { count, domain, address, frames, errors: errors.as_mut_ptr() };
    // SAFETY: both arrays have `count` elements, and `count` pages are mapped at `address`.
    let result = unsafe { call(privcmd.as_fd(), number(b'P', 4, size_of::<MapBatch>()), &mut batch) };
    Ok((pages, errors, result.map(drop)))
}

const _: () = assert!(size_of::<MapBatch>() == 32);
