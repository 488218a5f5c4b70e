//! Length of an intercepted instruction whose kind the exit code already tells.

use crate::bytes::Bytes;
use crate::modrm::ModRm;
use crate::prefix::Prefixes;
use crate::{Error, Mode};

/// What the #VMEXIT says the instruction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum Kind {
    Cpuid,
    Rdmsr,
    Wrmsr,
    Vmmcall,
    Vmcall,
    Hlt,
    Rdtsc,
    Rdtscp,
    Rdpmc,
    Rdpru,
    Invd,
    /// WBINVD or WBNOINVD.
    Wbinvd,
    Xsetbv,
    Clts,
    Monitor,
    Mwait,
    Vmrun,
    Vmload,
    Vmsave,
    Stgi,
    Clgi,
    Skinit,
    Invlpga,
    Rsm,
    Int3,
    Into,
    Icebp,
    Pause,
    Invlpg,
    Invpcid,
    Lmsw,
    Smsw,
    /// MOV to or from a control register.
    MovCr,
    /// MOV to or from a debug register.
    MovDr,
    /// IN, OUT, INS or OUTS.
    Io,
    /// INT imm8.
    IntN,
}

/// The bytes are not the instruction that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It could still be, but the bytes end too early.
    Truncated,
    /// Another instruction, an illegal prefix, or longer than 15 bytes: the guest changed the code under us.
    Different,
}

impl From<Error> for Mismatch {
    fn from(error: Error) -> Self {
        if error == Error::Truncated { Mismatch::Truncated } else { Mismatch::Different }
    }
}

/// Opcode without operands: little-endian bytes and their count.
struct Fixed {
    value: u32,
    length: u8,
}

const fn fixed<const N: usize>(bytes: [u8; N]) -> Option<Fixed> {
    let mut value = 0;
    let mut i = N;
    while i > 0 {
        i -= 1;
        value = value << 8 | bytes[i] as u32;
    }
    Some(Fixed { value, length: N as u8 })
}

impl Kind {
    /// Encoding of the kinds that are a constant opcode, without prefixes.
    const fn fixed(self) -> Option<Fixed> {
        match self {
            Kind::Cpuid => fixed([0x0f, 0xa2]),
            Kind::Rdmsr => fixed([0x0f, 0x32]),
            Kind::Wrmsr => fixed([0x0f, 0x30]),
            Kind::Vmmcall => fixed([0x0f, 0x01, 0xd9]),
            Kind::Vmcall => fixed([0x0f, 0x01, 0xc1]),
            Kind::Hlt => fixed([0xf4]),
            Kind::Rdtsc => fixed([0x0f, 0x31]),
            Kind::Rdtscp => fixed([0x0f, 0x01, 0xf9]),
            Kind::Rdpmc => fixed([0x0f, 0x33]),
            Kind::Rdpru => fixed([0x0f, 0x01, 0xfd]),
            Kind::Invd => fixed([0x0f, 0x08]),
            Kind::Wbinvd => fixed([0x0f, 0x09]),
            Kind::Xsetbv => fixed([0x0f, 0x01, 0xd1]),
            Kind::Clts => fixed([0x0f, 0x06]),
            Kind::Monitor => fixed([0x0f, 0x01, 0xc8]),
            Kind::Mwait => fixed([0x0f, 0x01, 0xc9]),
            Kind::Vmrun => fixed([0x0f, 0x01, 0xd8]),
            Kind::Vmload => fixed([0x0f, 0x01, 0xda]),
            Kind::Vmsave => fixed([0x0f, 0x01, 0xdb]),
            Kind::Stgi => fixed([0x0f, 0x01, 0xdc]),
            Kind::Clgi => fixed([0x0f, 0x01, 0xdd]),
            Kind::Skinit => fixed([0x0f, 0x01, 0xde]),
            Kind::Invlpga => fixed([0x0f, 0x01, 0xdf]),
            Kind::Rsm => fixed([0x0f, 0xaa]),
            Kind::Int3 => fixed([0xcc]),
            Kind::Into => fixed([0xce]),
            Kind::Icebp => fixed([0xf1]),
            Kind::Pause
            | Kind::Invlpg
            | Kind::Invpcid
            | Kind::Lmsw
            | Kind::Smsw
            | Kind::MovCr
            | Kind::MovDr
            | Kind::Io
            | Kind::IntN => None,
        }
    }
}

