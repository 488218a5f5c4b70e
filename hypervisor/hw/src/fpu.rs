//! A vCPU's extended registers (x87, SSE, AVX ...). The hypervisor uses none of them, so they stay loaded while it runs
//! and change hands only when a CPU switches vCPUs.
#![allow(unsafe_code)] // XSAVE and XRSTOR

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Bytes of the save area: enough for x87, SSE, AVX, AVX-512 and PKRU in the standard format.
pub const AREA_SIZE: usize = 4096;
/// XCR0 bits that a guest may ever have: x87, SSE, AVX, the three AVX-512 parts, PKRU.
const SUPPORTED_XCR0: u64 = 0x2e7;
/// Where the XSAVE header's XSTATE_BV lies.
const XSTATE_BV: usize = 512;

/// Saved extended registers in XSAVE standard format (the first 512 bytes are FXSAVE's).
#[repr(C, align(64))]
#[derive(Clone)]
pub struct FpuState {
    area: [u8; AREA_SIZE],
}

impl FpuState {
    /// The registers as after INIT.
    pub const fn new() -> FpuState {
        let mut area = [0; AREA_SIZE];
        // FCW = 0x37f, MXCSR = 0x1f80.
        (area[0], area[1], area[24], area[25]) = (0x7f, 0x03, 0x80, 0x1f);
        FpuState { area }
    }

    /// The whole area, for reporting a vCPU's context.
    pub fn bytes(&self) -> &[u8; AREA_SIZE] {
        &self.area
    }

    /// Takes over a reported area (shorter ones are padded with zeros); `None` if too long.
    /// What the processor would reject makes [`restore`](Self::restore) fall back to the initial state.
    pub fn load(&mut self, bytes: &[u8]) -> Option<()> {
        let (head, tail) = self.area.split_at_mut_checked(bytes.len())?;
        head.copy_from_slice(bytes);
        tail.fill(0);
        Some(())
    }

    /// Which parts are not in their initial state (XSTATE_BV).
    pub fn xstate_bv(&self) -> u64 {
        self.area[XSTATE_BV..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
    }

    /// Saves the running CPU's extended registers, which stay as they are (XCR0 too).
    pub fn save(&mut self) {
        imp::save(&mut self.area);
    }

    /// The guest that runs now has changed its XCR0, see [`set_xcr0`].
    pub fn set_xcr0(&mut self, xcr0: u64) {
        set_xcr0(xcr0);
    }

    /// Loads the registers and sets XCR0 to the guest's. False if the processor rejected the contents: then the
    /// registers are in their initial state.
    pub fn restore(&self, xcr0: u64) -> bool {
        let accepted = imp::restore(&self.area);
        if !accepted {
            imp::restore(&FpuState::new().area);
        }
        set_xcr0(xcr0);
        accepted
    }
}

impl Default for FpuState {
    fn default() -> Self {
        FpuState::new()
    }
}

impl core::fmt::Debug for FpuState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "FpuState {{ xstate_bv: {:#x} }}", self.xstate_bv())
    }
}

/// The XCR0 bits that guests may use on this machine (0: the processor has no XSAVE).
pub fn max_xcr0() -> u64 {
    imp::max_xcr0()
}

/// Sets XCR0 for the guest that runs next (its XSETBV was accepted). No effect without XSAVE or on an invalid value.
pub fn set_xcr0(xcr0: u64) {
    if valid_xcr0(xcr0) {
        imp::set_xcr0(xcr0);
    }
}

/// May a guest set XCR0 to this (APM vol. 2, 11.5.2)?
pub fn valid_xcr0(xcr0: u64) -> bool {
    let all_or_none = |part: u64| xcr0 & part == 0 || xcr0 & part == part;
    xcr0 & 1 != 0
        && xcr0 & !max_xcr0() == 0
        && (xcr0 & 4 == 0 || xcr0 & 2 != 0)
        && all_or_none(0xe0)
        && (xcr0 & 0xe0 == 0 || xcr0 & 4 != 0)
}

/// `xsave=no`: only what FXSAVE holds is used, by guests too. Before the first [`init_this_cpu`].
pub fn without_xsave() {
    XSAVE_UNWANTED.store(true, Relaxed);
}

static XSAVE_UNWANTED: AtomicBool = AtomicBool::new(false);

/// Prepares the running CPU: no FPU traps, SSE and XSAVE enabled.
pub fn init_this_cpu() {
    imp::init_this_cpu();
}

#[cfg(target_os = "none")]
mod imp {
    use super::{AREA_SIZE, SUPPORTED_XCR0};
    use crate::{cpuid, cr, extable, percpu::PerCpu};
    use core::arch::asm;
    use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

