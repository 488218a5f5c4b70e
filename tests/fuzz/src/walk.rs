//! A walk through page tables that a guest made of anything.

use radon_addr::{Gpa, Gva};
use radon_p2m::guest_walk::{Access, Registers, translate};

use crate::random::source::Source;

/// Bytes of "memory" before it repeats.
const MEMORY: usize = 4096;

pub fn run(data: &[u8]) {
    let (state, memory) = data.split_at(data.len().min(64));
    let s = &mut Source::of_bytes(state);
    let registers = Registers {
        cr0: s.pick(&[0x8001_0001, 0x8000_0001, 1, u64::MAX]),
        cr3: s.odd_word(),
        cr4: s.pick(&[0, 0x10, 0x20, 0x30, 0x10_0030, u64::MAX]),
        efer: s.pick(&[0, 0x500, 0xd00, u64::MAX]),
    };
    let access = Access { user: s.chance(50), write: s.chance(50), execute: s.chance(30) };
    for _ in 0..4 {
        let gva = Gva::new(s.odd_word());
        let mut reads = 0;
        let word = |gpa: Gpa| {
            reads += 1;
            assert!(gpa.raw().is_multiple_of(8), "{gpa:?}");
            let at = gpa.raw() as usize % MEMORY;
            let bytes = memory.get(at..at + 8)?;
            bytes.try_into().ok().map(u64::from_le_bytes)
        };
        if let Ok(t) = translate(&registers, gva, access, word) {
            let inside = (1u64 << (12 + t.order.min(18))) - 1;
            assert!(
                t.order == 18 && reads == 0 || t.gpa.raw() & inside == gva.raw() & inside,
                "{t:?} of {gva:?}"
            );
        }
        assert!(reads <= 4, "{reads} levels");
    }
}
