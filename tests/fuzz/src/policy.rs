//! CPUID and MSR policy as the toolstack sets it.

use radon_policy::{Policy, VcpuState};
use xen_abi::featureset::{CpuidLeaf, MsrEntry};
use zerocopy::FromZeros;

use crate::random::source::Source;

pub fn run(data: &[u8]) {
    let s = &mut Source::of_bytes(data);
    let base = Policy::guest_default();
    let mut leaves = base.leaves();
    // Some of its own leaves, changed, and some of any number.
    for _ in 0..s.below(24) {
        let word = |s: &mut Source<'_>| if s.chance(50) { s.odd_word() as u32 } else { s.word() as u32 };
        if s.chance(70) && !leaves.is_empty() {
            let i = s.below(leaves.len() as u64) as usize;
            let l = &mut leaves[i];
            let bit = 1u32 << s.below(32);
            match s.below(6) {
                0 => l.a ^= bit,
                1 => l.b ^= bit,
                2 => l.c ^= bit,
                3 => l.d ^= bit,
                4 => (l.a, l.b) = (word(s), word(s)),
                _ => (l.c, l.d) = (word(s), word(s)),
            }
        } else {
            let leaf =
                s.pick(&[0u32, 1, 4, 7, 0xb, 0xd, 0x4000_0000, 0x8000_0000, 0x8000_0008]) + s.below(3) as u32;
            leaves.push(CpuidLeaf {
                leaf,
                subleaf: s.odd_word() as u32,
                a: word(s),
                b: word(s),
                c: word(s),
                d: word(s),
            });
        }
    }
    let mut msrs = Vec::new();
    for _ in 0..s.below(3) {
        let mut m = MsrEntry::new_zeroed();
        let any = s.word() as u32;
        (m.idx, m.val) = (s.pick(&[0xce, 0x10a, any]), s.odd_word());
        msrs.push(m);
    }
    let Ok(new) = base.update(&leaves, &msrs) else { return };
    let state = VcpuState {
        vcpu: 1,
        apic_id: 2,
        cr4: s.odd_word(),
        xcr0: s.odd_word(),
        xss: 0,
        long_mode: true,
        domid: 1,
        apic_enabled: true,
    };
    for first in [0u32, 0x4000_0000, 0x4000_0100, 0x8000_0000] {
        for leaf in first..first + 0x30 {
            let _ = new.cpuid(leaf, s.below(8) as u32, &state);
        }
    }
    // What was accepted is accepted again, unchanged.
    let again =
        base.update(&new.leaves(), &new.msrs()).unwrap_or_else(|e| panic!("refuses its own policy: {e:?}"));
    assert!(again == new, "a policy changes when it is set again");
}
