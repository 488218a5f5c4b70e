//! Which control-register access a CR exit is about, for CPUs without decode assists.

use crate::bytes::Bytes;
use crate::modrm::{EffectiveAddress, ModRm};
use crate::prefix::Prefixes;
use crate::{Error, Mode, Reg};

/// A control-register access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrOp {
    /// `mov crN, reg` (8 bytes wide in 64-bit mode, else 4).
    Write {
        /// Control register number 0..=15.
        cr: u8,
        /// Source.
        gpr: Reg,
    },
    /// `mov reg, crN`.
    Read {
        /// Control register number 0..=15.
        cr: u8,
        /// Destination.
        gpr: Reg,
    },
    /// Clears CR0.TS.
    Clts,
    /// Loads CR0 bits 3:0 from the low 16 bits of a register (PE can be set, not cleared).
    LmswReg(Reg),
    /// The same from memory.
    LmswMemory(EffectiveAddress),
    /// Stores CR0 into a register, `size` bytes (2, 4 or 8).
    SmswReg {
        /// Destination.
        gpr: Reg,
        /// Bytes written.
        size: u8,
    },
    /// Stores the low 16 bits of CR0 into memory.
    SmswMemory(EffectiveAddress),
}

/// A decoded control-register access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrAccess {
    /// What it does.
    pub op: CrOp,
    /// Instruction length in bytes.
    pub length: u8,
}

/// Decodes MOV to/from CRn, CLTS, LMSW or SMSW; anything else is [`Error::Unsupported`].
pub fn decode_cr_access(bytes: &[u8], mode: Mode) -> Result<CrAccess, Error> {
    let mut bytes = Bytes::new(bytes);
    let prefixes = Prefixes::parse(&mut bytes, mode)?;
    if bytes.next()? != 0x0f {
        return Err(Error::Unsupported);
    }
    let op = match bytes.next()? {
        0x06 if !prefixes.lock => CrOp::Clts,
        opcode @ (0x20 | 0x22) => {
            let modrm = bytes.next()?;
            let gpr = Reg::new((modrm & 7) | prefixes.rex_b());
            let mut cr = (modrm >> 3 & 7) | prefixes.rex_r();
            if prefixes.lock {
                // AltMovCr8: LOCK stands for REX.R.
                cr |= 8;
            }
            if opcode == 0x20 { CrOp::Read { cr, gpr } } else { CrOp::Write { cr, gpr } }
        }
        0x01 if !prefixes.lock => {
            let modrm = ModRm::parse(&mut bytes, &prefixes)?;
            let gpr = Reg::new(modrm.rm);
            match (modrm.reg, modrm.memory) {
                (4, None) => CrOp::SmswReg { gpr, size: prefixes.operand_bytes() },
                (4, Some(address)) => CrOp::SmswMemory(address),
                (6, None) => CrOp::LmswReg(gpr),
                (6, Some(address)) => CrOp::LmswMemory(address),
                _ => return Err(Error::Unsupported),
            }
        }
        _ => return Err(Error::Unsupported),
    };
    Ok(CrAccess { op, length: bytes.position() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let check = |bytes: &[u8], op, length| {
            assert_eq!(decode_cr_access(bytes, Mode::Bits64), Ok(CrAccess { op, length }), "{bytes:x?}");
        };
        check(&[0x0f, 0x22, 0xd8], CrOp::Write { cr: 3, gpr: Reg::RAX }, 3);
        check(&[0x0f, 0x20, 0xe3], CrOp::Read { cr: 4, gpr: Reg::new(3) }, 3);
        check(&[0x45, 0x0f, 0x22, 0xc1], CrOp::Write { cr: 8, gpr: Reg::new(9) }, 4);
        check(&[0xf0, 0x0f, 0x20, 0xc1], CrOp::Read { cr: 8, gpr: Reg::RCX }, 4);
        check(&[0x0f, 0x06], CrOp::Clts, 2);
        check(&[0x0f, 0x01, 0xf1], CrOp::LmswReg(Reg::RCX), 3);
        check(&[0x66, 0x41, 0x0f, 0x01, 0xe1], CrOp::SmswReg { gpr: Reg::new(9), size: 2 }, 5);
        assert_eq!(decode_cr_access(&[0x0f, 0x21, 0xc0], Mode::Bits64), Err(Error::Unsupported));
        assert_eq!(decode_cr_access(&[0x0f, 0x22], Mode::Bits64), Err(Error::Truncated));
    }
}
