//! An access to emulated registers, or to nothing, by an instruction and with registers of the guest's choice.

use radon_addr::Gpa;
use radon_cpu::{Access, Control, Exit, Gpr, NestedFault, SegmentReg};

use crate::random::source::Source;
use crate::random::world::{World, put};
use crate::random::{calls, world};

/// Where the instructions lie.
const CODE: u64 = 0x8ff4;
/// Page tables of the guest's own.
const TABLES: u64 = 0xa000;
/// Exits of one input.
const STEPS: u32 = 16;

pub fn run(data: &[u8]) {
    let s = &mut Source::of_bytes(data);
    let _turn = crate::hypercall::turn();
    let world = World::new();
    for _ in 0..STEPS {
        if s.done() {
            break;
        }
        let domain = world.domain(s.pick(&world::GUESTS));
        let at = CODE - s.below(16);
        let code = [s.word(), s.word()];
        put(&domain, at, &code);
        if s.chance(20) {
            (0..4).for_each(|i| put(&domain, TABLES + i * 8, &(calls::gfn(s) << 12 | s.below(0x1000))));
        }
        let gpa = match s.below(4) {
            0 | 1 => 0xfee0_0000 | s.below(0x1000),
            2 => s.pick(&[0xfec0_0000u64, 0xfed0_0000, 0xb000_0000, 0xc000]) | s.below(0x1000),
            _ => s.odd_word() & ((1 << 52) - 1),
        };
        let access = s.pick(&[Access::Read, Access::Write]);
        let fault = NestedFault { gpa: Gpa::new(gpa), access, present: s.chance(20), table_walk: false };
        calls::exit(&domain, Exit::NestedFault(fault), |context| {
            let b = &mut context.backend;
            for r in Gpr::ALL {
                b.set_gpr(r, if s.chance(40) { gpa } else { s.odd_word() });
            }
            b.set_rip(at);
            b.set_rflags(2 | s.odd_word() & 0x4fff);
            let (long, paging) = (s.chance(50), s.chance(10));
            b.set_control(Control::Cr0, 0x11 | u64::from(paging) << 31);
            b.set_control(Control::Cr4, s.pick(&[0, 0x20, 0x6f0]));
            b.set_control(Control::Cr3, TABLES);
            b.set_control(Control::Efer, if long { 0x501 } else { 0 });
            let mut code_segment = b.segment(SegmentReg::Cs);
            code_segment.attributes = s.pick(&[0xc9b, 0xa9b, 0x9b]);
            b.set_segment(SegmentReg::Cs, code_segment);
        });
        world.check(true);
    }
    world.end();
}
