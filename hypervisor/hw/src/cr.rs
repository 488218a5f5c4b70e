//! Control and debug registers, and single-page TLB invalidation, of the running CPU.
#![allow(unsafe_code)] // privileged register moves

macro_rules! registers {
    ($($(#[$m:meta])* $read:ident $write:ident $name:literal;)*) => {$(
        $(#[$m])*
        #[inline]
        pub fn $read() -> u64 {
            #[cfg(target_os = "none")]
            {
                let value: u64;
                // SAFETY: reading has no effect.
                unsafe { core::arch::asm!(concat!("mov {}, ", $name), out(reg) value,
                    options(nomem, nostack, preserves_flags)) };
                value
            }
            #[cfg(not(target_os = "none"))]
            0
        }
        $(#[$m])*
        ///
        /// # Safety
        /// The new value must keep the hypervisor's mappings, mode and protections in force.
        #[inline]
        pub unsafe fn $write(value: u64) {
            #[cfg(target_os = "none")]
            // SAFETY: promised by the caller.
            unsafe { core::arch::asm!(concat!("mov ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
            #[cfg(not(target_os = "none"))]
            let _ = value;
        }
    )*};
}
registers! {
    /// CR0.
    read_cr0 write_cr0 "cr0";
    /// CR2 (address of the last page fault).
    read_cr2 write_cr2 "cr2";
    /// CR3 (root of the page tables).
    read_cr3 write_cr3 "cr3";
    /// CR4.
    read_cr4 write_cr4 "cr4";
}

macro_rules! debug_registers {
    ($($n:literal $name:literal),*) => {
        /// Reads debug register 0-3, 6 or 7; others read as zero.
        pub fn read_dr(n: u8) -> u64 {
            #[cfg(target_os = "none")]
            {
                let mut value: u64 = 0;
                match n {
                    // SAFETY: reading has no effect (the hypervisor never sets DR7.GD).
                    $($n => unsafe { core::arch::asm!(concat!("mov {}, ", $name), out(reg) value,
                        options(nomem, nostack, preserves_flags)) },)*
                    _ => value = 0,
                }
                value
            }
            #[cfg(not(target_os = "none"))]
            { let _ = n; 0 }
        }
        /// Writes debug register 0-3 or 6; DR7 belongs to the VMCB and is only cleared (by VM exits).
        pub fn write_dr(n: u8, value: u64) {
            #[cfg(target_os = "none")]
            match n {
                // SAFETY: addresses and status only: no breakpoint is armed while DR7 is clear in the hypervisor.
                $($n if n != 7 => unsafe { core::arch::asm!(concat!("mov ", $name, ", {}"), in(reg) value,
                    options(nomem, nostack, preserves_flags)) },)*
                _ => {}
            }
            #[cfg(not(target_os = "none"))]
            let _ = (n, value);
        }
    };
}
debug_registers!(0 "dr0", 1 "dr1", 2 "dr2", 3 "dr3", 6 "dr6", 7 "dr7");

/// Forgets the translation of one hypervisor address on this CPU.
#[inline]
pub fn invlpg(va: u64) {
    #[cfg(target_os = "none")]
    // SAFETY: dropping a cached translation is always allowed.
    unsafe {
        core::arch::asm!("invlpg [{}]", in(reg) va, options(nostack, preserves_flags));
    }
    #[cfg(not(target_os = "none"))]
    let _ = va;
}

/// Sets XCR0; only when CR4.OSXSAVE is set (see `fpu::init_this_cpu`).
#[cfg(target_os = "none")]
#[inline]
pub(crate) fn set_xcr0(value: u64) {
    // SAFETY: the callers pass subsets of what CPUID leaf 0xd allows, with bit 0 set.
    unsafe {
        core::arch::asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nomem, nostack, preserves_flags));
    }
}
