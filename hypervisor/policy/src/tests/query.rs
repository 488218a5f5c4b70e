//! CPUID as a vCPU executes it.

use proptest::prelude::*;

use super::hosts::{ALL, AMD, INTEL, host};
use crate::leaves::{EAX, EBX, ECX, EDX, Policy};
use crate::{Tsc, VcpuState};

fn state() -> VcpuState {
    VcpuState {
        vcpu: 3,
        apic_id: 6,
        xcr0: 1,
        domid: 5,
        apic_enabled: true,
        long_mode: true,
        ..Default::default()
    }
}

#[test]
fn dynamic_bits() {
    let p = Policy::guest_default_of(&host(AMD));
    let s = state();
    let on = |cr4| VcpuState { cr4, ..s };
    assert_eq!(p.cpuid(1, 0, &s)[EBX] >> 24, 6);
    assert_eq!(p.cpuid(1, 0, &s)[ECX] & 1 << 27, 0);
    assert_ne!(p.cpuid(1, 0, &on(1 << 18))[ECX] & 1 << 27, 0);
    assert_eq!(p.cpuid(7, 0, &s)[ECX] & 1 << 4, 0);
    assert_ne!(p.cpuid(7, 0, &on(1 << 22))[ECX] & 1 << 4, 0);
    let off = VcpuState { apic_enabled: false, ..s };
    for leaf in [1, 0x8000_0001] {
        assert_ne!(p.cpuid(leaf, 0, &s)[EDX] & 1 << 9, 0);
        assert_eq!(p.cpuid(leaf, 0, &off)[EDX] & 1 << 9, 0);
    }
    for sub in [0, 1, 7] {
        assert_eq!(p.cpuid(0xb, sub, &s), [0, 0, sub, 6]);
    }
    // SYSCALL is hidden outside long mode on Intel only.
    let compat = VcpuState { long_mode: false, ..s };
    assert_ne!(p.cpuid(0x8000_0001, 0, &compat)[EDX] & 1 << 11, 0);
    let intel = Policy::guest_default_of(&host(INTEL));
    assert_eq!(intel.cpuid(0x8000_0001, 0, &compat)[EDX] & 1 << 11, 0);
    assert_ne!(intel.cpuid(0x8000_0001, 0, &s)[EDX] & 1 << 11, 0);
}

#[test]
fn extended_state_sizes() {
    let p = Policy::guest_default_of(&host(AMD));
    let sizes = |xcr0| {
        let s = VcpuState { xcr0, ..state() };
        (p.cpuid(0xd, 0, &s)[EBX], p.cpuid(0xd, 1, &s)[EBX])
    };
    assert_eq!(sizes(1), (576, 576));
    assert_eq!(sizes(7), (0x340, 0x340));
    assert_eq!(sizes(0xe7), (0x980, 576 + 0x100 + 0x40 + 0x200 + 0x400));
    assert_eq!(sizes(0xe3), (0x980, 576 + 0x40 + 0x200 + 0x400));
    let all = p.cpuid(0xd, 0, &state());
    assert_eq!((all[EAX], all[ECX], all[EDX]), (0xe7, 0x980, 0));
    assert_eq!(p.cpuid(0xd, 2, &state()), [0x100, 0x240, 0, 0]);
    // Protection keys and supervisor state are not offered.
    assert_eq!(p.cpuid(0xd, 9, &state()), [0; 4]);
    assert_eq!(p.cpuid(0xd, 11, &state()), [0; 4]);
    assert_eq!(p.cpuid(0xd, 63, &state()), [0; 4]);
}

#[test]
fn compacted_parts_are_aligned_where_they_ask_for_it() {
    let mut p = Policy::guest_default_of(&host(AMD));
    p.xstate[2] = [0x108, 0x240, 0, 0];
    p.xstate[5][ECX] = 2;
    let size = |xcr0| p.cpuid(0xd, 1, &VcpuState { xcr0, ..state() })[EBX];
    assert_eq!(size(0x07), 576 + 0x108);
    assert_eq!(size(0x27), 576 + 0x140 + 0x40);
    assert_eq!(size(0x47), 576 + 0x108 + 0x200);
}

