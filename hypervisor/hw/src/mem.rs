//! Machine memory by machine address.
//!
//! Every function may be called with any address: one that is not memory reads as zero and swallows writes (and trips
//! a debug assertion, because callers check ownership first). Copies promise no atomicity beyond naturally aligned
//! 1, 2, 4 and 8 byte accesses, which are done in one piece.
#![allow(unsafe_code)] // raw memory of guests and of the direct map is reached here and only here

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};
use radon_addr::{Maddr, Mfn, PAGE_SIZE};
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[cfg(not(target_os = "none"))]
use crate::sim::ram as backend;
#[cfg(target_os = "none")]
use directmap as backend;

#[cfg(target_os = "none")]
#[path = "mem_directmap.rs"]
mod directmap;

/// First virtual address of the direct map: `DIRECTMAP_BASE + maddr` is the byte at `maddr`.
pub const DIRECTMAP_BASE: u64 = 0xffff_8300_0000_0000;
/// Link address of the image: `IMAGE_BASE + maddr` is the image's byte at `maddr`.
pub const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;

/// What a range of the direct map holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeKind {
    /// Ordinary RAM.
    Ram,
    /// Firmware tables and reserved memory: readable, but not RAM that a guest may own.
    Firmware,
}

#[cfg(target_os = "none")]
pub use directmap::{directmap_ptr, image_maddr, init, init_early};

/// Calls `f(pointer, offset, bytes)` for each piece of `[maddr, maddr + len)`; false when part of it is no memory.
#[inline]
fn pieces(maddr: Maddr, len: usize, mut f: impl FnMut(*mut u8, usize, usize)) -> bool {
    if let Some(p) = backend::locate_quickly(maddr, len) {
        // `len` is often a constant, which makes the copy a single move.
        f(p, 0, len);
        return true;
    }
    slowly(maddr, len, &mut f)
}

#[cold]
#[inline(never)]
fn slowly(maddr: Maddr, len: usize, f: &mut dyn FnMut(*mut u8, usize, usize)) -> bool {
    let mut done = 0;
    while done < len {
        let at = maddr.raw().checked_add(done as u64);
        let Some((p, n)) = at.and_then(|a| backend::locate(Maddr::new(a), len - done)) else {
            debug_assert!(false, "{maddr:?}+{len:#x} is not memory");
            return false;
        };
        f(p, done, n);
        done += n;
    }
    true
}

/// Copies `buf.len()` bytes from memory.
#[inline]
pub fn read_bytes(maddr: Maddr, buf: &mut [u8]) {
    let dst = buf.as_mut_ptr();
    // SAFETY: `pieces` yields pointers to `n` bytes of mapped memory with `at + n <= buf.len()`; the hypervisor's own
    // objects are never given out as guest memory, so source and destination do not overlap.
    let whole = pieces(maddr, buf.len(), |src, at, n| unsafe { copy_raw(dst.add(at), src, n) });
    if !whole {
        buf.fill(0);
    }
}

/// Copies `bytes` into memory.
#[inline]
pub fn write_bytes(maddr: Maddr, bytes: &[u8]) {
    let src = bytes.as_ptr();
    // SAFETY: as in `read_bytes`, with the roles exchanged.
    pieces(maddr, bytes.len(), |dst, at, n| unsafe { copy_raw(dst, src.add(at), n) });
}

/// Reads a plain value (any alignment).
#[inline]
pub fn read<T: FromBytes>(maddr: Maddr) -> T {
    let mut value = T::new_zeroed();
    let dst = (&raw mut value).cast::<u8>();
    // SAFETY: `dst` is `size_of::<T>()` bytes of ours and `T: FromBytes` accepts any bytes; sources as in `read_bytes`.
    let whole = pieces(maddr, size_of::<T>(), |src, at, n| unsafe { copy_raw(dst.add(at), src, n) });
    if whole { value } else { T::new_zeroed() }
}

/// Writes a plain value (any alignment).
#[inline]
pub fn write<T: IntoBytes + Immutable>(maddr: Maddr, value: &T) {
    write_bytes(maddr, value.as_bytes());
}

/// Fills a frame with zeros.
pub fn zero_frame(mfn: Mfn) {
    fill(mfn.maddr(), 0, PAGE_SIZE);
}

