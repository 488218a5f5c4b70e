//! The static leaves of a policy and its view as a set of features.

use xen_abi::featureset::{FEATURESET_NR_ENTRIES, X86_FEATURE_XSAVE};

use crate::features::FeatureSet;
use crate::xen_leaves::{HostTsc, Tsc};

/// EAX, EBX, ECX, EDX.
pub type Leaf = [u32; 4];

/// Basic leaves kept (0 to 0xd).
pub const NR_BASIC: usize = 0xe;
/// Sub-leaves of leaf 4.
pub const NR_CACHE: usize = 6;
/// Sub-leaves of leaf 7.
pub const NR_FEAT: usize = 3;
/// Sub-leaves of leaf 0xb.
pub const NR_TOPO: usize = 2;
/// Sub-leaves of leaf 0xd.
pub const NR_XSTATE: usize = 63;
/// Extended leaves kept on Intel (to 0x80000008).
pub const NR_EXTD_INTEL: usize = 9;
/// Extended leaves kept (to 0x80000021, AMD).
pub const NR_EXTD: usize = 0x22;

/// Registers within a leaf.
pub(crate) const EAX: usize = 0;
pub(crate) const EBX: usize = 1;
pub(crate) const ECX: usize = 2;
pub(crate) const EDX: usize = 3;

/// What CPUID and the feature MSRs say to one domain. Equality is that of the leaves and MSRs.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) basic: [Leaf; NR_BASIC],
    pub(crate) cache: [Leaf; NR_CACHE],
    pub(crate) feat: [Leaf; NR_FEAT],
    pub(crate) topo: [Leaf; NR_TOPO],
    pub(crate) xstate: [Leaf; NR_XSTATE],
    pub(crate) extd: [Leaf; NR_EXTD],
    /// `MSR_PLATFORM_INFO` (0xce), low half.
    pub(crate) platform_info: u32,
    /// `MSR_ARCH_CAPABILITIES` (0x10a).
    pub(crate) arch_caps: u64,
    /// The toolstack's choice of the number of Xen leaves; 0: all.
    pub(crate) hv_limit: u8,
    /// The same behind Viridian leaves. Kept for the toolstack only.
    pub(crate) hv2_limit: u8,
    /// The domain's time stamp counter as leaf 0x40000003 tells it; set by `XEN_DOMCTL_settscinfo`.
    pub tsc: Tsc,
    pub(crate) host_tsc: HostTsc,
}

impl PartialEq for Policy {
    fn eq(&self, o: &Policy) -> bool {
        self.basic == o.basic
            && self.cache == o.cache
            && self.feat == o.feat
            && self.topo == o.topo
            && self.xstate == o.xstate
            && self.extd == o.extd
            && (self.platform_info, self.arch_caps) == (o.platform_info, o.arch_caps)
            && (self.hv_limit, self.hv2_limit) == (o.hv_limit, o.hv2_limit)
    }
}
impl Eq for Policy {}

/// Maker of a processor, by the string in leaf 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// "AuthenticAMD", "HygonGenuine".
    Amd,
    /// "GenuineIntel".
    Intel,
    /// Anything else.
    Other,
}

/// Where a featureset word lives.
enum Word {
    Basic(usize, usize),
    Feat(usize, usize),
    Extd(usize, usize),
    Xstate1Eax,
    ArchCaps(u32),
}

/// In the order of `xen_abi::featureset::FEATURESET_WORDS`.
const WORDS: [Word; FEATURESET_NR_ENTRIES] = [
    Word::Basic(1, EDX),
    Word::Basic(1, ECX),
    Word::Extd(1, EDX),
    Word::Extd(1, ECX),
    Word::Xstate1Eax,
    Word::Feat(0, EBX),
    Word::Feat(0, ECX),
    Word::Extd(7, EDX),
    Word::Extd(8, EBX),
    Word::Feat(0, EDX),
    Word::Feat(1, EAX),
    Word::Extd(0x21, EAX),
    Word::Feat(1, EBX),
    Word::Feat(2, EDX),
    Word::Feat(1, ECX),
    Word::Feat(1, EDX),
    Word::ArchCaps(0),
    Word::ArchCaps(32),
    Word::Extd(0x21, ECX),
];

impl Policy {
    /// All zero.
    pub const fn empty() -> Policy {
        Policy {
            basic: [[0; 4]; NR_BASIC],
            cache: [[0; 4]; NR_CACHE],
            feat: [[0; 4]; NR_FEAT],
            topo: [[0; 4]; NR_TOPO],
            xstate: [[0; 4]; NR_XSTATE],
            extd: [[0; 4]; NR_EXTD],
            platform_info: 0,
            arch_caps: 0,
            hv_limit: 0,
            hv2_limit: 0,
            tsc: Tsc { mode: 0, khz: 0, incarnation: 0, offset: 0, emulated: false },
            host_tsc: HostTsc { khz: 0, safe: false, rdtscp: false },
        }
    }