/// Length in bytes of the instruction at `bytes`, which the exit code says is an `expected`.
///
/// `bytes` starts at the guest's rip; 15 bytes are always enough, 4 take the fast path of an opcode without prefixes.
#[inline]
pub fn length_of(expected: Kind, bytes: &[u8], mode: Mode) -> Result<u8, Mismatch> {
    if let (Some(head), Some(fixed)) = (bytes.first_chunk::<4>(), expected.fixed()) {
        let mask = (1u32 << (8 * fixed.length)) - 1;
        if u32::from_le_bytes(*head) & mask == fixed.value
            && !(expected == Kind::Into && mode == Mode::Bits64)
        {
            return Ok(fixed.length);
        }
    }
    with_prefixes(expected, bytes, mode)
}

#[cold]
fn with_prefixes(expected: Kind, bytes: &[u8], mode: Mode) -> Result<u8, Mismatch> {
    let mut bytes = Bytes::new(bytes);
    let prefixes = Prefixes::parse(&mut bytes, mode)?;
    // AMD's LOCK MOV CR0 means CR8; LOCK is #UD on everything else here.
    if prefixes.lock && expected != Kind::MovCr {
        return Err(Mismatch::Different);
    }
    // With F2 or F3 the opcode of RDPRU is RMPREAD or RMPQUERY (APM vol. 3).
    if prefixes.repeat != 0 && expected == Kind::Rdpru {
        return Err(Mismatch::Different);
    }
    let opcode = bytes.next()?;
    let escape = if opcode == 0x0f { Some(bytes.next()?) } else { None };
    let matches = if let Some(fixed) = expected.fixed() {
        let [first, second, third, _] = fixed.value.to_le_bytes();
        match fixed.length {
            1 => opcode == first && !(expected == Kind::Into && mode == Mode::Bits64),
            2 => escape == Some(second),
            _ => escape == Some(second) && bytes.next()? == third,
        }
    } else {
        variable(expected, &mut bytes, &prefixes, opcode, escape)?
    };
    if matches { Ok(bytes.position()) } else { Err(Mismatch::Different) }
}

/// Kinds with operands: consumes them; whether the opcode is of the kind.
fn variable(
    expected: Kind,
    bytes: &mut Bytes<'_>,
    prefixes: &Prefixes,
    opcode: u8,
    escape: Option<u8>,
) -> Result<bool, Error> {
    Ok(match (expected, opcode, escape) {
        (Kind::Pause, 0x90, _) => prefixes.repeat == 0xf3,
        (Kind::Io, 0xec..=0xef | 0x6c..=0x6f, _) => true,
        (Kind::Io, 0xe4..=0xe7, _) | (Kind::IntN, 0xcd, _) => {
            bytes.next()?;
            true
        }
        (Kind::Invlpg | Kind::Lmsw | Kind::Smsw, _, Some(0x01)) => {
            let modrm = ModRm::parse(bytes, prefixes)?;
            match expected {
                Kind::Invlpg => modrm.reg == 7 && modrm.memory.is_some(),
                Kind::Lmsw => modrm.reg == 6,
                _ => modrm.reg == 4,
            }
        }
        // The mod bits are ignored: the operand is always a register.
        (Kind::MovCr, _, Some(0x20 | 0x22)) | (Kind::MovDr, _, Some(0x21 | 0x23)) => {
            bytes.next()?;
            true
        }
        (Kind::Invpcid, _, Some(0x38)) => {
            bytes.next()? == 0x82
                && prefixes.operand_size
                && prefixes.repeat == 0
                && ModRm::parse(bytes, prefixes)?.memory.is_some()
        }
        _ => false,
    })
}

#[cfg(test)]
#[path = "length_tests.rs"]
mod tests;
