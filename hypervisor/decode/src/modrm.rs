//! ModRM, SIB and displacement: the address of a memory operand.

use crate::bytes::Bytes;
use crate::prefix::Prefixes;
use crate::regs::{Reg, Regs, Segment};
use crate::{Error, Mode};

/// Size of address arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AddressWidth {
    Bits16,
    Bits32,
    Bits64,
}

impl AddressWidth {
    /// In bytes.
    pub const fn bytes(self) -> u8 {
        match self {
            AddressWidth::Bits16 => 2,
            AddressWidth::Bits32 => 4,
            AddressWidth::Bits64 => 8,
        }
    }
}

/// The parts of a memory operand's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectiveAddress {
    /// Segment after overrides.
    pub segment: Segment,
    /// Base register number.
    pub base: Option<u8>,
    /// Index register number.
    pub index: Option<u8>,
    /// log2 of the index's factor.
    pub scale: u8,
    /// Displacement, sign-extended.
    pub displacement: u64,
    /// The displacement counts from the end of the instruction.
    pub rip_relative: bool,
    /// Width of the sum.
    pub width: AddressWidth,
}

impl EffectiveAddress {
    pub(crate) fn register(segment: Segment, number: u8, width: AddressWidth) -> Self {
        Self { base: Some(number), ..Self::absolute(segment, 0, width) }
    }

    pub(crate) fn absolute(segment: Segment, displacement: u64, width: AddressWidth) -> Self {
        Self { segment, base: None, index: None, scale: 0, displacement, rip_relative: false, width }
    }

    /// Offset within the segment; `next_rip` is the address of the following instruction.
    pub fn offset(&self, regs: &Regs, next_rip: u64) -> u64 {
        let part = |number: Option<u8>| number.map_or(0, |n| regs.get(Reg::new(n), 8));
        let start = if self.rip_relative { next_rip } else { part(self.base) };
        let sum = start.wrapping_add(part(self.index) << (self.scale & 3)).wrapping_add(self.displacement);
        crate::flags::mask(sum, self.width.bytes())
    }
}

/// A decoded ModRM byte with what follows it.
#[derive(Clone, Copy)]
pub(crate) struct ModRm {
    /// Bits 5:3 without REX.R.
    pub(crate) reg: u8,
    /// Register number of the r/m field with REX.B, when it is a register.
    pub(crate) rm: u8,
    /// `None`: the r/m operand is a register.
    pub(crate) memory: Option<EffectiveAddress>,
}

impl ModRm {
    pub(crate) fn parse(bytes: &mut Bytes<'_>, prefixes: &Prefixes) -> Result<Self, Error> {
        let byte = bytes.next()?;
        let (mode, reg, rm) = (byte >> 6, byte >> 3 & 7, byte & 7);
        if mode == 3 {
            return Ok(ModRm { reg, rm: rm | prefixes.rex_b(), memory: None });
        }
        let memory = match prefixes.address_width() {
            AddressWidth::Bits16 => memory16(bytes, mode, rm)?,
            width => memory32(bytes, prefixes, mode, rm, width)?,
        };
        let memory = EffectiveAddress { segment: prefixes.segment.unwrap_or(memory.segment), ..memory };
        Ok(ModRm { reg, rm: 0, memory: Some(memory) })
    }
}

fn memory16(bytes: &mut Bytes<'_>, mode: u8, rm: u8) -> Result<EffectiveAddress, Error> {
    const BX: Option<u8> = Some(3);
    const BP: Option<u8> = Some(5);
    const SI: Option<u8> = Some(6);
    const DI: Option<u8> = Some(7);
    let (base, index) = match rm {
        0 => (BX, SI),
        1 => (BX, DI),
        2 => (BP, SI),
        3 => (BP, DI),
        4 => (SI, None),
        5 => (DI, None),
        6 if mode == 0 => (None, None),
        6 => (BP, None),
        _ => (BX, None),
    };
    let displacement = match (mode, base) {
        (0, Some(_)) => 0,
        (1, _) => bytes.signed(1)?,
        _ => bytes.signed(2)?,
    };
    let segment = if base == BP { Segment::Ss } else { Segment::Ds };
    Ok(EffectiveAddress {
        base,
        index,
        ..EffectiveAddress::absolute(segment, displacement, AddressWidth::Bits16)
    })
}

fn memory32(
    bytes: &mut Bytes<'_>,
    prefixes: &Prefixes,
    mode: u8,
    rm: u8,
    width: AddressWidth,
) -> Result<EffectiveAddress, Error> {
    let mut address = EffectiveAddress::absolute(Segment::Ds, 0, width);
    let mut base = rm;
    if rm == 4 {
        let sib = bytes.next()?;
        let index = (sib >> 3 & 7) | prefixes.rex_x();
        if index != 4 {
            address.index = Some(index);
        }
        address.scale = sib >> 6;
        base = sib & 7;
    }
    if mode == 0 && base == 5 {
        // No base; without a SIB byte 64-bit mode makes it relative to the next instruction.
        address.rip_relative = rm != 4 && prefixes.mode == Mode::Bits64;
        address.displacement = bytes.signed(4)?;
        return Ok(address);
    }
    address.base = Some(base | prefixes.rex_b());
    if matches!(address.base, Some(4 | 5)) {
        address.segment = Segment::Ss;
    }
    address.displacement = match mode {
        0 => 0,
        1 => bytes.signed(1)?,
        _ => bytes.signed(4)?,
    };
    Ok(address)
}
