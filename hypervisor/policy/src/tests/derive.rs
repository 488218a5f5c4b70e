//! The chain raw, host, guest max, guest default, dom0.

use xen_abi::featureset::*;

use super::hosts::{ALL, AMD, INTEL, OLD, gifts, host, raw};
use crate::build::within;
use crate::leaves::{EAX, EBX, ECX, EDX, Policy};
use crate::{FeatureSet, Vendor};

#[test]
fn each_step_takes_away() {
    for table in ALL {
        let (raw, host) = (raw(table), host(table));
        let max = Policy::guest_max_of(&host);
        let default = Policy::guest_default_of(&host);
        let dom0 = Policy::hardware_domain_of(&host);
        assert!(host.features().is_subset(&raw.features()));
        assert!(max.features().without(&gifts()).is_subset(&host.features()));
        assert!(within(&default, &max) && within(&dom0, &max) && max.xcr0_mask() & !host.xcr0_mask() == 0);
        for p in [&max, &default, &dom0] {
            let mut again = p.clone();
            again.recalculate(&max);
            assert_eq!(&again, p, "recalculation has settled");
        }
    }
}

#[test]
fn what_no_guest_sees() {
    let hidden = [
        X86_FEATURE_MONITOR,
        X86_FEATURE_SVM,
        X86_FEATURE_VMX,
        X86_FEATURE_TSC_DEADLINE,
        X86_FEATURE_TSC_ADJUST,
        X86_FEATURE_PKU,
        X86_FEATURE_OSPKE,
        X86_FEATURE_OSXSAVE,
        X86_FEATURE_CET_SS,
        X86_FEATURE_CET_IBT,
        X86_FEATURE_TOPOEXT,
        X86_FEATURE_IBPB,
        X86_FEATURE_IBRS,
        X86_FEATURE_IBRSB,
        X86_FEATURE_ARCH_CAPS,
        X86_FEATURE_OSVW,
        X86_FEATURE_IBS,
        X86_FEATURE_SGX,
        X86_FEATURE_RTM,
        X86_FEATURE_MPX,
        X86_FEATURE_MONITORX,
        X86_FEATURE_DBEXT,
        9 * 32 + 22, // AMX-BF16
        9 * 32 + 24, // AMX-TILE
        3 * 32 + 23, // performance counter extensions
    ];
    for table in ALL {
        let host = host(table);
        for p in [Policy::guest_max_of(&host), Policy::hardware_domain_of(&host)] {
            for f in hidden {
                assert!(!p.has(f), "feature {}:{}", f / 32, f % 32);
            }
            assert_eq!((p.arch_caps(), p.platform_info()), (0, 0));
            for leaf in [5, 6, 8, 9, 0xa, 0xc] {
                assert_eq!(p.basic[leaf], [0; 4], "leaf {leaf:#x}");
            }
            for leaf in [0xa, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x20] {
                assert_eq!(p.extd[leaf], [0; 4], "leaf 0x800000{leaf:02x}");
            }
        }
    }
}

#[test]
fn what_guests_get() {
    let host = host(AMD);
    let default = Policy::guest_default_of(&host);
    let wanted = [
        X86_FEATURE_X2APIC,
        X86_FEATURE_HYPERVISOR,
        X86_FEATURE_MTRR,
        X86_FEATURE_MCA,
        X86_FEATURE_SMEP,
        X86_FEATURE_SMAP,
        X86_FEATURE_PCID,
        X86_FEATURE_PAGE1GB,
        X86_FEATURE_XSAVE,
        X86_FEATURE_XSAVES,
        X86_FEATURE_AVX512F,
        X86_FEATURE_RDTSCP,
        X86_FEATURE_LM,
    ];
    for f in wanted {
        assert!(default.has(f), "feature {}:{}", f / 32, f % 32);
    }
    assert!(!default.has(X86_FEATURE_ITSC) && Policy::guest_max_of(&host).has(X86_FEATURE_ITSC));
    assert!(Policy::hardware_domain_of(&host).has(X86_FEATURE_ITSC));
    assert_eq!(default.vendor(), Vendor::Amd);
    assert_eq!(default.xcr0_mask(), 0xe7);
    assert_eq!(default.extd[0][EAX], 0x8000_0021);
    assert_eq!(default.basic[0][EAX], 0xd);
    // Common features appear twice on AMD.
    assert_eq!(default.extd[1][EDX] & 0x0183_f3ff, default.basic[1][EDX] & 0x0183_f3ff);
    assert_eq!(default.physical_address_bits(), 48);
}

#[test]
fn dom0_topology_fits_its_apic_ids() {
    let dom0 = Policy::hardware_domain_of(&host(AMD));
    assert_eq!(dom0.basic[1][EBX] >> 16 & 0xff, 16);
    // The width stays at 7, which some guests take for the largest.
    assert_eq!(dom0.extd[8][ECX], 7 << 12 | 15);
    assert!(dom0.has(X86_FEATURE_HTT) && !dom0.has(X86_FEATURE_CMP_LEGACY));
}