    /// Highest basic leaf, within what a policy holds.
    pub(crate) fn max_basic(&self) -> usize {
        (self.basic[0][EAX] as usize).min(NR_BASIC - 1)
    }
    /// Highest sub-leaf of leaf 7, within what a policy holds.
    pub(crate) fn max_feat(&self) -> usize {
        (self.feat[0][EAX] as usize).min(NR_FEAT - 1)
    }
    /// Highest extended leaf less 0x80000000, within what a policy holds.
    pub(crate) fn max_extd(&self) -> usize {
        ((self.extd[0][EAX] & 0xffff) as usize).min(NR_EXTD - 1)
    }

    /// Maker of the processor the domain sees.
    pub fn vendor(&self) -> Vendor {
        let [_, b, c, d] = self.basic[0];
        let mut name = [0; 12];
        for (at, word) in name.chunks_exact_mut(4).zip([b, d, c]) {
            at.copy_from_slice(&word.to_le_bytes());
        }
        match &name {
            b"AuthenticAMD" | b"HygonGenuine" => Vendor::Amd,
            b"GenuineIntel" => Vendor::Intel,
            _ => Vendor::Other,
        }
    }

    /// The features of the policy (`XEN_SYSCTL_get_cpu_featureset`).
    pub fn features(&self) -> FeatureSet {
        let mut set = FeatureSet::default();
        for (to, from) in set.0.iter_mut().zip(&WORDS) {
            *to = match *from {
                Word::Basic(leaf, r) => self.basic[leaf][r],
                Word::Feat(leaf, r) => self.feat[leaf][r],
                Word::Extd(leaf, r) => self.extd[leaf][r],
                Word::Xstate1Eax => self.xstate[1][EAX],
                Word::ArchCaps(shift) => (self.arch_caps >> shift) as u32,
            };
        }
        set
    }

    /// Puts the features into their leaves.
    pub(crate) fn set_features(&mut self, set: &FeatureSet) {
        self.arch_caps = 0;
        for (&from, to) in set.0.iter().zip(&WORDS) {
            match *to {
                Word::Basic(leaf, r) => self.basic[leaf][r] = from,
                Word::Feat(leaf, r) => self.feat[leaf][r] = from,
                Word::Extd(leaf, r) => self.extd[leaf][r] = from,
                Word::Xstate1Eax => self.xstate[1][EAX] = from,
                Word::ArchCaps(shift) => self.arch_caps |= u64::from(from) << shift,
            }
        }
    }

    /// Does the domain see the feature?
    pub fn has(&self, feature: u32) -> bool {
        self.features().has(feature)
    }

    /// XCR0 bits that the domain may set; 0 without XSAVE.
    pub fn xcr0_mask(&self) -> u64 {
        if self.basic[1][ECX] & 1 << (X86_FEATURE_XSAVE % 32) == 0 {
            return 0;
        }
        u64::from(self.xstate[0][EDX]) << 32 | u64::from(self.xstate[0][EAX])
    }

    /// XCR0 and XSS bits that have a sub-leaf of 0xd.
    pub(crate) fn xstates(&self) -> u64 {
        let [[a, _, _, d], [_, _, c1, d1], ..] = self.xstate;
        u64::from(d | d1) << 32 | u64::from(a | c1)
    }

    /// `MSR_PLATFORM_INFO` (0xce).
    pub fn platform_info(&self) -> u64 {
        u64::from(self.platform_info)
    }

    /// `MSR_ARCH_CAPABILITIES` (0x10a).
    pub fn arch_caps(&self) -> u64 {
        self.arch_caps
    }

    /// Physical address bits that the domain may use.
    pub fn physical_address_bits(&self) -> u8 {
        self.extd[8][EAX] as u8
    }

    /// Zeroes leaves beyond the maxima and after the last cache or topology sub-leaf.
    pub(crate) fn clear_out_of_range(&mut self) {
        let (basic, feat, extd) = (self.max_basic(), self.max_feat(), self.max_extd());
        clear_from(&mut self.basic, basic + 1);
        clear_from(&mut self.extd, extd + 1);
        let caches = if basic < 4 { 0 } else { self.cache.iter().take_while(|l| l[EAX] & 0x1f != 0).count() };
        clear_from(&mut self.cache, caches);
        clear_from(&mut self.feat, if basic < 7 { 0 } else { feat + 1 });
        let levels =
            if basic < 0xb { 0 } else { self.topo.iter().take_while(|l| l[ECX] & 0xff00 != 0).count() };
        clear_from(&mut self.topo, levels);
        let states = 64 - self.xstates().leading_zeros() as usize;
        clear_from(&mut self.xstate, if basic < 0xd || states == 0 { 0 } else { states.max(2) });
    }
}

fn clear_from(leaves: &mut [Leaf], first: usize) {
    leaves.iter_mut().skip(first).for_each(|l| *l = [0; 4]);
}