#[test]
fn xen_leaves() {
    let mut p = Policy::guest_default_of(&host(AMD));
    p.tsc = Tsc { mode: 2, khz: 3_000_000, incarnation: 4, offset: 0x1_0000_0002, emulated: false };
    let s = state();
    let get = |leaf, sub| p.cpuid(leaf, sub, &s);
    let [max, b, c, d] = get(0x4000_0000, 0);
    let name: std::vec::Vec<u8> = [b, c, d].iter().flat_map(|r| r.to_le_bytes()).collect();
    assert_eq!((max, name.as_slice()), (0x4000_0005, b"XenVMMXenVMM".as_slice()));
    assert_eq!(get(0x4000_0001, 0), [0x0004_0011, 0, 0, 0]);
    assert_eq!(get(0x4000_0002, 0), [1, 0x4000_0000, 0, 0]);
    // Reliable counter and RDTSCP on this host.
    assert_eq!(get(0x4000_0003, 0), [6, 2, 3_000_000, 4]);
    let [low, high, multiplier, shift] = get(0x4000_0003, 1);
    assert_eq!((low, high), (2, 1));
    // 3 GHz: 3 ticks are 1 ns.
    let ns = |ticks: u64| (u128::from(ticks >> -(shift as i32)) * u128::from(multiplier)) >> 32;
    assert!(ns(3_000_000_000).abs_diff(1_000_000_000) < 10);
    assert_eq!(get(0x4000_0003, 2), [3_000_000, 0, 0, 0]);
    assert_eq!(get(0x4000_0004, 0), [1 << 3 | 1 << 4 | 1 << 6, 3, 5, 0]);
    assert_eq!(get(0x4000_0004, 1), [0; 4]);
    assert_eq!(get(0x4000_0005, 0), [0; 4]);
    // Linux looks for the signature at every 0x100th leaf.
    for base in (0x4000_0100..0x4001_0000u32).step_by(0x100) {
        assert_eq!(get(base, 0), [0; 4]);
    }
    assert_ne!(get(1, 0)[ECX] & 1 << 31, 0);
}

#[test]
fn out_of_range_is_zero() {
    let p = Policy::guest_default_of(&host(AMD));
    for leaf in
        [0xe, 0x10, 0x1f, 0x3fff_ffff, 0x4000_0006, 0x4fff_ffff, 0x8000_0022, 0x8001_0001, 0xc000_0000, !0]
    {
        assert_eq!(p.cpuid(leaf, 0, &state()), [0; 4], "{leaf:#x}");
    }
    assert_eq!(p.cpuid(7, 2, &state()), [0; 4]);
    assert_eq!(p.cpuid(4, 9, &state()), [0; 4]);
}

proptest! {
    #[test]
    fn no_leaf_panics(
        table in 0usize..3,
        leaf in prop_oneof![any::<u32>(), 0u32..0x20, 0x4000_0000u32..0x4000_0300, 0x8000_0000u32..0x8000_0030],
        subleaf in prop_oneof![any::<u32>(), 0u32..70],
        words in any::<[u64; 3]>(),
        ids in any::<(u32, u32, u16, bool, bool)>(),
        khz in any::<u32>(),
    ) {
        let mut p = Policy::guest_max_of(&host(ALL[table]));
        p.tsc.khz = khz;
        let s = VcpuState {
            vcpu: ids.0, apic_id: ids.1, domid: ids.2, long_mode: ids.3, apic_enabled: ids.4,
            cr4: words[0], xcr0: words[1], xss: words[2],
        };
        p.cpuid(leaf, subleaf, &s);
    }
}