#[test]
fn state_that_cannot_be_switched_hides_its_features() {
    let p = super::hosts::with_machine(AMD, |m| Policy::host_of(&crate::Machine { xcr0: 7, ..*m }));
    assert!(p.has(X86_FEATURE_AVX2) && !p.has(X86_FEATURE_AVX512F) && !p.has(X86_FEATURE_AVX512VL));
    assert_eq!(p.xcr0_mask(), 7);
    let p = super::hosts::with_machine(AMD, |m| Policy::host_of(&crate::Machine { xcr0: 0, ..*m }));
    assert!(!p.has(X86_FEATURE_XSAVE) && !p.has(X86_FEATURE_AVX) && !p.has(X86_FEATURE_FMA));
    assert_eq!((p.xcr0_mask(), p.xstate[0], p.xstate[2]), (0, [0; 4], [0; 4]));
}

#[test]
fn processors_without_much() {
    let old = host(OLD);
    assert_eq!(old.extd[0][EAX], 0x8000_0000);
    let guest = Policy::guest_default_of(&old);
    assert_eq!((guest.max_basic(), guest.max_feat(), guest.xcr0_mask()), (1, 0, 0));
    let intel = Policy::hardware_domain_of(&host(INTEL));
    assert_eq!(intel.vendor(), Vendor::Intel);
    assert_eq!(intel.extd[0], [0x8000_0008, 0, 0, 0]);
    assert_eq!(intel.xcr0_mask(), 3);
    // Caches shared by all cores, of which there are twice as many ids.
    assert_eq!(intel.cache[0][EAX], 0x3c00_0121);
    assert_eq!(intel.basic[2][EAX] & 0xff, 1);
}

#[test]
fn arch_caps_belong_to_the_host() {
    assert_eq!(raw(INTEL).arch_caps(), 0x1_0000_002b);
    assert_eq!(raw(OLD).arch_caps(), 0);
}

#[test]
fn dependants_go_with_what_they_need() {
    let mut set = FeatureSet::known();
    set.set(X86_FEATURE_SSE, false);
    let set = set.sanitise();
    for f in [X86_FEATURE_SSE2, X86_FEATURE_LM, X86_FEATURE_SSE4_2, X86_FEATURE_AESNI, X86_FEATURE_VAES] {
        assert!(!set.has(f));
    }
    assert!(set.has(X86_FEATURE_AVX) && set.has(X86_FEATURE_EIBRS));
    let mut set = FeatureSet::known();
    set.set(X86_FEATURE_ARCH_CAPS, false);
    assert_eq!(set.sanitise().0[16..18], [0, 0]);
    assert!(!FeatureSet::of(&[1, 33]).has(2) && FeatureSet::of(&[1, 33]).has(33));
}

#[test]
fn this_machine() {
    let max = Policy::guest_max();
    assert!(within(&Policy::hardware_domain(), max) && within(&Policy::guest_default(), max));
    assert_eq!(Policy::of_index(1).unwrap(), &Policy::host());
    assert_eq!(Policy::featureset_of_index(5).unwrap(), max.features());
    assert_eq!(Policy::featureset_of_index(3).unwrap(), Policy::guest_default().features());
    assert_eq!(Policy::of_index(2).unwrap_err(), xen_abi::Errno::EOPNOTSUPP);
    assert_eq!(Policy::of_index(6).unwrap_err(), xen_abi::Errno::EINVAL);
}

#[test]
fn the_command_line_takes_and_gives() {
    let only = |f| FeatureSet::of(&[f]);
    for table in ALL {
        let host = host(table);
        let less = host.clone().reduced(&only(X86_FEATURE_SSE2));
        assert!(!less.has(X86_FEATURE_SSE2) && less.features().is_subset(&host.features()));
        assert!(!less.has(X86_FEATURE_AESNI), "AESNI needs SSE2");
        let less = host.clone().reduced(&only(X86_FEATURE_XSAVE));
        assert!(!less.has(X86_FEATURE_AVX) && less.xcr0_mask() & 4 == 0, "AVX needs XSAVE");
        let less = host.clone().reduced(&only(X86_FEATURE_SSE2));
        assert_eq!(host.clone().reduced(&FeatureSet::default()), host);
        assert!(!Policy::guest_max_of(&less).has(X86_FEATURE_SSE2));

        let (max, dom0) = (Policy::guest_max_of(&host), Policy::hardware_domain_of(&host));
        let none = FeatureSet::default();
        assert_eq!(dom0.clone().adjusted(&none, &none, &max), dom0);
        let without = dom0.clone().adjusted(&none, &only(X86_FEATURE_RDTSCP), &max);
        assert!(!without.has(X86_FEATURE_RDTSCP));
        // What no guest can have is not given.
        let greedy = dom0.clone().adjusted(&only(X86_FEATURE_SVM), &none, &max);
        assert!(!greedy.has(X86_FEATURE_SVM) && within(&greedy, &max));
    }
}

#[test]
fn features_have_the_toolstacks_names() {
    assert_eq!(crate::feature("rdrand"), Some(X86_FEATURE_RDRAND));
    assert_eq!(crate::feature("movdir64b"), Some(X86_FEATURE_MOVDIR64B));
    assert_eq!(crate::feature("arch-caps"), Some(X86_FEATURE_ARCH_CAPS));
    for none in ["", "rdran", "rdrandx", "no-rdrand"] {
        assert_eq!(crate::feature(none), None, "{none}");
    }
}