/// Fills `len` bytes with `byte`.
pub fn fill(maddr: Maddr, byte: u8, len: usize) {
    // SAFETY: `pieces` yields pointers to `n` bytes of mapped memory.
    pieces(maddr, len, |dst, _, n| unsafe { fill_raw(dst, u64::from_ne_bytes([byte; 8]), n) });
}

/// Fills `count` words from the 8-byte aligned `maddr` on with `word`.
pub fn fill_words(maddr: Maddr, word: u64, count: usize) {
    debug_assert!(maddr.raw().is_multiple_of(8));
    // SAFETY: `pieces` yields pointers to `n` bytes of mapped memory.
    pieces(maddr, count.saturating_mul(8), |dst, _, n| unsafe { fill_raw(dst, word, n) });
}

/// Copies a whole frame; source and destination must differ.
pub fn copy_frame(dst: Mfn, src: Mfn) {
    copy(dst.maddr(), src.maddr(), PAGE_SIZE);
}

/// Copies `len` bytes between two places that must not overlap (if they do, the result is unspecified bytes).
pub fn copy(dst: Maddr, src: Maddr, len: usize) {
    pieces(src, len, |from, at, n| {
        let Some(to) = dst.raw().checked_add(at as u64) else { return };
        // SAFETY: both closures get pointers to that many mapped bytes; overlap is handled by `move_raw`'s contract.
        pieces(Maddr::new(to), n, |to, sub, m| unsafe { copy_raw(to, from.add(sub), m) });
    });
}

/// True when the byte is RAM (exact after `init`).
#[inline]
pub fn is_ram(maddr: Maddr) -> bool {
    backend::is_ram(maddr)
}

/// True when the whole frame is RAM.
#[inline]
pub fn is_ram_frame(mfn: Mfn) -> bool {
    mfn.raw() >> 52 == 0
        && backend::is_ram(mfn.maddr())
        && backend::is_ram(Maddr::new(mfn.maddr().raw() | 0xfff))
}

/// Pointer to `len` bytes in one piece, wherever they are. Not inlined: it would bloat every access of a word.
#[cold]
#[inline(never)]
fn locate_whole(maddr: Maddr, len: usize) -> Option<*mut u8> {
    backend::locate(maddr, len).filter(|(_, n)| *n == len).map(|(p, _)| p)
}

macro_rules! atomics {
    ($($name:ident $ty:ident $sink:ident)*) => {$(
        /// The naturally aligned word at `maddr` as an atomic; a private word when that is no aligned memory.
        #[inline]
        pub fn $name(maddr: Maddr) -> &'static $ty {
            static $sink: $ty = $ty::new(0);
            let size = size_of::<$ty>();
            match backend::locate_quickly(maddr, size).or_else(|| locate_whole(maddr, size)) {
                // SAFETY: `size` bytes that stay mapped for ever; alignment was checked (pages are aligned in both
                // back ends); guest memory is only ever accessed by atomics and raw copies.
                Some(p) if maddr.raw().is_multiple_of(size as u64) => unsafe { $ty::from_ptr(p.cast()) },
                _ => {
                    debug_assert!(false, "{maddr:?} is not an aligned word of memory");
                    &$sink
                }
            }
        }
    )*};
}
atomics! { atomic_u8 AtomicU8 SINK8 atomic_u16 AtomicU16 SINK16 atomic_u32 AtomicU32 SINK32 atomic_u64 AtomicU64 SINK64 }

/// A frame of RAM as 512 words, for control structures that are read and written at every exit.
///
/// `None` when the frame is not RAM.
pub fn frame_words(mfn: Mfn) -> Option<&'static [core::sync::atomic::AtomicU64; 512]> {
    let p = locate_whole(mfn.maddr(), PAGE_SIZE)?;
    // SAFETY: a whole, aligned page that stays mapped for ever and is only accessed by atomics and raw copies.
    Some(unsafe { &*p.cast() })
}

