//! x86 instruction decoding for the hypervisor: no allocation, no registers needed to decode, safe on any bytes.
//!
//! * [`length_of`]: how long an intercepted instruction is, on CPUs whose #VMEXIT does not save the next rip;
//! * [`decode_cr_access`]: which control register and which GPR a CR exit is about (no decode assists);
//! * [`decode_memory_access`] + [`MemoryOp::execute`]: emulates the one instruction that touched MMIO.
//!
//! The bytes come from guest memory and may have changed since the exit: every answer is only a claim about those bytes,
//! so a caller acts on nothing but the result. Encodings: AMD64 APM volume 3, appendix A and chapter 1.2.
#![no_std]
#![forbid(unsafe_code)]

mod bytes;
mod control;
mod execute;
mod flags;
mod length;
mod memory;
mod modrm;
mod prefix;
mod regs;

pub use control::{CrAccess, CrOp, decode_cr_access};
pub use length::{Kind, Mismatch, length_of};
pub use memory::{Alu, BitOp, Extend, MemoryOp, Operand, Operation, Unary, decode_memory_access};
pub use modrm::{AddressWidth, EffectiveAddress};
pub use regs::{Reg, Regs, Segment, SegmentBases};

/// Longest x86 instruction in bytes.
pub const MAX_LENGTH: usize = 15;

/// Default operand and address size of the code segment (CS.L, CS.D).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real mode, virtual-8086 mode or a 16-bit code segment.
    Bits16,
    /// A 32-bit code segment.
    Bits32,
    /// Long mode with CS.L set.
    Bits64,
}

impl Mode {
    /// From EFER.LMA, CS.L and CS.D.
    pub const fn new(long_mode_active: bool, cs_l: bool, cs_d: bool) -> Mode {
        match (long_mode_active && cs_l, cs_d) {
            (true, _) => Mode::Bits64,
            (false, true) => Mode::Bits32,
            (false, false) => Mode::Bits16,
        }
    }

    /// Bits of the instruction pointer that exist.
    pub const fn rip_mask(self) -> u64 {
        match self {
            Mode::Bits16 => 0xffff,
            Mode::Bits32 => 0xffff_ffff,
            Mode::Bits64 => u64::MAX,
        }
    }
}

/// Why bytes could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The instruction continues after the given bytes.
    Truncated,
    /// Longer than [`MAX_LENGTH`]: the CPU raises #GP.
    TooLong,
    /// A valid form whose operand is a register: it cannot have touched memory.
    NotMemory,
    /// Not an instruction this decoder knows.
    Unsupported,
}
