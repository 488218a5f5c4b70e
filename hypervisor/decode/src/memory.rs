//! Decodes the one instruction that accessed emulated memory.

use crate::bytes::Bytes;
use crate::modrm::{EffectiveAddress, ModRm};
use crate::prefix::Prefixes;
use crate::regs::{Reg, Regs, Segment, SegmentBases};
use crate::{Error, Mode};

/// Widening of a loaded value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Extend {
    Zero,
    Sign,
}

/// Two-operand arithmetic and logic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Alu {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    Cmp,
    Test,
}

impl Alu {
    /// From bits 5:3 of the opcode or of ModRM.
    const fn from_bits(bits: u8) -> Alu {
        match bits & 7 {
            0 => Alu::Add,
            1 => Alu::Or,
            2 => Alu::Adc,
            3 => Alu::Sbb,
            4 => Alu::And,
            5 => Alu::Sub,
            6 => Alu::Xor,
            _ => Alu::Cmp,
        }
    }

    /// Whether the result goes to the destination.
    pub const fn writes(self) -> bool {
        !matches!(self, Alu::Cmp | Alu::Test)
    }
}

/// One-operand read-modify-write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unary {
    Inc,
    Dec,
    Not,
    Neg,
}

/// What a bit-test instruction does to the bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BitOp {
    Test,
    Set,
    Reset,
    Complement,
}

/// The operand that is not memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A register, at the operation's size.
    Reg(Reg),
    /// An immediate, already sign-extended.
    Imm(u64),
}

/// What the instruction does with memory of [`MemoryOp::size`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// reg = memory, widened to `to` bytes.
    Load {
        /// Destination.
        reg: Reg,
        /// Bytes written to it.
        to: u8,
        /// How the value is widened.
        extend: Extend,
    },
    /// memory = operand.
    Store(Operand),
    /// memory = memory op operand (CMP, TEST: flags only).
    AluMemory(Alu, Operand),
    /// reg = reg op memory (CMP: flags only).
    AluReg(Alu, Reg),
    /// memory = op memory.
    Unary(Unary),
    /// Swaps memory and the register.
    Exchange(Reg),
    /// If rax equals memory, memory = reg; else rax = memory.
    CompareExchange(Reg),
    /// memory, reg = memory + reg, memory.
    ExchangeAdd(Reg),
    /// CF = a bit of memory; a register operand may select a bit outside the addressed word.
    Bit(BitOp, Operand),
    /// String move from DS:rSI to ES:rDI.
    Movs {
        /// With a REP prefix.
        repeat: bool,
    },
    /// String store of rax to ES:rDI.
    Stos {
        /// With a REP prefix.
        repeat: bool,
    },
    /// String load of rax from DS:rSI.
    Lods {
        /// With a REP prefix.
        repeat: bool,
    },
}

/// A decoded instruction with one memory operand (two for MOVS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryOp {
    /// What it does.
    pub operation: Operation,
    /// Bytes of memory per access: 1, 2, 4 or 8.
    pub size: u8,
    /// The memory operand; for MOVS the source.
    pub address: EffectiveAddress,
    /// Instruction length in bytes.
    pub length: u8,
    /// Code segment mode it was decoded in.
    pub mode: Mode,
}

impl MemoryOp {
    /// Whether memory at [`Self::address`] is read.
    pub const fn reads(&self) -> bool {
        !matches!(self.operation, Operation::Store(_) | Operation::Stos { .. })
    }

    /// Whether memory is written (for MOVS: memory at [`Self::linear_destination`]).
    pub const fn writes(&self) -> bool {
        match self.operation {
            Operation::Load { .. } | Operation::AluReg(..) | Operation::Lods { .. } => false,
            Operation::AluMemory(alu, _) => alu.writes(),
            Operation::Bit(op, _) => !matches!(op, BitOp::Test),
            _ => true,
        }
    }

    /// Linear address of the operand; for MOVS of its source.
    pub fn linear(&self, regs: &Regs, bases: &SegmentBases) -> u64 {
        let next_rip = regs.rip.wrapping_add(u64::from(self.length));
        let mut address = self.address;
        if let Operation::Bit(_, Operand::Reg(reg)) = self.operation {
            // The signed bit offset moves the operand by whole words.
            let words = (regs.get_signed(reg, self.size) as i64).div_euclid(i64::from(self.size) * 8);
            let bytes = words.wrapping_mul(i64::from(self.size));
            address.displacement = address.displacement.wrapping_add(bytes as u64);
        }
        self.segmented(address.segment, address.offset(regs, next_rip), bases)
    }

    /// Linear address MOVS writes to; for anything else, [`Self::linear`].
    pub fn linear_destination(&self, regs: &Regs, bases: &SegmentBases) -> u64 {
        if !matches!(self.operation, Operation::Movs { .. }) {
            return self.linear(regs, bases);
        }
        let rdi = EffectiveAddress::register(Segment::Es, Reg::RDI.number, self.address.width);
        self.segmented(Segment::Es, rdi.offset(regs, 0), bases)
    }