/// Copies `n` bytes, words in one piece.
///
/// # Safety
/// Both pointers must be valid for `n` bytes. Other CPUs and guests may change the bytes meanwhile.
#[inline(always)]
unsafe fn copy_raw(dst: *mut u8, src: *const u8, n: usize) {
    // Miri executes no assembly; there nobody else writes.
    #[cfg(miri)]
    // SAFETY: the caller vouches for both ranges.
    unsafe {
        core::ptr::copy(src, dst, n)
    };
    // Assembly rather than `ptr::copy`: a guest may write the source concurrently, which only instructions tolerate.
    #[cfg(not(miri))]
    // SAFETY: the caller vouches for both ranges; the instructions touch nothing else.
    unsafe {
        match n {
            8 => {
                core::arch::asm!("mov {t}, [{s}]", "mov [{d}], {t}", t = out(reg) _, s = in(reg) src, d = in(reg) dst,
                options(nostack, preserves_flags))
            }
            4 => core::arch::asm!("mov {t:e}, [{s}]", "mov [{d}], {t:e}", t = out(reg) _, s = in(reg) src,
                d = in(reg) dst, options(nostack, preserves_flags)),
            2 => core::arch::asm!("mov {t:x}, [{s}]", "mov [{d}], {t:x}", t = out(reg) _, s = in(reg) src,
                d = in(reg) dst, options(nostack, preserves_flags)),
            _ => core::arch::asm!("rep movsq", "mov ecx, {tail:e}", "rep movsb", tail = in(reg) n & 7,
                inout("rcx") n >> 3 => _, inout("rsi") src => _, inout("rdi") dst => _,
                options(nostack, preserves_flags)),
        }
    }
}

/// Fills `n` bytes with the bytes of `word` over and over.
///
/// # Safety
/// `dst` must be valid for `n` bytes.
#[inline(always)]
unsafe fn fill_raw(dst: *mut u8, word: u64, n: usize) {
    #[cfg(miri)]
    for (i, byte) in word.to_ne_bytes().into_iter().cycle().take(n).enumerate() {
        // SAFETY: the caller vouches for the range.
        unsafe { dst.add(i).write(byte) };
    }
    #[cfg(not(miri))]
    // SAFETY: the caller vouches for the range; the direction flag is clear by the calling convention.
    unsafe {
        core::arch::asm!("rep stosq", "mov ecx, {tail:e}", "rep stosb", tail = in(reg) n & 7, in("rax") word,
            inout("rcx") n >> 3 => _, inout("rdi") dst => _, options(nostack, preserves_flags));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering;

    #[test]
    fn copies_cross_pages_and_keep_neighbours() {
        let base = crate::sim::fresh_ram(3).maddr();
        for len in [1usize, 2, 3, 4, 5, 7, 8, 9, 15, 64, 4096, 5000] {
            let at = Maddr::new(base.raw() + 4000);
            fill(base, 0xee, 3 * PAGE_SIZE);
            let data: Vec<u8> = (0..len).map(|i| i as u8 ^ 0x5a).collect();
            write_bytes(at, &data);
            let mut back = vec![0; len];
            read_bytes(at, &mut back);
            assert_eq!(back, data, "len {len}");
            assert_eq!(read::<u8>(Maddr::new(at.raw() - 1)), 0xee);
            assert_eq!(read::<u8>(Maddr::new(at.raw() + len as u64)), 0xee);
        }
    }

    #[test]
    fn words_are_filled_across_pages() {
        let base = crate::sim::fresh_ram(3).maddr();
        fill_words(Maddr::new(base.raw() + 8), 0x0102_0304_0506_0708, 2 * PAGE_SIZE / 8);
        let word = |n: u64| read::<u64>(Maddr::new(base.raw() + n * 8));
        assert_eq!((word(0), word(1), word(1024), word(1025)), (0, 0x0102_0304_0506_0708, word(1), 0));
    }

    #[test]
    fn atomics_and_plain_accesses_see_the_same_memory() {
        let m = crate::sim::fresh_ram(1);
        atomic_u32(Maddr::new(m.maddr().raw() + 8)).store(0x1234_5678, Ordering::Relaxed);
        assert_eq!(read::<u64>(Maddr::new(m.maddr().raw() + 8)), 0x1234_5678);
        write(m.maddr(), &0xdead_beefu32);
        assert_eq!(atomic_u16(m.maddr()).load(Ordering::Relaxed), 0xbeef);
        zero_frame(m);
        assert_eq!(atomic_u64(m.maddr()).load(Ordering::Relaxed), 0);
    }

    #[test]
    fn frames_are_copied_whole() {
        let (a, b) = (crate::sim::fresh_ram(1), crate::sim::fresh_ram(1));
        fill(a.maddr(), 7, PAGE_SIZE);
        copy_frame(b, a);
        let mut page = [0; PAGE_SIZE];
        read_bytes(b.maddr(), &mut page);
        assert!(page.iter().all(|&x| x == 7));
        assert!(is_ram_frame(a) && !is_ram_frame(Mfn::new(u64::MAX)));
    }
}
