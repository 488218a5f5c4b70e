//! Memory that somebody else may change at any time.
#![allow(unsafe_code, reason = "maps memory and reaches it through atomics")]

use crate::PAGE_SIZE;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Mapped pages that are shared with another domain, a driver, or another part of this process.
///
/// All access is by value, through atomics. Offsets come from the program, not from the other side: one beyond the
/// end is a mistake and panics.
#[derive(Debug)]
pub struct SharedPages {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is reached through atomics only.
unsafe impl Send for SharedPages {}
// SAFETY: as above.
unsafe impl Sync for SharedPages {}

impl SharedPages {
    /// Maps `pages` pages of a device at `offset`, to be read and written.
    pub fn map(fd: impl AsFd, offset: u64, pages: usize) -> std::io::Result<Self> {
        let length = pages * PAGE_SIZE;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice takes nothing away from anyone.
        let start = unsafe { mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, fd, offset) }?;
        Self::new(start.cast(), length)
    }

    /// Pages of this process alone, zeroed: a stand-in where there is no Xen.
    pub fn anonymous(pages: usize) -> std::io::Result<Self> {
        let length = pages * PAGE_SIZE;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as in `map`.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), length, protection, MapFlags::SHARED) }?;
        Self::new(start.cast(), length)
    }

    fn new(start: *mut u8, length: usize) -> std::io::Result<Self> {
        let start = NonNull::new(start).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    /// Bytes of it.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Its address in this process, for a driver or a hypercall.
    pub fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    fn bytes(&self) -> &[AtomicU8] {
        // SAFETY: mapped for as long as `self` lives; any bytes are an AtomicU8; whoever else writes them, does so
        // as the hardware does, which atomics allow.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length) }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.length, "word at {offset} of {}", self.length);
        // SAFETY: inside the mapping and aligned (the mapping is page-aligned); else as in `bytes`.
        unsafe { &*self.start.as_ptr().add(offset).cast::<AtomicU32>() }
    }

    /// Reads a word; later accesses are not done before it.
    pub fn load(&self, offset: usize) -> u32 {
        self.word(offset).load(Ordering::Acquire)
    }

    /// Writes a word, after all earlier accesses.
    pub fn store(&self, offset: usize, value: u32) {
        self.word(offset).store(value, Ordering::Release);
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: page-aligned and whole pages; else as in `bytes`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length / 8) }
    }

    /// Copies bytes out.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        let end = offset + to.len();
        let (head, words) = self.split(offset, end);
        let (first, rest) = to.split_at_mut(head.len());
        for (to, from) in first.iter_mut().zip(head) {
            *to = from.load(Ordering::Relaxed);
        }
        let (middle, last) = rest.split_at_mut(words.len() * 8);
        for (to, from) in middle.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&from.load(Ordering::Relaxed).to_ne_bytes());
        }
        let tail = end - last.len();
        for (to, from) in last.iter_mut().zip(&self.bytes()[tail..end]) {
            *to = from.load(Ordering::Relaxed);
        }
    }

    /// Copies bytes in.
    pub fn write(&self, offset: usize, from: &[u8]) {
        let end = offset + from.len();
        let (head, words) = self.split(offset, end);
        let (first, rest) = from.split_at(head.len());
        for (from, to) in first.iter().zip(head) {
            to.store(*from, Ordering::Relaxed);
        }
        let (middle, last) = rest.split_at(words.len() * 8);
        for (from, to) in middle.chunks_exact(8).zip(words) {
            let mut word = [0; 8];
            word.copy_from_slice(from);
            to.store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
        for (from, to) in last.iter().zip(&self.bytes()[end - last.len()..end]) {
            to.store(*from, Ordering::Relaxed);
        }
    }

    /// Writes zeros.
    pub fn clear(&self, offset: usize, length: usize) {
        const ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];
        for at in (offset..offset + length).step_by(PAGE_SIZE) {
            self.write(at, &ZEROS[..PAGE_SIZE.min(offset + length - at)]);
        }
    }

    /// The bytes of `offset..end` in front of the first aligned word, and the whole words after them.
    fn split(&self, offset: usize, end: usize) -> (&[AtomicU8], &[AtomicU64]) {
        let head_end = offset.next_multiple_of(8).min(end);
        (
            &self.bytes()[offset..head_end],
            &self.words()[head_end.div_ceil(8)..(end / 8).max(head_end.div_ceil(8))],
        )
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        // SAFETY: mapped by this value, which nobody borrows any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_bytes() {
        let pages = SharedPages::anonymous(2).unwrap();
        assert_eq!(pages.len(), 8192);
        pages.store(4096, 0x0403_0201);
        let mut bytes = [0; 6];
        pages.read(4095, &mut bytes);
        assert_eq!(bytes, [0, 1, 2, 3, 4, 0]);
        pages.write(8190, &[9, 9]);
        assert_eq!(pages.load(8188), 0x0909_0000);
    }

    #[test]
    fn copies_of_every_alignment() {
        let pages = SharedPages::anonymous(1).unwrap();
        let bytes: Vec<u8> = (0..64).map(|n| n + 1).collect();
        for (start, len) in (0..20).flat_map(|start| (0..40).map(move |len| (start, len))) {
            pages.clear(0, 4096);
            pages.write(start, &bytes[..len]);
            let mut all = vec![9; 64];
            pages.read(0, &mut all);
            let mut wanted = vec![0; 64];
            wanted[start..start + len].copy_from_slice(&bytes[..len]);
            assert_eq!(all, wanted, "{start} {len}");
            let mut part = vec![9; len];
            pages.read(start, &mut part);
            assert_eq!(part, bytes[..len], "{start} {len}");
        }
    }

    #[test]
    #[should_panic(expected = "word at")]
    fn beyond_the_end() {
        SharedPages::anonymous(1).unwrap().load(4096);
    }
}
