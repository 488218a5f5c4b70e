//! The bits in memory shared with the guest: `shared_info` and `vcpu_info` (xen.h), both layouts.
//!
//! All fields are addressed as 32-bit words: on a little-endian machine bit *n* of a bitmap of 64-bit words
//! is bit *n* of the same bitmap seen as 32-bit words, so the layouts differ only in offsets and word counts.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use radon_addr::{Maddr, Port};
use radon_hw::mem;

/// Size of `struct vcpu_info` in bytes, the same in both layouts.
pub const VCPU_INFO_SIZE: u64 = 64;
/// vCPUs whose `vcpu_info` has a place in `shared_info` (`XEN_LEGACY_MAX_VCPUS`).
pub const LEGACY_MAX_VCPUS: u32 = 32;

/// Offset of `evtchn_pending` in `shared_info`: behind the 32 `vcpu_info`.
const PENDING_OFFSET: u64 = VCPU_INFO_SIZE * LEGACY_MAX_VCPUS as u64;

/// Word size that the guest uses for the shared structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Layout {
    /// 64-bit `unsigned long`.
    #[default]
    Native64,
    /// 32-bit `unsigned long`.
    Compat32,
}

impl Layout {
    const fn word_bits(self) -> u32 {
        match self {
            Layout::Native64 => 64,
            Layout::Compat32 => 32,
        }
    }
    /// Ports of the 2-level ABI (`EVTCHN_2L_NR_CHANNELS`).
    pub const fn ports_2l(self) -> u32 {
        self.word_bits() * self.word_bits()
    }
    const fn mask_offset(self) -> u64 {
        PENDING_OFFSET + self.ports_2l() as u64 / 8
    }
    const fn pending_sel_offset(self) -> u64 {
        match self {
            Layout::Native64 => 8,
            Layout::Compat32 => 4,
        }
    }
}

/// One bit in shared memory.
#[derive(Clone, Copy)]
struct Bit {
    word: &'static AtomicU32,
    mask: u32,
}

impl Bit {
    /// Bit `n` of the bitmap at `base` + `offset`.
    fn new(base: Maddr, offset: u64, n: u32) -> Bit {
        let byte = base.raw().wrapping_add(offset).wrapping_add(u64::from(n / 32) * 4);
        Bit { word: mem::atomic_u32(Maddr::new(byte)), mask: 1 << (n % 32) }
    }
    fn test(self) -> bool {
        self.word.load(SeqCst) & self.mask != 0
    }
    /// Sets the bit; `true` when it was set before.
    fn test_and_set(self) -> bool {
        self.word.fetch_or(self.mask, SeqCst) & self.mask != 0
    }
    /// Clears the bit; `true` when it was set before.
    fn test_and_clear(self) -> bool {
        self.word.fetch_and(!self.mask, SeqCst) & self.mask != 0
    }
}

/// The domain's `shared_info` page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedInfo {
    pub maddr: Maddr,
    pub layout: Layout,
}

impl SharedInfo {
    fn pending(self, port: Port) -> Option<Bit> {
        (port.raw() < self.layout.ports_2l()).then(|| Bit::new(self.maddr, PENDING_OFFSET, port.raw()))
    }
    fn mask(self, port: Port) -> Option<Bit> {
        (port.raw() < self.layout.ports_2l())
            .then(|| Bit::new(self.maddr, self.layout.mask_offset(), port.raw()))
    }
    pub fn is_pending(self, port: Port) -> bool {
        self.pending(port).is_some_and(Bit::test)
    }
    pub fn is_masked(self, port: Port) -> bool {
        self.mask(port).is_none_or(Bit::test)
    }
    /// Sets the pending bit; `true` when it was clear before.
    pub fn raise(self, port: Port) -> bool {
        self.pending(port).is_some_and(|bit| !bit.test_and_set())
    }
    pub fn clear_pending(self, port: Port) {
        if let Some(bit) = self.pending(port) {
            bit.test_and_clear();
        }
    }
    /// Clears the mask bit; `true` when it was set before.
    pub fn unmask(self, port: Port) -> bool {
        self.mask(port).is_some_and(Bit::test_and_clear)
    }
}

/// One vCPU's `vcpu_info`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VcpuInfo {
    pub maddr: Maddr,
}

impl VcpuInfo {
    /// Marks the word that holds `port`; `true` when it was not marked before.
    pub fn select(self, layout: Layout, port: Port) -> bool {
        let word = port.raw() / layout.word_bits();
        !Bit::new(self.maddr, layout.pending_sel_offset(), word).test_and_set()
    }
    /// Marks every word.
    pub fn select_all(self, layout: Layout) {
        for word in 0..layout.word_bits() / 32 {
            Bit::new(self.maddr, layout.pending_sel_offset(), word * 32).word.store(u32::MAX, SeqCst);
        }
    }
    /// Sets `evtchn_upcall_pending`; `true` when it was 0 before.
    pub fn mark_upcall(self) -> bool {
        mem::atomic_u8(self.maddr).fetch_or(1, SeqCst) & 1 == 0
    }
    /// Is an upcall due? (`evtchn_upcall_pending`)
    pub fn upcall_pending(self) -> bool {
        mem::atomic_u8(self.maddr).load(SeqCst) != 0
    }
}