    fn segmented(&self, segment: Segment, offset: u64, bases: &SegmentBases) -> u64 {
        match (self.mode, segment) {
            (Mode::Bits64, Segment::Fs | Segment::Gs) => bases.of(segment).wrapping_add(offset),
            (Mode::Bits64, _) => offset,
            _ => bases.of(segment).wrapping_add(offset) & 0xffff_ffff,
        }
    }
}

/// Decodes the instruction at `bytes` (15 are always enough), which is known to have accessed memory.
///
/// Needs no registers: addresses are computed by [`MemoryOp::linear`].
pub fn decode_memory_access(bytes: &[u8], mode: Mode) -> Result<MemoryOp, Error> {
    let mut bytes = Bytes::new(bytes);
    let prefixes = Prefixes::parse(&mut bytes, mode)?;
    let mut decoder = Decoder { bytes, prefixes };
    let opcode = decoder.bytes.next()?;
    let (operation, size, address) =
        if opcode == 0x0f { decoder.two_byte()? } else { decoder.one_byte(opcode)? };
    let op = MemoryOp { operation, size, address, length: decoder.bytes.position(), mode };
    // LOCK is #UD on all but read-modify-write instructions with a memory destination.
    let lockable = op.reads() && op.writes() && !matches!(operation, Operation::Movs { .. });
    if decoder.prefixes.lock && !lockable { Err(Error::Unsupported) } else { Ok(op) }
}

type Decoded = (Operation, u8, EffectiveAddress);

struct Decoder<'a> {
    bytes: Bytes<'a>,
    prefixes: Prefixes,
}

