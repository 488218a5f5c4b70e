//! Instructions that may fault on purpose, and where to go on when they do.
//!
//! The image's #GP handler asks [`lookup`] with the faulting instruction pointer and, given an address, returns there.
#![allow(unsafe_code)] // assembly with fault recovery

#[cfg(target_os = "none")]
pub use imp::lookup;
#[cfg(target_os = "none")]
pub(crate) use imp::{rdmsr, wrmsr, xrstor};

/// Where to continue after a fault at `rip`; nothing faults on a host build.
#[cfg(not(target_os = "none"))]
pub fn lookup(_rip: u64) -> Option<u64> {
    None
}

#[cfg(target_os = "none")]
mod imp {
    use core::arch::global_asm;

    // Each function returns 1, or 0 from the fix-up. Entries hold addresses relative to themselves, so that the table needs
    // no relocation.
    global_asm!(
        ".pushsection .text.radon_extable, \"ax\"",
        "radon_try_rdmsr:",
        "mov ecx, edi",
        "2: rdmsr",
        "mov [rsi], eax",
        "mov [rsi + 4], edx",
        "mov eax, 1",
        "ret",
        "radon_try_wrmsr:",
        "mov ecx, edi",
        "mov eax, esi",
        "mov rdx, rsi",
        "shr rdx, 32",
        "3: wrmsr",
        "mov eax, 1",
        "ret",
        "radon_try_xrstor:",
        "mov eax, esi",
        "mov rdx, rsi",
        "shr rdx, 32",
        "4: xrstor64 [rdi]",
        "mov eax, 1",
        "ret",
        "radon_try_fxrstor:",
        "5: fxrstor64 [rdi]",
        "mov eax, 1",
        "ret",
        "6: xor eax, eax",
        "ret",
        ".popsection",
        ".pushsection .rodata.radon_extable, \"a\"",
        ".balign 8",
        "radon_extable:",
        ".quad 2b - .",
        ".quad 3b - .",
        ".quad 4b - .",
        ".quad 5b - .",
        ".quad 6b - .",
        ".popsection",
    );

    unsafe extern "C" {
        fn radon_try_rdmsr(index: u32, value: *mut u64) -> u32;
        fn radon_try_wrmsr(index: u32, value: u64) -> u32;
        fn radon_try_xrstor(area: *const u8, mask: u64) -> u32;
        fn radon_try_fxrstor(area: *const u8) -> u32;
        /// Four instructions that may fault, then the common fix-up.
        static radon_extable: [i64; 5];
    }

    /// Where to continue after a fault at `rip`, if it was one we asked for.
    pub fn lookup(rip: u64) -> Option<u64> {
        // SAFETY: a constant table emitted above.
        let table = unsafe { &radon_extable };
        let at = |i: usize| (&raw const table[i] as u64).wrapping_add_signed(table[i]);
        (0..4).any(|i| at(i) == rip).then(|| at(4))
    }

    pub(crate) fn rdmsr(index: u32) -> Option<u64> {
        let mut value = 0;
        // SAFETY: writes only `value`; a fault is turned into a return of 0.
        let ok = unsafe { radon_try_rdmsr(index, &raw mut value) };
        (ok != 0).then_some(value)
    }

    pub(crate) fn wrmsr(index: u32, value: u64) -> Option<()> {
        // SAFETY: as `msr::write`; a fault is turned into a return of 0.
        (unsafe { radon_try_wrmsr(index, value) } != 0).then_some(())
    }

    /// Loads extended state with XRSTOR (mask != 0) or FXRSTOR (mask 0); `None` when the processor rejects it.
    ///
    /// # Safety
    /// `area` must be 64-byte aligned and as large as the processor's standard-format area for `mask`.
    pub(crate) unsafe fn xrstor(area: *const u8, mask: u64) -> Option<()> {
        // SAFETY: the caller vouches for the area; nobody but guests uses the extended registers.
        let ok = unsafe { if mask == 0 { radon_try_fxrstor(area) } else { radon_try_xrstor(area, mask) } };
        (ok != 0).then_some(())
    }
}
