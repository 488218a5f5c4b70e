//! Model-specific registers.
#![allow(unsafe_code)] // RDMSR and WRMSR

/// `IA32_APIC_BASE`
pub const APIC_BASE: u32 = 0x1b;
/// `IA32_TSC_DEADLINE`
pub const TSC_DEADLINE: u32 = 0x6e0;
/// `EFER`
pub const EFER: u32 = 0xc000_0080;
/// Base of FS.
pub const FS_BASE: u32 = 0xc000_0100;
/// Base of GS.
pub const GS_BASE: u32 = 0xc000_0101;
/// `VM_CR` (APM vol. 2, 15.30.1)
pub const VM_CR: u32 = 0xc001_0114;
/// `VM_HSAVE_PA` (APM vol. 2, 15.30.4)
pub const VM_HSAVE_PA: u32 = 0xc001_0117;

/// Reads an MSR that must exist (a missing one is a bug of ours and faults).
#[inline]
pub fn read(index: u32) -> u64 {
    #[cfg(target_os = "none")]
    {
        let (lo, hi): (u32, u32);
        // SAFETY: reading an MSR has no effect on memory.
        unsafe {
            core::arch::asm!("rdmsr", in("ecx") index, out("eax") lo, out("edx") hi,
                options(nomem, nostack, preserves_flags));
        }
        u64::from(hi) << 32 | u64::from(lo)
    }
    #[cfg(not(target_os = "none"))]
    try_read(index).unwrap_or(0)
}

/// Writes an MSR that must exist and accept the value.
#[inline]
pub fn write(index: u32, value: u64) {
    #[cfg(target_os = "none")]
    // SAFETY: the few MSRs whose value matters to memory safety (EFER, GS base, APIC base) are written by this crate
    // with values it computed; guests' MSR writes are filtered by the policy before they get here.
    unsafe {
        core::arch::asm!("wrmsr", in("ecx") index, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags));
    }
    #[cfg(not(target_os = "none"))]
    crate::sim::set_msr(index, value);
}

/// Reads an MSR; `None` if the processor says that it does not exist.
pub fn try_read(index: u32) -> Option<u64> {
    #[cfg(target_os = "none")]
    {
        crate::extable::rdmsr(index)
    }
    #[cfg(not(target_os = "none"))]
    crate::sim::thread::with(|t| t.msrs.borrow().get(&index).copied())
}

/// Writes an MSR; `None` if the processor refuses.
pub fn try_write(index: u32, value: u64) -> Option<()> {
    #[cfg(target_os = "none")]
    {
        crate::extable::wrmsr(index, value)
    }
    #[cfg(not(target_os = "none"))]
    crate::sim::thread::with(|t| t.msrs.borrow_mut().get_mut(&index).map(|v| *v = value))
}
