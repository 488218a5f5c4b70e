//! Legacy and REX prefixes.

use crate::bytes::Bytes;
use crate::modrm::AddressWidth;
use crate::{Error, Mode, Segment};

/// The prefixes before an opcode.
#[derive(Clone, Copy)]
pub(crate) struct Prefixes {
    pub(crate) mode: Mode,
    pub(crate) operand_size: bool,
    pub(crate) address_size: bool,
    pub(crate) lock: bool,
    /// The last of F2/F3 seen, 0 when neither.
    pub(crate) repeat: u8,
    pub(crate) segment: Option<Segment>,
    /// The REX byte, 0 when absent.
    pub(crate) rex: u8,
}

impl Prefixes {
    /// Consumes every prefix; the next byte is the opcode.
    pub(crate) fn parse(bytes: &mut Bytes<'_>, mode: Mode) -> Result<Self, Error> {
        let mut prefixes = Prefixes {
            mode,
            operand_size: false,
            address_size: false,
            lock: false,
            repeat: 0,
            segment: None,
            rex: 0,
        };
        loop {
            let byte = bytes.peek()?;
            match byte {
                0x66 => prefixes.operand_size = true,
                0x67 => prefixes.address_size = true,
                0xf0 => prefixes.lock = true,
                0xf2 | 0xf3 => prefixes.repeat = byte,
                0x26 => prefixes.flat_segment(Segment::Es),
                0x2e => prefixes.flat_segment(Segment::Cs),
                0x36 => prefixes.flat_segment(Segment::Ss),
                0x3e => prefixes.flat_segment(Segment::Ds),
                0x64 => prefixes.segment = Some(Segment::Fs),
                0x65 => prefixes.segment = Some(Segment::Gs),
                0x40..=0x4f if mode == Mode::Bits64 => {
                    prefixes.rex = byte;
                    bytes.next()?;
                    continue;
                }
                _ => return Ok(prefixes),
            }
            // A REX that does not directly precede the opcode is ignored.
            prefixes.rex = 0;
            bytes.next()?;
        }
    }

    /// ES, CS, SS and DS overrides mean nothing in 64-bit mode.
    fn flat_segment(&mut self, segment: Segment) {
        if self.mode != Mode::Bits64 {
            self.segment = Some(segment);
        }
    }

    pub(crate) fn rex_w(&self) -> bool {
        self.rex & 8 != 0
    }

    /// REX.R, .X, .B as bit 3 of a register number.
    pub(crate) fn rex_r(&self) -> u8 {
        (self.rex & 4) << 1
    }
    pub(crate) fn rex_x(&self) -> u8 {
        (self.rex & 2) << 2
    }
    pub(crate) fn rex_b(&self) -> u8 {
        (self.rex & 1) << 3
    }

    /// Operand size in bytes of a non-byte instruction.
    pub(crate) fn operand_bytes(&self) -> u8 {
        if self.rex_w() {
            8
        } else if (self.mode == Mode::Bits16) != self.operand_size {
            2
        } else {
            4
        }
    }

    pub(crate) fn address_width(&self) -> AddressWidth {
        match (self.mode, self.address_size) {
            (Mode::Bits64, false) => AddressWidth::Bits64,
            (Mode::Bits64, true) | (Mode::Bits32, false) | (Mode::Bits16, true) => AddressWidth::Bits32,
            (Mode::Bits32, true) | (Mode::Bits16, false) => AddressWidth::Bits16,
        }
    }
}
