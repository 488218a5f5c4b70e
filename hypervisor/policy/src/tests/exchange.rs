//! Policies to and from the toolstack.

use proptest::prelude::*;
use std::vec::Vec;
use xen_abi::Errno;
use xen_abi::featureset::*;

use super::hosts::{ALL, AMD, INTEL, host, raw};
use crate::build::within;
use crate::leaves::{EAX, EBX, ECX, EDX, Policy};
use crate::{MAX_LEAVES, Refusal, VcpuState};

#[test]
fn a_policy_survives_the_journey() {
    for table in ALL {
        let host = host(table);
        for p in [
            Policy::guest_max_of(&host),
            Policy::guest_default_of(&host),
            Policy::hardware_domain_of(&host),
            host.clone(),
        ] {
            let leaves = p.leaves();
            assert!(leaves.len() <= MAX_LEAVES);
            // libxenguest searches by bisection.
            assert!(leaves.windows(2).all(|w| (w[0].leaf, w[0].subleaf) < (w[1].leaf, w[1].subleaf)));
            let mut back = Policy::empty();
            back.overlay(&leaves, &p.msrs()).unwrap();
            assert_eq!(back, p);
        }
        // The raw policy has maxima beyond the arrays.
        assert!(raw(table).leaves().len() <= MAX_LEAVES);
    }
    assert_eq!(MAX_LEAVES, 14 + 2 + 5 + 1 + 62 + 34 + 2);
}

#[test]
fn what_libxl_does() {
    // xc_cpuid_apply_policy: default leaves, fewer features, other topology.
    let host = host(AMD);
    let (max, default) = (Policy::guest_max_of(&host), Policy::guest_default_of(&host));
    let mut leaves = default.leaves();
    for l in &mut leaves {
        match (l.leaf, l.subleaf) {
            (1, _) => {
                l.d |= 1 << 28;
                l.b = l.b & !0x00ff_0000 | 0x0010_0000;
                l.c &= !(1 << 28); // no AVX
            }
            (0x8000_0001, _) => l.c |= 1 << 2, // SVM: not to be had
            (0x8000_0007, _) => l.d |= 1 << 8, // ITSC
            (0x4000_0000, _) => l.a = 3,
            _ => {}
        }
    }
    let new = default.update_within(&max, &leaves, &[]).unwrap();
    assert!(new.has(X86_FEATURE_HTT) && new.has(X86_FEATURE_ITSC));
    assert!(!new.has(X86_FEATURE_SVM));
    for gone in [X86_FEATURE_AVX, X86_FEATURE_AVX2, X86_FEATURE_FMA, X86_FEATURE_AVX512F] {
        assert!(!new.has(gone));
    }
    assert_eq!(new.xcr0_mask(), 3);
    assert_eq!(new.xstate[0], [3, 0, 576, 0]);
    assert_eq!(new.basic[1][EBX] >> 16 & 0xff, 0x10);
    assert_eq!(new.cpuid(0x4000_0000, 0, &VcpuState::default())[EAX], 0x4000_0003);
    assert_eq!(new.cpuid(0x4000_0004, 0, &VcpuState::default()), [0; 4]);
    // And once more with what was read back: nothing changes.
    assert_eq!(new.update_within(&max, &new.leaves(), &new.msrs()).unwrap(), new);
}

