//! Uncached access to device registers, in a window of their own.
#![allow(unsafe_code)] // device registers and the window's page tables

use radon_addr::Maddr;

/// First virtual address of the window (one PML4 slot).
pub const MMIO_BASE: u64 = 0xffff_8200_0000_0000;

/// Mapped device registers. Accesses beyond the end read as all ones and write nothing.
#[derive(Clone, Copy, Debug)]
pub struct MmioRegion {
    /// Virtual address; on a host build the machine address.
    va: u64,
    len: u64,
}

impl MmioRegion {
    #[cfg(target_os = "none")]
    pub(crate) const fn from_va(va: u64, len: u64) -> MmioRegion {
        MmioRegion { va, len }
    }

    #[cfg(target_os = "none")]
    pub(crate) const fn va(&self) -> u64 {
        self.va
    }

    /// Bytes.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Is it of no use?
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address of `size` bytes at `offset`, if they are inside.
    #[inline]
    fn at(&self, offset: u64, size: u64) -> Option<u64> {
        (offset.checked_add(size)? <= self.len && offset.is_multiple_of(size))
            .then(|| self.va.wrapping_add(offset))
    }
}

macro_rules! accessors {
    ($($read:ident $write:ident $ty:ident)*) => {
        impl MmioRegion {$(
            /// Reads a register at a byte offset (naturally aligned).
            #[inline]
            pub fn $read(&self, offset: u64) -> $ty {
                let Some(at) = self.at(offset, size_of::<$ty>() as u64) else { return $ty::MAX };
                #[cfg(target_os = "none")]
                // SAFETY: inside a mapping that is never removed, aligned (mappings keep the page offset of the device).
                return unsafe { core::ptr::with_exposed_provenance::<$ty>(at as usize).read_volatile() };
                #[cfg(not(target_os = "none"))]
                return if crate::mem::is_ram(Maddr::new(at)) { crate::mem::read(Maddr::new(at)) } else { $ty::MAX };
            }
            /// Writes a register at a byte offset (naturally aligned).
            #[inline]
            pub fn $write(&self, offset: u64, value: $ty) {
                let Some(at) = self.at(offset, size_of::<$ty>() as u64) else { return };
                #[cfg(target_os = "none")]
                // SAFETY: as for reading; a device's DMA is its driver's responsibility.
                unsafe { core::ptr::with_exposed_provenance_mut::<$ty>(at as usize).write_volatile(value) };
                #[cfg(not(target_os = "none"))]
                if crate::mem::is_ram(Maddr::new(at)) {
                    crate::mem::write(Maddr::new(at), &value);
                }
            }
        )*}
    };
}
accessors! { read8 write8 u8 read16 write16 u16 read32 write32 u32 read64 write64 u64 }

/// Maps device registers for ever. `None` when the window or its page tables are used up, or before `init`.
/// Callers map each device once and keep the region. On a host build the region is simulated RAM, if there is any.
pub fn map(at: Maddr, len: u64) -> Option<MmioRegion> {
    #[cfg(target_os = "none")]
    return imp::map(at, len);
    #[cfg(not(target_os = "none"))]
    return at.raw().checked_add(len).map(|_| MmioRegion { va: at.raw(), len });
}

#[cfg(target_os = "none")]
pub use imp::init;

#[cfg(target_os = "none")]
mod imp {
    use super::{MMIO_BASE, MmioRegion};
    use crate::lock::{Rank, SpinLock};
    use crate::mem::{directmap_ptr, image_maddr};
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use radon_addr::Maddr;

    const PAGE: u64 = 0x1000;
    const BIG: u64 = 0x20_0000;
    const PRESENT_WRITE: u64 = 3;
    /// PWT and PCD: the PAT entry that is uncacheable after reset and in every sane PAT.
    const UNCACHED: u64 = 3 << 3;
    const LARGE: u64 = 1 << 7;
    const NO_EXECUTE: u64 = 1 << 63;
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    const WINDOW: u64 = 1 << 39;
    const POOL_PAGES: usize = 16;

