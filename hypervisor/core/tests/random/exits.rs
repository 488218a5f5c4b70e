//! Random exits: registers, instruction bytes and page tables as a malicious guest would set them.

use std::sync::Arc;

use radon_addr::Gpa;
use radon_core::domain::Domain;
use radon_cpu::{Access, Control, CrAccess, Exit, Gpr, IoAccess, NestedFault, SegmentReg};

use super::calls;
use super::source::Source;
use super::world::put;

/// Where the guest's code lies, near the end of a page.
const CODE: u64 = 0x8ff0;
/// Its page tables.
const TABLES: u64 = 0xa000;

/// Instructions that the hypervisor expects to find at RIP.
const INSTRUCTIONS: &[&[u8]] = &[
    &[0x0f, 0xa2],
    &[0xf4],
    &[0x0f, 0x01, 0xd9],
    &[0x0f, 0x32],
    &[0x0f, 0x30],
    &[0x0f, 0x09],
    &[0x0f, 0x01, 0xd1],
    &[0xf3, 0x90],
    &[0x89, 0x03],
    &[0x8b, 0x83, 0x20, 0, 0, 0],
    &[0xc7, 0x43, 0x30, 1, 2, 3, 4],
    &[0x48, 0xa5],
    &[0xf3, 0xa4],
    &[0xf0, 0x0f, 0xb1, 0x0b],
    &[0x0f, 0xb6, 0x07],
    &[0x66, 0xab],
    &[0x65, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0],
    &[0xa3, 0xb0, 0, 0xe0, 0xfe],
];

const MSRS: &[u64] = &[
    0x10,
    0x1b,
    0x17,
    0x3a,
    0x8b,
    0xfe,
    0x174,
    0x175,
    0x176,
    0x179,
    0x1a0,
    0x1d9,
    0x200,
    0x20f,
    0x250,
    0x258,
    0x26f,
    0x277,
    0x2ff,
    0x400,
    0x6e0,
    0x802,
    0x808,
    0x80b,
    0x80d,
    0x80f,
    0x830,
    0x832,
    0x838,
    0x83e,
    0x83f,
    0x8ff,
    0xda0,
    0x4000_0000,
    0x4000_0200,
    0xc000_0080,
    0xc000_0081,
    0xc000_0100,
    0xc000_0103,
    0xc001_0010,
    0xc001_0015,
    0xc001_0140,
];

fn kind(s: &mut Source<'_>) -> Exit {
    let gpa = match s.below(6) {
        0 | 1 => 0xfee0_0000 | s.below(0x400),
        2 => 0xfec0_0000 | s.below(0x100),
        3 => calls::gfn(s).wrapping_shl(12) & ((1 << 48) - 1) | s.below(4096),
        _ => s.odd_word() & ((1 << 52) - 1),
    };
    match s.below(16) {
        0..=3 => Exit::NestedFault(NestedFault {
            gpa: Gpa::new(gpa),
            access: s.pick(&[Access::Read, Access::Write, Access::Execute]),
            present: s.chance(20),
            table_walk: s.chance(10),
        }),
        4..=6 => Exit::Msr { write: s.chance(60) },
        7 | 8 => Exit::Cpuid,
        9 | 10 => Exit::Io(IoAccess {
            port: if s.chance(50) {
                s.pick(&[0xcf8, 0xcfc, 0xcfe, 0x20, 0x70, 0x71, 0x3f8, 0x61])
            } else {
                s.word() as u16
            },
            size: s.pick(&[1, 2, 4]),
            input: s.chance(50),
            string: s.chance(10),
            rep: s.chance(10),
            next_rip: CODE + 2,
        }),
        11 => s.pick(&[
            Exit::Hlt,
            Exit::Pause,
            Exit::CacheFlush,
            Exit::Xsetbv,
            Exit::Monitor,
            Exit::Virtualisation,
        ]),
        // 18, the machine check, is the hardware's: no guest can cause it.
        12 => Exit::Exception { vector: s.below(18) as u8, code: None, address: s.odd_word() },
        13 => s.pick(&[
            Exit::Shutdown,
            Exit::Invalid,
            Exit::HostState,
            Exit::InterruptWindow,
            Exit::Interrupt,
            Exit::Other(0x7f),
        ]),
        14 => s.pick(&[
            Exit::Cr(CrAccess { number: 4, write: true, gpr: None }),
            Exit::ReadTsc { with_aux: true },
            Exit::Hypercall,
        ]),
        _ => Exit::Hypercall,
    }
}

/// One random exit.
pub fn any(s: &mut Source<'_>, domain: &Arc<Domain>) {
    let mut exit = kind(s);
    let fatal = matches!(
        exit,
        Exit::Shutdown | Exit::Invalid | Exit::HostState | Exit::Other(_) | Exit::Cr(_) | Exit::Hlt
    );
    if domain.privileged() && fatal {
        exit = Exit::Cpuid;
    }
    let code = if s.chance(85) { s.pick(INSTRUCTIONS).to_vec() } else { s.word().to_le_bytes().to_vec() };
    let at = if s.chance(70) { CODE - s.below(64) } else { CODE + s.below(15) };
    put(domain, at, &code[..]);
    if s.chance(10) {
        for i in 0..8 {
            put(domain, TABLES + i * 8, &(calls::gfn(s) << 12 | s.below(0x1000)));
        }
    }
    let call = matches!(exit, Exit::Hypercall).then(|| calls::any(s, domain));
    calls::exit(domain, exit, |context| {
        let b = &mut context.backend;
        for r in Gpr::ALL {
            b.set_gpr(r, if s.chance(50) { calls::gfn(s) << 12 } else { s.odd_word() });
        }
        if s.chance(60) {
            b.set_gpr(Gpr::Rcx, s.pick(MSRS));
        }
        if s.chance(40) {
            let leaf = s.pick(&[0u64, 0x4000_0000, 0x8000_0000]) | s.below(40);
            b.set_gpr(Gpr::Rax, leaf);
        }
        b.set_rip(if s.chance(95) { at } else { s.odd_word() });
        b.set_rflags(2 | s.odd_word() & 0x3_4fff);
        let long = s.chance(40);
        let paging = s.chance(15);
        b.set_control(Control::Cr0, if s.chance(95) { 0x11 | u64::from(paging) << 31 } else { s.odd_word() });
        b.set_control(Control::Cr4, s.pick(&[0, 0x20, 0x6f0, 0x30]));
        b.set_control(Control::Cr3, if s.chance(80) { TABLES } else { s.odd_word() });
        b.set_control(Control::Efer, if long { 0x501 } else { 0 });
        for r in [SegmentReg::Cs, SegmentReg::Ss, SegmentReg::Fs] {
            let mut g = b.segment(r);
            g.attributes = s.pick(&[0xc93, 0xc9b, 0xa9b, 0x9b, 0xcf3]);
            g.base = if s.chance(90) { 0 } else { s.odd_word() };
            b.set_segment(r, g);
        }
        if let Some((number, args)) = call {
            b.set_gpr(Gpr::Rax, number);
            let regs = [Gpr::Rdi, Gpr::Rsi, Gpr::Rdx, Gpr::R10, Gpr::R8, Gpr::R9];
            regs.into_iter().zip(args).for_each(|(r, v)| b.set_gpr(r, v));
        }
        b.set_tpr_class(s.below(16) as u8);
    });
}
