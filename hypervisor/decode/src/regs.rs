//! The registers an emulated instruction reads and writes.

use crate::flags::{mask, sign_extend};

/// A guest's general registers, instruction pointer and flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Regs {
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8..r15 (encoding order).
    pub gpr: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
}

/// A segment register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Segment {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
}

/// Segment base addresses, for [`crate::MemoryOp::linear`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SegmentBases {
    pub es: u64,
    pub cs: u64,
    pub ss: u64,
    pub ds: u64,
    pub fs: u64,
    pub gs: u64,
}

impl SegmentBases {
    /// Base of one segment.
    pub const fn of(&self, segment: Segment) -> u64 {
        match segment {
            Segment::Es => self.es,
            Segment::Cs => self.cs,
            Segment::Ss => self.ss,
            Segment::Ds => self.ds,
            Segment::Fs => self.fs,
            Segment::Gs => self.gs,
        }
    }
}

/// A general register operand: number 0..=15, or the second byte of rax..rbx (AH, CH, DH, BH).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg {
    pub(crate) number: u8,
    pub(crate) high: bool,
}

impl Reg {
    /// rax, eax, ax or al.
    pub const RAX: Reg = Reg::new(0);
    pub(crate) const RCX: Reg = Reg::new(1);
    pub(crate) const RSI: Reg = Reg::new(6);
    pub(crate) const RDI: Reg = Reg::new(7);

    /// Register `number` (modulo 16), low part.
    pub const fn new(number: u8) -> Reg {
        Reg { number: number & 15, high: false }
    }

    /// Register field of an instruction of `size` bytes: without REX, byte registers 4..=7 are AH, CH, DH, BH.
    pub(crate) const fn from_field(field: u8, size: u8, rex: u8) -> Reg {
        if size == 1 && rex == 0 && field & 15 >= 4 {
            Reg { number: field & 3, high: true }
        } else {
            Reg::new(field)
        }
    }

    /// Number 0..=15 of the full register.
    pub const fn number(self) -> u8 {
        self.number
    }

    /// Whether this is AH, CH, DH or BH.
    pub const fn is_high_byte(self) -> bool {
        self.high
    }
}

impl Regs {
    /// The low `size` bytes of `reg`, zero-extended.
    pub fn get(&self, reg: Reg, size: u8) -> u64 {
        let value = self.gpr.get(usize::from(reg.number)).copied().unwrap_or(0);
        mask(if reg.high { value >> 8 } else { value }, size)
    }

    /// The low `size` bytes of `reg`, sign-extended.
    pub(crate) fn get_signed(&self, reg: Reg, size: u8) -> u64 {
        sign_extend(self.get(reg, size), size)
    }

    /// Writes the low `size` bytes of `reg`: 4-byte writes clear the upper half, 1- and 2-byte writes keep the rest.
    pub fn set(&mut self, reg: Reg, size: u8, value: u64) {
        let Some(old) = self.gpr.get_mut(usize::from(reg.number)) else { return };
        *old = match size {
            1 if reg.high => (*old & !0xff00) | (mask(value, 1) << 8),
            1 => (*old & !0xff) | mask(value, 1),
            2 => (*old & !0xffff) | mask(value, 2),
            4 => mask(value, 4),
            _ => value,
        };
    }
}