    #[repr(C, align(4096))]
    struct Table([AtomicU64; 512]);
    static POOL: [Table; POOL_PAGES] = [const { Table([const { AtomicU64::new(0) }; 512]) }; POOL_PAGES];

    struct Window {
        root: Option<&'static Table>,
        next_va: u64,
        used_tables: usize,
    }
    static WINDOW_STATE: SpinLock<Window> =
        SpinLock::new(Rank(125), Window { root: None, next_va: MMIO_BASE, used_tables: 0 });

    /// Says where the PML4 that all CPUs use is. EFER.NXE must be set.
    pub fn init(root: Maddr) {
        let root = directmap_ptr(root).cast::<Table>();
        // SAFETY: the image vouches for its PML4: in the direct map, never freed, and only touched by atomics here.
        WINDOW_STATE.lock().root = Some(unsafe { &*root });
    }

    impl Window {
        /// The table below `parent[index]`, made if it is not there.
        fn child(&mut self, parent: &'static Table, index: u64) -> Option<&'static Table> {
            let entry = parent.0.get(index as usize & 511)?;
            let old = entry.load(Relaxed);
            if old & 1 != 0 {
                // SAFETY: present entries on these paths were made below and point into the pool, which never goes away.
                return Some(unsafe { &*directmap_ptr(Maddr::new(old & ADDRESS)).cast::<Table>() });
            }
            let table = POOL.get(self.used_tables)?;
            self.used_tables += 1;
            entry.store(image_maddr(table).raw() | PRESENT_WRITE, Relaxed);
            Some(table)
        }

        fn map(&mut self, at: Maddr, len: u64) -> Option<MmioRegion> {
            let root = self.root?;
            let end = at.raw().checked_add(len)?.checked_next_multiple_of(PAGE)?;
            let start = at.raw() & !(PAGE - 1);
            // Same offset within 2 MiB, so that large pages can be used for large devices.
            let va = (self.next_va & !(BIG - 1)) + (start & (BIG - 1));
            let va = if va < self.next_va { va + BIG } else { va };
            if end & !ADDRESS != 0 || va + (end - start) > MMIO_BASE + WINDOW {
                return None;
            }
            self.next_va = va + (end - start);
            let mut done = 0;
            while start + done < end {
                let (pa, va) = (start + done, va + done);
                let pdpt = self.child(root, va >> 39)?;
                let pd = self.child(pdpt, va >> 30)?;
                let flags = PRESENT_WRITE | UNCACHED | NO_EXECUTE;
                if pa & (BIG - 1) == 0 && end - pa >= BIG {
                    pd.0.get((va >> 21) as usize & 511)?.store(pa | flags | LARGE, Relaxed);
                    done += BIG;
                } else {
                    let pt = self.child(pd, va >> 21)?;
                    pt.0.get((va >> 12) as usize & 511)?.store(pa | flags, Relaxed);
                    done += PAGE;
                }
            }
            Some(MmioRegion::from_va(va + (at.raw() - start), len))
        }
    }

    pub fn map(at: Maddr, len: u64) -> Option<MmioRegion> {
        // Fresh addresses were never present, so no CPU caches anything about them.
        WINDOW_STATE.lock().map(at, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_absent_devices() {
        let m = crate::sim::fresh_ram(1).maddr();
        let r = map(m, 8).unwrap();
        r.write32(4, 0x1122_3344);
        assert_eq!((r.read8(7), r.read64(0)), (0x11, 0x1122_3344_0000_0000));
        r.write32(8, 5);
        assert_eq!((r.read32(8), r.read32(2), r.read64(u64::MAX)), (u32::MAX, u32::MAX, u64::MAX));
        assert_eq!(crate::mem::read::<u32>(Maddr::new(m.raw() + 8)), 0);
        assert_eq!(map(Maddr::new(0x1ff_ffff_f000), 16).unwrap().read16(0), 0xffff);
    }
}
