//! A guest-virtual address through the guest's own page tables (APM volume 2, chapter 5; SDM volume 3,
//! chapter 4). Pure: memory is read through a closure. Accessed and dirty bits are not set: the hypervisor
//! only follows addresses that the guest's kernel is using at this moment. Address bits beyond the guest's
//! physical width are not treated as reserved: a table there is simply not found.

use radon_addr::{Gpa, Gva};

/// The registers that decide how the guest translates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Registers {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER, as the guest sees it.
    pub efer: u64,
}

/// The access to check. All false: a read by the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// At CPL 3.
    pub user: bool,
    /// A write.
    pub write: bool,
    /// An instruction fetch.
    pub execute: bool,
}

impl Access {
    /// A read by the guest's kernel.
    pub const READ: Access = Access { user: false, write: false, execute: false };
    /// A write by the guest's kernel.
    pub const WRITE: Access = Access { user: false, write: true, execute: false };
    /// An instruction fetch by the guest's kernel.
    pub const FETCH: Access = Access { user: false, write: false, execute: true };
    /// The same by user code, if `user`.
    pub const fn by(self, user: bool) -> Access {
        Access { user, ..self }
    }
}

/// A successful walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The byte's guest-physical address.
    pub gpa: Gpa,
    /// Order of the page: 0, 9, 10 (4 MiB) or 18; 18 as well without paging.
    pub order: u8,
}

/// Why there is no translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalkError {
    /// #PF with this error code and CR2 = the address.
    PageFault {
        /// Error code as the CPU would push it.
        error_code: u32,
    },
    /// Not canonical: #GP(0), or #SS(0) for the stack.
    NonCanonical,
    /// A table lies where there is no RAM.
    NoTable(Gpa),
    /// 5-level paging, which we never offer.
    Unsupported,
}

const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
const CR4_SMEP: u64 = 1 << 20;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

const P: u64 = 1;
const RW: u64 = 1 << 1;
const US: u64 = 1 << 2;
const PS: u64 = 1 << 7;
const NX: u64 = 1 << 63;
const ADDR: u64 = 0x000f_ffff_ffff_f000;
/// Bits 63:52, 8:6 and 2:1. Bit 5 is reserved too, but QEMU sets it (it marks every level as accessed).
const PDPTE_RESERVED: u64 = 0xfff0_0000_0000_01c6;

const PF_PRESENT: u32 = 1;
const PF_WRITE: u32 = 1 << 1;
const PF_USER: u32 = 1 << 2;
const PF_RSVD: u32 = 1 << 3;
const PF_FETCH: u32 = 1 << 4;

/// Translates `gva`. In compatibility mode the caller truncates the address to 32 bits.
/// `read_u64` reads 8 aligned bytes of guest-physical memory, `None` where there is no RAM.
#[inline]
pub fn translate(
    registers: &Registers,
    gva: Gva,
    access: Access,
    mut read_u64: impl FnMut(Gpa) -> Option<u64>,
) -> Result<Translation, WalkError> {
    let va = gva.raw();
    let walk = Walker { registers, access };
    if registers.cr0 & CR0_PG == 0 {
        return Ok(Translation { gpa: Gpa::new(va & 0xffff_ffff), order: 18 });
    }
    if registers.efer & EFER_LMA != 0 {
        if registers.cr4 & CR4_LA57 != 0 {
            return Err(WalkError::Unsupported);
        }
        if ((va as i64) << 16) >> 16 != va as i64 {
            return Err(WalkError::NonCanonical);
        }
        return walk.long(va, registers.cr3 & ADDR, 3, &mut read_u64);
    }
    let va = va & 0xffff_ffff;
    if registers.cr4 & CR4_PAE == 0 {
        return walk.two_level(va, &mut read_u64);
    }
    // The four directory pointers: no rights of their own (SDM 4.4.1).
    let at = Gpa::new((registers.cr3 & 0xffff_ffe0) + (va >> 30) * 8);
    let pdpte = read_u64(at).ok_or(WalkError::NoTable(at))?;
    if pdpte & P == 0 {
        return Err(walk.fault(0));
    }
    if pdpte & PDPTE_RESERVED != 0 {
        return Err(walk.fault(PF_PRESENT | PF_RSVD));
    }
    walk.long(va, pdpte & ADDR, 1, &mut read_u64)
}

struct Walker<'a> {
    registers: &'a Registers,
    access: Access,
}