impl Decoder<'_> {
    fn one_byte(&mut self, opcode: u8) -> Result<Decoded, Error> {
        let size = if opcode & 1 == 0 { 1 } else { self.prefixes.operand_bytes() };
        match opcode {
            0x00..=0x3f if opcode & 7 < 4 => {
                let (reg, address) = self.reg_and_memory(size)?;
                let alu = Alu::from_bits(opcode >> 3);
                let operation = if opcode & 2 == 0 {
                    Operation::AluMemory(alu, Operand::Reg(reg))
                } else {
                    Operation::AluReg(alu, reg)
                };
                Ok((operation, size, address))
            }
            0x63 if self.prefixes.mode == Mode::Bits64 => self.movsxd(),
            // 82 is 80 again, outside 64-bit mode only.
            0x80 | 0x81 | 0x83 => self.group1(opcode, size),
            0x82 if self.prefixes.mode != Mode::Bits64 => self.group1(opcode, size),
            0x84 | 0x85 => {
                let (reg, address) = self.reg_and_memory(size)?;
                Ok((Operation::AluMemory(Alu::Test, Operand::Reg(reg)), size, address))
            }
            0x86 | 0x87 => {
                let (reg, address) = self.reg_and_memory(size)?;
                Ok((Operation::Exchange(reg), size, address))
            }
            0x88 | 0x89 => {
                let (reg, address) = self.reg_and_memory(size)?;
                Ok((Operation::Store(Operand::Reg(reg)), size, address))
            }
            0x8a | 0x8b => {
                let (reg, address) = self.reg_and_memory(size)?;
                Ok((Operation::Load { reg, to: size, extend: Extend::Zero }, size, address))
            }
            0xa0..=0xa3 => self.moffs(opcode, size),
            0xa4 | 0xa5 | 0xaa..=0xad => Ok(self.string(opcode, size)),
            0xc6 | 0xc7 => {
                let (field, address) = self.field_and_memory()?;
                let imm = self.immediate(size)?;
                if field != 0 {
                    return Err(Error::Unsupported);
                }
                Ok((Operation::Store(Operand::Imm(imm)), size, address))
            }
            0xf6 | 0xf7 => self.group3(size),
            0xfe | 0xff => {
                let (field, address) = self.field_and_memory()?;
                let op = match field {
                    0 => Unary::Inc,
                    1 => Unary::Dec,
                    _ => return Err(Error::Unsupported),
                };
                Ok((Operation::Unary(op), size, address))
            }
            _ => Err(Error::Unsupported),
        }
    }

    fn two_byte(&mut self) -> Result<Decoded, Error> {
        let opcode = self.bytes.next()?;
        let full = self.prefixes.operand_bytes();
        let size = if opcode & 1 == 0 { 1 } else { full };
        match opcode {
            0xb6 | 0xb7 | 0xbe | 0xbf => {
                let (reg, address) = self.reg_and_memory(full)?;
                let extend = if opcode & 8 == 0 { Extend::Zero } else { Extend::Sign };
                // The source is a byte or a word; the destination is never a byte, so never AH..BH.
                let from = if opcode & 1 == 0 { 1 } else { 2 };
                Ok((Operation::Load { reg, to: full, extend }, from, address))
            }
            0xa3 | 0xab | 0xb3 | 0xbb => {
                let (reg, address) = self.reg_and_memory(full)?;
                Ok((Operation::Bit(bit_op(opcode >> 3), Operand::Reg(reg)), full, address))
            }
            0xba => {
                let (field, address) = self.field_and_memory()?;
                let imm = self.bytes.unsigned(1)?;
                if field < 4 {
                    return Err(Error::Unsupported);
                }
                Ok((Operation::Bit(bit_op(field), Operand::Imm(imm)), full, address))
            }
            0xb0 | 0xb1 => {
                let (reg, address) = self.reg_and_memory(size)?;
                Ok((Operation::CompareExchange(reg), size, address))
            }
            0xc0 | 0xc1 => {
                let (reg, address) = self.reg_and_memory(size)?;
                Ok((Operation::ExchangeAdd(reg), size, address))
            }
            // MOVNTI
            0xc3 if !self.prefixes.operand_size && self.prefixes.repeat == 0 => {
                let size = if self.prefixes.rex_w() { 8 } else { 4 };
                let (reg, address) = self.reg_and_memory(size)?;
                Ok((Operation::Store(Operand::Reg(reg)), size, address))
            }
            _ => Err(Error::Unsupported),
        }
    }

    fn movsxd(&mut self) -> Result<Decoded, Error> {
        let to = self.prefixes.operand_bytes();
        if to == 2 {
            // The memory operand's size differs between vendors.
            return Err(Error::Unsupported);
        }
        let (reg, address) = self.reg_and_memory(to)?;
        Ok((Operation::Load { reg, to, extend: Extend::Sign }, 4, address))
    }

    fn group1(&mut self, opcode: u8, size: u8) -> Result<Decoded, Error> {
        let (field, address) = self.field_and_memory()?;
        let imm = if opcode == 0x81 { self.immediate(size)? } else { self.bytes.signed(1)? };
        Ok((Operation::AluMemory(Alu::from_bits(field), Operand::Imm(imm)), size, address))
    }

    fn group3(&mut self, size: u8) -> Result<Decoded, Error> {
        let (field, address) = self.field_and_memory()?;
        let operation = match field {
            0 | 1 => Operation::AluMemory(Alu::Test, Operand::Imm(self.immediate(size)?)),
            2 => Operation::Unary(Unary::Not),
            3 => Operation::Unary(Unary::Neg),
            _ => return Err(Error::Unsupported),
        };
        Ok((operation, size, address))
    }

    fn moffs(&mut self, opcode: u8, size: u8) -> Result<Decoded, Error> {
        let width = self.prefixes.address_width();
        let offset = self.bytes.unsigned(width.bytes())?;
        let segment = self.prefixes.segment.unwrap_or(Segment::Ds);
        let address = EffectiveAddress::absolute(segment, offset, width);
        let operation = if opcode & 2 == 0 {
            Operation::Load { reg: Reg::RAX, to: size, extend: Extend::Zero }
        } else {
            Operation::Store(Operand::Reg(Reg::RAX))
        };
        Ok((operation, size, address))
    }

    fn string(&mut self, opcode: u8, size: u8) -> Decoded {
        let width = self.prefixes.address_width();
        let repeat = self.prefixes.repeat != 0;
        let source_segment = self.prefixes.segment.unwrap_or(Segment::Ds);
        let source = EffectiveAddress::register(source_segment, Reg::RSI.number, width);
        let (operation, address) = match opcode {
            0xa4 | 0xa5 => (Operation::Movs { repeat }, source),
            0xac | 0xad => (Operation::Lods { repeat }, source),
            _ => {
                let destination = EffectiveAddress::register(Segment::Es, Reg::RDI.number, width);
                (Operation::Stos { repeat }, destination)
            }
        };
        (operation, size, address)
    }

    fn reg_and_memory(&mut self, size: u8) -> Result<(Reg, EffectiveAddress), Error> {
        let (field, address) = self.field_and_memory()?;
        Ok((Reg::from_field(field | self.prefixes.rex_r(), size, self.prefixes.rex), address))
    }

    fn field_and_memory(&mut self) -> Result<(u8, EffectiveAddress), Error> {
        let modrm = ModRm::parse(&mut self.bytes, &self.prefixes)?;
        Ok((modrm.reg, modrm.memory.ok_or(Error::NotMemory)?))
    }

    /// An immediate of the operand's size, at most 4 bytes, sign-extended.
    fn immediate(&mut self, size: u8) -> Result<u64, Error> {
        self.bytes.signed(size.min(4))
    }
}

fn bit_op(bits: u8) -> BitOp {
    match bits & 3 {
        0 => BitOp::Test,
        1 => BitOp::Set,
        2 => BitOp::Reset,
        _ => BitOp::Complement,
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
