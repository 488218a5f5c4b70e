//! Hosts from tables.

use crate::leaves::{Leaf, Policy};
use crate::{FeatureSet, Machine};

/// Answers of a machine.
pub type Table = &'static [(u32, u32, Leaf)];

/// A Zen-like processor with 8 threads, AVX-512, PKU, SVM, TOPOEXT.
pub const AMD: Table = &[
    (0, 0, [0x10, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
    (1, 0, [0x00a2_0f12, 0x0308_0800, 0xfffa_3203 | 1 << 24, 0x178b_fbff]),
    (5, 0, [0x40, 0x40, 3, 0x11]),
    (6, 0, [4, 0, 1, 0]),
    (7, 0, [1, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff]),
    (7, 1, [0xffff_ffff, 0, 0, 0]),
    (0xa, 0, [0x0730_0402, 0, 0, 0x603]),
    (0xb, 0, [1, 2, 0x100, 3]),
    (0xb, 1, [4, 8, 0x201, 3]),
    (0xd, 0, [0x2e7, 0x988, 0x988, 0]),
    (0xd, 1, [0xf, 0x348, 0x1800, 0]),
    (0xd, 2, [0x100, 0x240, 0, 0]),
    (0xd, 5, [0x40, 0x340, 0, 0]),
    (0xd, 6, [0x200, 0x380, 0, 0]),
    (0xd, 7, [0x400, 0x580, 0, 0]),
    (0xd, 9, [8, 0x980, 0, 0]),
    (0xd, 11, [0x10, 0, 1, 0]),
    (0x8000_0000, 0, [0x8000_0023, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
    (0x8000_0001, 0, [0x00a2_0f12, 0x2000_0000, 0x75c2_37ff, 0x2fd3_fbff]),
    (0x8000_0002, 0, [0x2044_4d41, 0x657a_7952, 0x2039_206e, 0x3035_3935]),
    (0x8000_0007, 0, [0, 0x3b, 0, 0x6799]),
    (0x8000_0008, 0, [0x0030_3030, 0x191e_f257, 0x7007, 0x0001_0000]),
    (0x8000_000a, 0, [1, 0x8000, 0, 0x001e_beff]),
    (0x8000_0019, 0, [0xf040_f040, 0xf040_0000, 0, 0]),
    (0x8000_001a, 0, [6, 0, 0, 0]),
    (0x8000_001b, 0, [0xbff, 0, 0, 0]),
    (0x8000_001e, 0, [3, 0x101, 0, 0]),
    (0x8000_001f, 0, [0xf, 0, 0, 0]),
    (0x8000_0021, 0, [0xffff_ffff, 0xfff, 0xffff_ffff, 0]),
];

/// An Intel processor with leaf 4, few extended leaves, no AVX.
pub const INTEL: Table = &[
    (0, 0, [0x16, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]),
    (1, 0, [0x0009_06ed, 0x0010_0800, 0x77fa_fbbf & !(1 << 28), 0xbfeb_fbff]),
    (2, 0, [0x0076_3601, 0xb5ff, 0, 0xc3_0000]),
    (4, 0, [0x1c00_4121, 0x01c0_003f, 0x3f, 0]),
    (4, 1, [0x1c00_4122, 0x01c0_003f, 0x3f, 0]),
    (7, 0, [0, 0x029c_6fbf, 0x4000_0000, 0xbc00_0600]),
    (0xd, 0, [0x1f, 0x440, 0x440, 0]),
    (0xd, 1, [0xf, 0x440, 0x100, 0]),
    (0xd, 2, [0x100, 0x240, 0, 0]),
    (0xd, 3, [0x40, 0x3c0, 0, 0]),
    (0xd, 4, [0x40, 0x400, 0, 0]),
    (0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
    (0x8000_0001, 0, [0, 0, 0x121, 0x2c10_0800]),
    (0x8000_0007, 0, [0, 0, 0, 0x100]),
    (0x8000_0008, 0, [0x3027, 0, 0, 0]),
];

/// A processor without XSAVE, leaf 7, extended leaves.
pub const OLD: Table = &[
    (0, 0, [1, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
    (1, 0, [0x0000_0f4a, 0x0000_0800, 0, 0x078b_fbff]),
    // As processors without extended leaves: the last basic one.
    (0x8000_0000, 0, [0x0000_0f4a, 0x0000_0800, 0, 0x078b_fbff]),
];

pub const ALL: [Table; 3] = [AMD, INTEL, OLD];

/// The machine of a table.
pub fn with_machine<T>(table: Table, run: impl FnOnce(&Machine<'_>) -> T) -> T {
    let cpuid = |leaf: u32, subleaf: u32| {
        let exact = table.iter().find(|e| (e.0, e.1) == (leaf, subleaf));
        exact.map_or([0; 4], |e| e.2)
    };
    run(&Machine { cpuid: &cpuid, arch_caps: 0x1_0000_002b, xcr0: 0x2e7, tsc_khz: 3_000_000 })
}

pub fn raw(table: Table) -> Policy {
    with_machine(table, Policy::raw_of)
}

pub fn host(table: Table) -> Policy {
    with_machine(table, Policy::host_of)
}

/// Features that a guest may see though the host lacks them: emulated ones and topology.
pub fn gifts() -> FeatureSet {
    use xen_abi::featureset::*;
    FeatureSet::of(&[
        X86_FEATURE_APIC,
        X86_FEATURE_X2APIC,
        X86_FEATURE_HYPERVISOR,
        X86_FEATURE_NO_LMSL,
        X86_FEATURE_HTT,
        X86_FEATURE_CMP_LEGACY,
        // AMD's copy of APIC in 0x80000001 EDX has no name of its own.
        2 * 32 + 9,
    ])
}