impl Walker<'_> {
    #[cold]
    fn fault(&self, why: u32) -> WalkError {
        let Access { user, write, execute } = self.access;
        let reports_fetch = self.registers.cr4 & CR4_SMEP != 0
            || (self.registers.efer & EFER_NXE != 0 && self.registers.cr4 & CR4_PAE != 0);
        let mut error_code = why;
        error_code |= if write { PF_WRITE } else { 0 };
        error_code |= if user { PF_USER } else { 0 };
        error_code |= if execute && reports_fetch { PF_FETCH } else { 0 };
        WalkError::PageFault { error_code }
    }

    /// Walks 8-byte entries from the table at `base`, whose entries are of level `top` (0: 4 KiB).
    #[inline]
    fn long(
        &self,
        va: u64,
        mut base: u64,
        top: u32,
        read_u64: &mut impl FnMut(Gpa) -> Option<u64>,
    ) -> Result<Translation, WalkError> {
        let nxe = self.registers.efer & EFER_NXE != 0;
        let reserved = if nxe { 0 } else { NX };
        let (mut all, mut any) = (RW | US, 0);
        let mut level = top;
        loop {
            let shift = 12 + 9 * level;
            let at = Gpa::new(base | ((va >> shift) & 511) << 3);
            let entry = read_u64(at).ok_or(WalkError::NoTable(at))?;
            if entry & P == 0 {
                return Err(self.fault(0));
            }
            let leaf = level == 0 || entry & PS != 0;
            // A large page's address bits below its size are reserved, except bit 12 (PAT); so is PS at the top.
            let low = match (leaf, level) {
                (true, 3) => PS,
                (true, 1 | 2) => (1_u64 << shift) - (1 << 13),
                _ => 0,
            };
            if entry & (reserved | low) != 0 {
                return Err(self.fault(PF_PRESENT | PF_RSVD));
            }
            all &= entry;
            any |= entry;
            if leaf {
                self.permit(all, any & NX != 0)?;
                let within = (1_u64 << shift) - 1;
                let gpa = Gpa::new((entry & ADDR & !within) | (va & within));
                return Ok(Translation { gpa, order: (9 * level) as u8 });
            }
            base = entry & ADDR;
            level -= 1;
        }
    }

    /// 4-byte entries, two levels, 4 MiB pages with 40-bit addresses (PSE-36).
    fn two_level(
        &self,
        va: u64,
        read_u64: &mut impl FnMut(Gpa) -> Option<u64>,
    ) -> Result<Translation, WalkError> {
        let mut read_u32 = |at: u64| {
            let aligned = Gpa::new(at & !7);
            let both = read_u64(aligned).ok_or(WalkError::NoTable(aligned))?;
            Ok(if at & 4 == 0 { both & 0xffff_ffff } else { both >> 32 })
        };
        let pde = read_u32((self.registers.cr3 & 0xffff_f000) | (va >> 22) << 2)?;
        if pde & P == 0 {
            return Err(self.fault(0));
        }
        if pde & PS != 0 && self.registers.cr4 & CR4_PSE != 0 {
            let high = (pde >> 13 & 0xff) << 32;
            if pde & 1 << 21 != 0 {
                return Err(self.fault(PF_PRESENT | PF_RSVD));
            }
            self.permit(pde, false)?;
            let gpa = Gpa::new(high | (pde & 0xffc0_0000) | (va & 0x003f_ffff));
            return Ok(Translation { gpa, order: 10 });
        }
        let pte = read_u32((pde & 0xffff_f000) | (va >> 12 & 0x3ff) << 2)?;
        if pte & P == 0 {
            return Err(self.fault(0));
        }
        self.permit(pde & pte, false)?;
        Ok(Translation { gpa: Gpa::new((pte & 0xffff_f000) | (va & 0xfff)), order: 0 })
    }

    /// Checks the rights accumulated over the walk: `all` has RW and US if every level had them.
    #[inline]
    fn permit(&self, all: u64, nx: bool) -> Result<(), WalkError> {
        let Access { user, write, execute } = self.access;
        let smep = self.registers.cr4 & CR4_SMEP != 0;
        let obeys_rw = user || self.registers.cr0 & CR0_WP != 0;
        let denied = (user && all & US == 0)
            || (write && all & RW == 0 && obeys_rw)
            || (execute && (nx || (smep && !user && all & US != 0)));
        if denied { Err(self.fault(PF_PRESENT)) } else { Ok(()) }
    }
}
