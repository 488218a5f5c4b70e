//! SVM exit codes (APM vol. 2, appendix C) decoded into [`Exit`].

use radon_addr::Gpa;
use radon_cpu::{Access, CrAccess, Event, EventKind, Exit, Gpr, IoAccess, NestedFault};

/// Raw numbers read from the VMCB after an exit.
#[derive(Clone, Copy, Debug)]
pub struct Raw {
    /// EXITCODE.
    pub code: u64,
    /// EXITINFO1.
    pub info1: u64,
    /// EXITINFO2.
    pub info2: u64,
}

/// Decodes an exit.
pub fn decode(raw: Raw) -> Exit {
    match raw.code {
        0x00..=0x1f => {
            let n = (raw.code & 15) as u8;
            // Bit 63 of EXITINFO1: decode assist gave the register in bits 0-3.
            let gpr = (raw.info1 >> 63 != 0).then(|| Gpr::from_encoding(raw.info1 as u8));
            Exit::Cr(CrAccess { number: n, write: raw.code >= 0x10, gpr })
        }
        0x20..=0x3f => Exit::DebugRegister,
        0x40..=0x5f => {
            let vector = (raw.code - 0x40) as u8;
            let has_code = matches!(vector, 8 | 10..=14 | 17 | 21);
            let address = if vector == 14 { raw.info2 } else { 0 };
            Exit::Exception { vector, code: has_code.then_some(raw.info1 as u32), address }
        }
        0x60 => Exit::Interrupt,
        0x61 => Exit::Nmi,
        0x64 => Exit::InterruptWindow,
        0x6e => Exit::ReadTsc { with_aux: false },
        0x72 => Exit::Cpuid,
        0x76 | 0x89 => Exit::CacheFlush,
        0x77 => Exit::Pause,
        0x78 => Exit::Hlt,
        0x7b => Exit::Io(decode_io(raw)),
        0x7c => Exit::Msr { write: raw.info1 & 1 != 0 },
        0x7f => Exit::Shutdown,
        0x81 => Exit::Hypercall,
        0x7a | 0x80 | 0x82..=0x86 => Exit::Virtualisation,
        0x87 => Exit::ReadTsc { with_aux: true },
        0x8a..=0x8c => Exit::Monitor,
        0x8d => Exit::Xsetbv,
        0x400 => Exit::NestedFault(decode_npf(raw)),
        // VMEXIT_INVALID is -1; QEMU's emulation stores 32 bits of it.
        u64::MAX | 0xffff_ffff => Exit::Invalid,
        other => Exit::Other(other),
    }
}

/// EXITINFO1 of IOIO (APM vol. 2, 15.10.2); EXITINFO2 is the next RIP on every SVM processor.
fn decode_io(raw: Raw) -> IoAccess {
    let size = match raw.info1 & 0x70 {
        0x10 => 1,
        0x20 => 2,
        _ => 4,
    };
    IoAccess {
        port: (raw.info1 >> 16) as u16,
        size,
        input: raw.info1 & 1 != 0,
        string: raw.info1 & 4 != 0,
        rep: raw.info1 & 8 != 0,
        next_rip: raw.info2,
    }
}

/// EXITINFO1 of NPF is a page-fault error code with bit 32 (final address) and bit 33 (table walk).
fn decode_npf(raw: Raw) -> NestedFault {
    let access = if raw.info1 & (1 << 4) != 0 {
        Access::Execute
    } else if raw.info1 & (1 << 1) != 0 {
        Access::Write
    } else {
        Access::Read
    };
    NestedFault {
        gpa: Gpa::new(raw.info2),
        access,
        present: raw.info1 & 1 != 0,
        table_walk: raw.info1 & (1 << 33) != 0,
    }
}

/// Vectors above are interrupts.
const LAST_EXCEPTION: u8 = 31;

/// EVENTINJ / EXITINTINFO encoding (APM vol. 2, 15.20).
pub fn encode_event(e: Event) -> u64 {
    let kind = match e.kind {
        EventKind::Interrupt => 0u64,
        EventKind::Nmi => 2,
        EventKind::Exception => 3,
        EventKind::Software => 4,
    };
    let code = match e.code {
        Some(c) => 1 << 11 | u64::from(c) << 32,
        None => 0,
    };
    u64::from(e.vector) | kind << 8 | code | 1 << 31
}

/// The event in an EVENTINJ / EXITINTINFO field, if valid. There is no exception with a vector of 32 or more: QEMU 7.2 reports one
/// when it delivers an injected interrupt a second time (`docs/decisions/0008-qemu-vmexit.md`), so it is nothing to repeat.
pub fn decode_event(raw: u64) -> Option<Event> {
    if raw & (1 << 31) == 0 {
        return None;
    }
    let kind = match (raw >> 8) & 7 {
        0 => EventKind::Interrupt,
        2 => EventKind::Nmi,
        3 if raw as u8 <= LAST_EXCEPTION => EventKind::Exception,
        4 => EventKind::Software,
        _ => return None,
    };
    let code = (raw & (1 << 11) != 0).then_some((raw >> 32) as u32);
    Some(Event { kind, vector: raw as u8, code })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_encoding() {
        for e in [
            Event::interrupt(0xf3),
            Event::NMI,
            Event::PROTECTION,
            Event::UNDEFINED,
            Event { kind: EventKind::Software, vector: 0x80, code: None },
        ] {
            assert_eq!(decode_event(encode_event(e)), Some(e));
        }
        assert_eq!(decode_event(0), None);
        let no_exception = Event { kind: EventKind::Exception, vector: 32, code: None };
        assert_eq!(decode_event(encode_event(no_exception)), None);
    }

    #[test]
    fn port_access() {
        // OUT DX(0x3f8), AL
        let io = Raw { code: 0x7b, info1: 0x3f8 << 16 | 0x10, info2: 0x1234 };
        assert_eq!(
            decode(io),
            Exit::Io(IoAccess {
                port: 0x3f8,
                size: 1,
                input: false,
                string: false,
                rep: false,
                next_rip: 0x1234
            })
        );
    }

    #[test]
    fn nested_faults() {
        let raw = Raw { code: 0x400, info1: 1 << 32 | 0x6, info2: 0xfee0_0020 };
        let Exit::NestedFault(f) = decode(raw) else { panic!() };
        assert_eq!(
            (f.gpa.raw(), f.access, f.present, f.table_walk),
            (0xfee0_0020, Access::Write, false, false)
        );
    }
}
