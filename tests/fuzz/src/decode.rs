//! Instructions, as a guest may change them between its exit and our look.

use radon_decode::{Kind, Mode, Regs, SegmentBases, decode_memory_access, length_of};

use crate::random::source::Source;

const MODES: [Mode; 3] = [Mode::Bits16, Mode::Bits32, Mode::Bits64];
const KINDS: [Kind; 12] = [
    Kind::Cpuid,
    Kind::Rdmsr,
    Kind::Wrmsr,
    Kind::Vmmcall,
    Kind::Hlt,
    Kind::Wbinvd,
    Kind::Xsetbv,
    Kind::Pause,
    Kind::MovCr,
    Kind::Io,
    Kind::IntN,
    Kind::Invlpg,
];

/// Length of an instruction that the processor said was of some kind.
pub fn length(data: &[u8]) {
    for mode in MODES {
        for kind in KINDS {
            if let Ok(n) = length_of(kind, data, mode) {
                assert!((1..=15).contains(&n) && usize::from(n) <= data.len(), "{kind:?} {mode:?}: {n}");
                // Only these bytes count.
                assert_eq!(length_of(kind, &data[..usize::from(n)], mode), Ok(n));
            }
        }
    }
}

/// Emulation of a memory access with any registers.
pub fn memory(data: &[u8]) {
    let (code, state) = data.split_at(data.len().min(15));
    let s = &mut Source::of_bytes(state);
    for mode in MODES {
        let Ok(op) = decode_memory_access(code, mode) else { continue };
        let mut regs =
            Regs { gpr: [0; 16].map(|_: u8| s.odd_word()), rip: s.odd_word(), rflags: s.odd_word() };
        let bases = SegmentBases { fs: s.odd_word(), gs: s.odd_word(), ..SegmentBases::default() };
        let _ = (op.linear(&regs, &bases), op.linear_destination(&regs, &bases));
        let fits = |size: u8| assert!(matches!(size, 1 | 2 | 4 | 8), "{op:?}: {size} bytes");
        let (before, value) = (regs.rip, s.odd_word());
        op.execute(
            &mut regs,
            |size| {
                fits(size);
                value
            },
            |size, _| fits(size),
        );
        let moved = regs.rip.wrapping_sub(before);
        assert!(moved <= 15 || mode != Mode::Bits64, "{op:?} moves RIP by {moved:#x}");
    }
}
