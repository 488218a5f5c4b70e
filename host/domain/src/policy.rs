//! The CPUID policy of a guest: the machine's default for such guests, with the topology Xen gives them.
//!
//! Xen numbers local APICs `2 * vCPU`, so that no two vCPUs look like threads of one core. What the default policy says about
//! cores has to agree with that; Xen refuses, or worse accepts, a policy that does not (as `xc_cpuid_apply_policy` of
//! Xen 4.17 has it). Pure: leaves in, leaves out.

use xen_abi::featureset::CpuidLeaf;

/// `vendor` is AMD's or Hygon's if leaf 0 says so.
const AMD: [[u32; 3]; 2] = [
    // "AuthenticAMD", "HygonGenuine" as ebx, edx, ecx.
    [0x6874_7541, 0x6974_6e65, 0x444d_4163],
    [0x6f67_7948, 0x6e65_476e, 0x656e_6975],
];
const INTEL: [u32; 3] = [0x756e_6547, 0x4965_6e69, 0x6c65_746e];

const LEAF1_EDX_HTT: u32 = 1 << 28;
const LEAF1_ECX_VMX: u32 = 1 << 5;
const EXT1_ECX_CMP_LEGACY: u32 = 1 << 1;
const EXT1_ECX_SVM: u32 = 1 << 2;
const EXT7_EDX_ITSC: u32 = 1 << 8;

fn leaf(leaves: &mut [CpuidLeaf], number: u32) -> Option<&mut CpuidLeaf> {
    leaves.iter_mut().find(|l| l.leaf == number)
}

/// Turns the machine's default policy into that of a new guest.
pub fn for_guest(mut leaves: Vec<CpuidLeaf>) -> Vec<CpuidLeaf> {
    let vendor = leaf(&mut leaves, 0).map_or([0; 3], |l| [l.b, l.d, l.c]);
    if let Some(one) = leaf(&mut leaves, 1) {
        // Logical processors per package, in bits 23:16 of ebx.
        let count = one.b >> 16 & 0xff;
        let doubled = match count {
            0 => 2,
            1..=0x7f => count * 2,
            _ => count,
        };
        one.b = one.b & !0x00ff_0000 | doubled << 16;
        one.c &= !LEAF1_ECX_VMX;
        one.d |= LEAF1_EDX_HTT;
    }
    if vendor == INTEL {
        for cache in leaves.iter_mut().filter(|l| l.leaf == 4 && l.a & 0x1f != 0) {
            // Cores per package minus one in bits 31:26, threads per cache minus one in bits 25:14.
            let cores = (cache.a >> 26 << 1 | 1) & 0x3f;
            cache.a = cache.a & 0x3fff | cores << 26;
        }
    }
    if let Some(features) = leaf(&mut leaves, 0x8000_0001) {
        features.c &= !(EXT1_ECX_CMP_LEGACY | EXT1_ECX_SVM);
    }
    if let Some(power) = leaf(&mut leaves, 0x8000_0007) {
        power.d &= !EXT7_EDX_ITSC;
    }
    if AMD.contains(&vendor)
        && let Some(sizes) = leaf(&mut leaves, 0x8000_0008)
    {
        let (cores, bits) = (sizes.c & 0xff, sizes.c >> 12 & 0xf);
        if cores < 0x7f {
            let bits = if (1..7).contains(&bits) { bits + 1 } else { bits };
            sizes.c = sizes.c & !0xf0ff | bits << 12 | cores << 1 | 1;
        }
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn amd(ebx1: u32, ecx8: u32) -> Vec<CpuidLeaf> {
        let l = |leaf, a, b, c, d| CpuidLeaf { leaf, subleaf: u32::MAX, a, b, c, d };
        vec![
            l(0, 16, 0x6874_7541, 0x444d_4163, 0x6974_6e65),
            l(1, 0, ebx1, LEAF1_ECX_VMX | 1, 0),
            l(0x8000_0000, 0x8000_0008, 0, 0, 0),
            l(0x8000_0001, 0, 0, EXT1_ECX_CMP_LEGACY | EXT1_ECX_SVM | 1, 0),
            l(0x8000_0007, 0, 0, 0, EXT7_EDX_ITSC),
            l(0x8000_0008, 0, 0, ecx8, 0),
        ]
    }

    fn get(leaves: &[CpuidLeaf], number: u32) -> CpuidLeaf {
        *leaves.iter().find(|l| l.leaf == number).unwrap()
    }

    #[test]
    fn topology_of_an_amd_guest() {
        let out = for_guest(amd(0x0104_0800, 0x3003));
        assert_eq!(get(&out, 1).b, 0x0108_0800);
        assert_eq!(get(&out, 1).c, 1);
        assert_eq!(get(&out, 1).d, LEAF1_EDX_HTT);
        assert_eq!(get(&out, 0x8000_0001).c, 1);
        assert_eq!(get(&out, 0x8000_0007).d, 0);
        assert_eq!(get(&out, 0x8000_0008).c, 0x4007);
    }

    #[test]
    fn nothing_overflows() {
        assert_eq!(get(&for_guest(amd(0x00ff_0000, 0x70ff)), 1).b, 0x00ff_0000);
        assert_eq!(get(&for_guest(amd(0, 0x70ff)), 0x8000_0008).c, 0x70ff);
        assert_eq!(get(&for_guest(amd(0, 0x0000)), 1).b, 0x0002_0000);
        assert_eq!(get(&for_guest(amd(0, 0x0000)), 0x8000_0008).c, 0x0001);
    }

    #[test]
    fn caches_of_an_intel_guest() {
        let mut leaves = amd(0, 0);
        (leaves[0].b, leaves[0].c, leaves[0].d) = (INTEL[0], INTEL[2], INTEL[1]);
        let cache = CpuidLeaf { leaf: 4, subleaf: 0, a: 3 << 26 | 1 << 14 | 0x121, b: 0, c: 0, d: 0 };
        leaves.push(cache);
        let none = CpuidLeaf { subleaf: 1, a: 0, ..cache };
        leaves.push(none);
        let out = for_guest(leaves);
        assert_eq!(out[6].a, 7 << 26 | 0x121);
        assert_eq!(out[7], none);
        // AMD's leaf is left alone.
        assert_eq!(get(&out, 0x8000_0008).c, 0);
    }

    proptest! {
        #[test]
        fn only_what_is_meant_changes(ebx: u32, ecx: u32) {
            let before = amd(ebx, ecx);
            let after = for_guest(before.clone());
            prop_assert_eq!(after.len(), before.len());
            prop_assert_eq!(get(&after, 1).b & !0x00ff_0000, ebx & !0x00ff_0000);
            prop_assert_eq!(get(&after, 0x8000_0008).c & !0xf0ff, ecx & !0xf0ff);
            prop_assert!(get(&after, 1).b >> 16 & 0xff >= ebx >> 16 & 0xff);
        }
    }
}
