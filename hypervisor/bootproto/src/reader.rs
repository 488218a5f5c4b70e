//! Bounds-checked little-endian reads of the loader's structures.

use crate::Error;
use alloc::string::String;
use alloc::vec::Vec;
use radon_addr::Maddr;

/// Copies machine memory at an address into the buffer; `false` when any of it is not readable.
pub type ReadMem<'a> = &'a dyn Fn(Maddr, &mut [u8]) -> bool;

/// Longest string taken from a loader, in bytes; the rest is cut off.
const MAX_STRING: usize = 16 * 1024;

pub(crate) struct Reader<'a> {
    read: ReadMem<'a>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(read: ReadMem<'a>) -> Self {
        Self { read }
    }

    fn array<const N: usize>(&self, at: Maddr, offset: u64) -> Result<[u8; N], Error> {
        let mut buf = [0; N];
        let from = at.checked_add(offset).ok_or(Error::Unreadable(at))?;
        from.checked_add(N as u64).ok_or(Error::Unreadable(from))?;
        if (self.read)(from, &mut buf) { Ok(buf) } else { Err(Error::Unreadable(from)) }
    }

    pub(crate) fn u32(&self, at: Maddr, offset: u64) -> Result<u32, Error> {
        self.array(at, offset).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&self, at: Maddr, offset: u64) -> Result<u64, Error> {
        self.array(at, offset).map(u64::from_le_bytes)
    }

    /// `len` bytes at `at`.
    pub(crate) fn bytes(&self, at: Maddr, len: usize) -> Result<Vec<u8>, Error> {
        let mut buf = alloc::vec![0; len];
        at.checked_add(len as u64).ok_or(Error::Unreadable(at))?;
        if (self.read)(at, &mut buf) { Ok(buf) } else { Err(Error::Unreadable(at)) }
    }

    /// The NUL-terminated string at `at`; bytes that are not UTF-8 are replaced.
    pub(crate) fn string(&self, at: Maddr) -> Result<String, Error> {
        self.string_within(at, MAX_STRING)
    }

    /// The string at `at` that ends at a NUL or after `max` bytes.
    pub(crate) fn string_within(&self, at: Maddr, max: usize) -> Result<String, Error> {
        let mut text = Vec::new();
        for i in 0..max.min(MAX_STRING) as u64 {
            match self.array(at, i)? {
                [0] => break,
                [byte] => text.push(byte),
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