#[test]
fn refusals_name_the_culprit() {
    let host = host(INTEL);
    let (max, p) = (Policy::guest_max_of(&host), Policy::guest_default_of(&host));
    let leaf = |leaf, subleaf, a| CpuidLeaf { leaf, subleaf, a, b: 0, c: 0, d: 0 };
    let msr = |idx, flags, val| MsrEntry { idx, flags, val };
    let none = XEN_CPUID_NO_SUBLEAF;
    let refusal = |r: Result<Policy, Refusal>| {
        let r = r.unwrap_err();
        (r.errno, r.leaf, r.subleaf, r.msr)
    };
    let of_leaf = |l| refusal(p.update_within(&max, &[l], &[]));
    let of_msr = |m| refusal(p.update_within(&max, &[], &[m]));
    for (l, s) in [
        (0, 0),
        (4, 6),
        (7, 3),
        (0xb, 2),
        (0xd, 63),
        (0xe, none),
        (7, none),
        (0x4000_0000, 0),
        (0x4000_0001, none),
        (0x8000_0022, none),
        (0x8000_0001, 0),
        (0x8001_0000, none),
        (!0, none),
    ] {
        assert_eq!(of_leaf(leaf(l, s, 0)), (Errno::ERANGE, l, s, !0));
    }
    assert_eq!(of_leaf(leaf(0, none, 0xe)), (Errno::EINVAL, 0, none, !0));
    assert_eq!(of_leaf(leaf(7, 0, 3)), (Errno::EINVAL, 7, 0, !0));
    assert_eq!(of_leaf(leaf(0x8000_0000, none, 0x8000_0009)), (Errno::EINVAL, 0x8000_0000, none, !0));
    assert_eq!(of_msr(msr(0x10, 0, 0)), (Errno::ERANGE, !0, !0, 0x10));
    assert_eq!(of_msr(msr(0xce, 1, 0)), (Errno::EINVAL, !0, !0, 0xce));
    assert_eq!(of_msr(msr(0xce, 0, 1 << 32)), (Errno::EOVERFLOW, !0, !0, 0xce));
    assert_eq!(of_msr(msr(0xce, 0, 1 << 31)), (Errno::EINVAL, !0, !0, 0xce));
    let many = std::vec![leaf(0, none, 0); MAX_LEAVES + 1];
    assert_eq!(p.update_within(&max, &many, &[]).unwrap_err().errno, Errno::E2BIG);
}

fn any_leaf() -> impl Strategy<Value = CpuidLeaf> {
    let at = prop_oneof![
        Just((1, XEN_CPUID_NO_SUBLEAF)),
        (0u32..3).prop_map(|s| (7, s)),
        (0u32..6).prop_map(|s| (4, s)),
        (0u32..63).prop_map(|s| (0xd, s)),
        (0u32..0xe).prop_map(|l| (l, XEN_CPUID_NO_SUBLEAF)),
        (0u32..0x22).prop_map(|l| (0x8000_0000 | l, XEN_CPUID_NO_SUBLEAF)),
        any::<(u32, u32)>(),
    ];
    let value = prop_oneof![any::<u32>(), Just(u32::MAX), Just(0)];
    (at, prop::array::uniform4(value)).prop_map(|((leaf, subleaf), [a, b, c, d])| {
        // Keep the maxima mostly acceptable, or nearly all is refused.
        let a = match leaf {
            0 => a % 0xf,
            7 if subleaf == 0 => a % 3,
            0x8000_0000 => 0x8000_0000 | (a % 0x23),
            _ => a,
        };
        CpuidLeaf { leaf, subleaf, a, b, c, d }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    /// Whatever the toolstack asks for, the domain gets no feature, state or leaf beyond guest max, and reading it back
    /// gives the same.
    #[test]
    fn never_more_than_max(
        table in 0usize..3,
        asked in prop::collection::vec(any_leaf(), 1..12),
        arch_caps in any::<u64>(),
        keep_vendor in any::<bool>(),
    ) {
        let host = host(ALL[table]);
        let (max, default) = (Policy::guest_max_of(&host), Policy::guest_default_of(&host));
        let asked: Vec<CpuidLeaf> = asked.into_iter().map(|mut l| {
            if l.leaf == 0 && keep_vendor {
                (l.b, l.c, l.d) = (default.basic[0][EBX], default.basic[0][ECX], default.basic[0][EDX]);
            }
            l
        }).collect();
        let msrs = [MsrEntry { idx: 0x10a, flags: 0, val: arch_caps }];
        if let Ok(p) = default.update_within(&max, &asked, &msrs) {
            prop_assert!(within(&p, &max));
            prop_assert_eq!(p.arch_caps(), 0);
            prop_assert!(p.basic[0][EAX] <= max.basic[0][EAX] && p.max_extd() < 0x22);
            prop_assert!(p.physical_address_bits() <= max.physical_address_bits().max(36));
            prop_assert!(p.xstates() & !max.xcr0_mask() == 0);
            let mut back = Policy::empty();
            back.overlay(&p.leaves(), &p.msrs()).unwrap();
            prop_assert_eq!(&back, &p);
            let again = p.update_within(&max, &p.leaves(), &p.msrs());
            prop_assert_eq!(again.as_ref(), Ok(&p));
        }
    }
}