    static MAX_XCR0: AtomicU64 = AtomicU64::new(0);
    /// XCR0 of each CPU, because setting it is slow (and traps when virtualised) and mostly changes nothing.
    static XCR0: PerCpu<AtomicU64> = crate::per_cpu!(AtomicU64::new(0));
    static HAVE_XSAVEOPT: AtomicBool = AtomicBool::new(false);

    pub fn init_this_cpu() {
        let xsave = cpuid::leaf(1, 0).ecx >> 26 & 1 != 0 && !super::XSAVE_UNWANTED.load(Relaxed);
        // CR0: clear EM and TS, set MP. CR4: OSFXSR, OSXMMEXCPT, OSXSAVE.
        let cr4 = cr::read_cr4() | 3 << 9 | u64::from(xsave) << 18;
        // SAFETY: these bits concern the extended registers only.
        unsafe {
            cr::write_cr0(cr::read_cr0() & !0xc | 2);
            cr::write_cr4(cr4);
        }
        if xsave {
            let leaf = cpuid::checked(0xd, 0);
            let mut max = (u64::from(leaf.edx) << 32 | u64::from(leaf.eax)) & SUPPORTED_XCR0 | 3;
            MAX_XCR0.store(max, Relaxed);
            set_xcr0(max);
            // EBX: bytes needed for what XCR0 enables now.
            if cpuid::leaf(0xd, 0).ebx as usize > AREA_SIZE {
                max = 7;
                MAX_XCR0.store(max, Relaxed);
                set_xcr0(max);
            }
            HAVE_XSAVEOPT.store(cpuid::leaf(0xd, 1).eax & 1 != 0, Relaxed);
        }
    }

    pub fn max_xcr0() -> u64 {
        MAX_XCR0.load(Relaxed)
    }

    pub fn set_xcr0(xcr0: u64) {
        let current = XCR0.this();
        if max_xcr0() != 0 && current.load(Relaxed) != xcr0 {
            cr::set_xcr0(xcr0);
            current.store(xcr0, Relaxed);
        }
    }

    pub fn save(area: &mut [u8; AREA_SIZE]) {
        let max = max_xcr0();
        let p = area.as_mut_ptr();
        if max == 0 {
            // SAFETY: FXSAVE writes 512 bytes; the area is 64-byte aligned.
            unsafe { asm!("fxsave64 [{}]", in(reg) p, options(nostack, preserves_flags)) };
            return;
        }
        // State that the guest's present XCR0 hides is kept by the processor, so save with all parts enabled.
        let guests = XCR0.this().load(Relaxed);
        set_xcr0(max);
        let (lo, hi) = (max as u32, (max >> 32) as u32);
        // SAFETY: `init_this_cpu` made sure that the standard format of these parts fits into the area. XSAVEOPT may skip
        // parts only if the area is the one last restored on this CPU and unmodified, which the processor tracks.
        unsafe {
            if HAVE_XSAVEOPT.load(Relaxed) {
                asm!("xsaveopt64 [{}]", in(reg) p, in("eax") lo, in("edx") hi, options(nostack, preserves_flags));
            } else {
                asm!("xsave64 [{}]", in(reg) p, in("eax") lo, in("edx") hi, options(nostack, preserves_flags));
            }
        }
        set_xcr0(guests);
    }

    pub fn restore(area: &[u8; AREA_SIZE]) -> bool {
        let max = max_xcr0();
        set_xcr0(max);
        // SAFETY: the area is aligned (it lies at the start of an `FpuState`) and large enough, see `save`.
        unsafe { extable::xrstor(area.as_ptr(), max).is_some() }
    }
}

#[cfg(not(target_os = "none"))]
mod imp {
    use super::AREA_SIZE;
    pub fn init_this_cpu() {}
    pub fn max_xcr0() -> u64 {
        super::SUPPORTED_XCR0
    }
    pub fn set_xcr0(_: u64) {}
    pub fn save(_: &mut [u8; AREA_SIZE]) {}
    pub fn restore(_: &[u8; AREA_SIZE]) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xcr0_rules() {
        for good in [1, 3, 7, 0xe7, 0x207, 0x2e7] {
            assert!(valid_xcr0(good), "{good:#x}");
        }
        for bad in [0, 2, 5, 0x27, 0xe3, 0x1f, 1 << 63 | 1] {
            assert!(!valid_xcr0(bad), "{bad:#x}");
        }
    }

    #[test]
    fn contents_are_replaced_whole() {
        let mut s = FpuState::new();
        assert_eq!((s.bytes()[0], s.bytes()[25], align_of::<FpuState>()), (0x7f, 0x1f, 64));
        assert!(s.load(&[1; 576]).is_some());
        assert_eq!((s.xstate_bv(), s.bytes()[576]), (0x0101_0101_0101_0101, 0));
        assert!(s.load(&[0; AREA_SIZE + 1]).is_none());
    }
}
