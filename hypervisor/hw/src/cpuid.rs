//! The CPUID instruction of the running CPU (on a host build: of the host).

pub use core::arch::x86_64::CpuidResult;

/// All registers zero: what a leaf that does not exist means to us.
pub const ZERO: CpuidResult = CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };

/// Executes CPUID. Does not check that the leaf exists.
#[inline]
pub fn leaf(eax: u32, ecx: u32) -> CpuidResult {
    // Miri emulates no processor: one without any leaf.
    if cfg!(miri) { ZERO } else { core::arch::x86_64::__cpuid_count(eax, ecx) }
}

/// Executes CPUID if the leaf exists in its (basic or extended) class.
pub fn checked(eax: u32, ecx: u32) -> CpuidResult {
    if leaf(eax & 0x8000_0000, 0).eax >= eax { leaf(eax, ecx) } else { ZERO }
}
