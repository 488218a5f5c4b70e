//! Deriving policies: raw → host → guest max → guest default.

use xen_abi::featureset::*;

use crate::features::{ALWAYS_POSSIBLE, COMMON_1D, EMULATED, FeatureSet, KNOWN, OPT_IN, VIRTUALISABLE};
use crate::leaves::{
    EAX, EBX, ECX, EDX, Leaf, NR_BASIC, NR_CACHE, NR_EXTD, NR_EXTD_INTEL, NR_FEAT, NR_TOPO, NR_XSTATE,
    Policy, Vendor,
};
use crate::xen_leaves::HostTsc;

/// Where a host policy comes from: the processor, or a table in tests.
pub struct Machine<'a> {
    /// CPUID for (leaf, sub-leaf).
    pub cpuid: &'a dyn Fn(u32, u32) -> Leaf,
    /// `MSR_ARCH_CAPABILITIES`, 0 if it does not exist.
    pub arch_caps: u64,
    /// XCR0 bits whose state the hypervisor can switch.
    pub xcr0: u64,
    /// Frequency of the time stamp counter.
    pub tsc_khz: u32,
}

/// Width of guest-physical addresses with 4-level nested paging.
const MAX_GPA_BITS: u32 = 48;
/// Extended-state component numbers.
const SSE: usize = 1;
const AVX: usize = 2;
const AVX512: [usize; 3] = [5, 6, 7];
const PKRU: usize = 9;
/// Legacy area and header of an XSAVE area.
pub(crate) const XSAVE_MIN: u32 = 512 + 64;

/// Features by the extended state they need: (feature, XCR0 bits).
const STATE_OF: [(u32, u64); 4] = [
    (X86_FEATURE_XSAVE, 3),
    (X86_FEATURE_AVX, 1 << AVX),
    (X86_FEATURE_AVX512F, 1 << AVX512[0] | 1 << AVX512[1] | 1 << AVX512[2]),
    (X86_FEATURE_PKU, 1 << PKRU),
];

impl Policy {
    /// What the machine says, unfiltered.
    pub fn raw_of(machine: &Machine<'_>) -> Policy {
        let mut p = Policy::empty();
        let read = machine.cpuid;
        p.basic[0] = read(0, 0);
        for leaf in 1..=p.max_basic() {
            if !matches!(leaf, 4 | 7 | 0xb | 0xd) {
                p.basic[leaf] = read(leaf as u32, 0);
            }
        }
        let max = p.max_basic();
        if max >= 4 {
            fill_while(&mut p.cache, NR_CACHE, |i| read(4, i), |l| l[EAX] & 0x1f != 0);
        }
        if max >= 7 {
            p.feat[0] = read(7, 0);
            let last = p.max_feat();
            fill_while(&mut p.feat, NR_FEAT.min(last + 1), |i| read(7, i), |_| true);
        }
        if max >= 0xb {
            fill_while(&mut p.topo, NR_TOPO, |i| read(0xb, i), |l| l[ECX] & 0xff00 != 0);
        }
        if max >= 0xd {
            p.xstate[0] = read(0xd, 0);
            p.xstate[1] = read(0xd, 1);
            let states = p.xstates();
            for i in 2..NR_XSTATE {
                if states & 1 << i != 0 {
                    p.xstate[i] = read(0xd, i as u32);
                }
            }
        }
        p.extd[0] = read(0x8000_0000, 0);
        if p.extd[0][EAX] >> 16 != 0x8000 {
            p.extd[0] = [0; 4]; // a processor without extended leaves answers with its last basic one
        }
        for leaf in 1..=p.max_extd() {
            p.extd[leaf] = read(0x8000_0000 | leaf as u32, 0);
        }
        if p.has(X86_FEATURE_ARCH_CAPS) {
            p.arch_caps = machine.arch_caps;
        }
        p.host_tsc = HostTsc {
            khz: machine.tsc_khz,
            safe: p.has(X86_FEATURE_ITSC),
            rdtscp: p.has(X86_FEATURE_RDTSCP),
        };
        p.tsc.khz = machine.tsc_khz;
        p
    }

    /// What the hypervisor knows of the machine: named features whose state it can switch.
    pub fn host_of(machine: &Machine<'_>) -> Policy {
        let raw = Policy::raw_of(machine);
        let mut p = raw.clone();
        p.basic[0][EAX] = p.max_basic() as u32;
        p.feat[0][EAX] = p.max_feat() as u32;
        p.extd[0][EAX] = 0x8000_0000 | p.max_extd() as u32;
        let mut set = p.features().and(&KNOWN);
        let hardware = machine.xcr0 & (u64::from(raw.xstate[0][EDX]) << 32 | u64::from(raw.xstate[0][EAX]));
        for (feature, states) in STATE_OF {
            if hardware & states != states {
                set.set(feature, false);
            }
        }
        p.set_features(&set.sanitise());
        p.set_xstate(&raw);
        p.tidy();
        p.basic[0xa] = [0; 4];
        p.clear_out_of_range();
        p
    }

    /// A host policy without some features and what depends on them.
    pub(crate) fn reduced(mut self, removed: &FeatureSet) -> Policy {
        let before = self.clone();
        let set = self.features().without(removed).sanitise();
        if set != before.features() {
            self.set_features(&set);
            self.set_xstate(&before);
            self.tidy();
            self.clear_out_of_range();
        }
        self
    }

    /// A domain's policy with features more (as far as `max` has them) and less.
    pub(crate) fn adjusted(mut self, added: &FeatureSet, removed: &FeatureSet, max: &Policy) -> Policy {
        let before = self.features();
        let mut set = before;
        set.0.iter_mut().zip(added.0).for_each(|(a, b)| *a |= b);
        let set = set.without(removed);
        if set != before {
            self.set_features(&set);
            self.recalculate(max);
        }
        self
    }

    /// The most a guest can be given on this host.
    pub fn guest_max_of(host: &Policy) -> Policy {
        let mut p = host.clone();
        p.feat[0][EAX] = NR_FEAT as u32 - 1;
        let mut set = host.features().and(&VIRTUALISABLE);
        for extra in [EMULATED, ALWAYS_POSSIBLE] {
            set.0.iter_mut().zip(extra.0).for_each(|(a, b)| *a |= b);
        }
        p.set_features(&set.sanitise());
        p.platform_info = 0;
        let bound = p.clone();
        p.recalculate(&bound);
        p
    }

    /// What a guest gets if the toolstack asks for nothing in particular.
    pub fn guest_default_of(host: &Policy) -> Policy {
        let max = Policy::guest_max_of(host);
        let mut p = max.clone();
        p.feat[0][EAX] = host.feat[0][EAX];
        let mut set = p.features().without(&OPT_IN);
        for topology in [X86_FEATURE_HTT, X86_FEATURE_CMP_LEGACY] {
            set.set(topology, host.has(topology));
        }
        p.set_features(&set.sanitise());
        p.clear_out_of_range();
        p.recalculate(&max);
        p
    }

    /// What dom0 gets: it does not migrate, so it may rely on the host's time stamp counter.
    pub fn hardware_domain_of(host: &Policy) -> Policy {
        let mut p = Policy::guest_default_of(host);
        let mut set = p.features();
        set.set(X86_FEATURE_ITSC, host.has(X86_FEATURE_ITSC));
        p.set_features(&set);
        p.spread_topology();
        p.recalculate(&Policy::guest_max_of(host));
        p
    }

    /// Clamps everything to `max` and derives what follows from the features. The result never exceeds `max`.
    pub(crate) fn recalculate(&mut self, max: &Policy) {
        self.basic[0][EAX] = self.basic[0][EAX].min(max.basic[0][EAX]);
        self.feat[0][EAX] = self.feat[0][EAX].min(max.feat[0][EAX]);
        let extd = if self.vendor() == Vendor::Amd { NR_EXTD } else { NR_EXTD_INTEL } - 1;
        self.extd[0][EAX] = 0x8000_0000 | (self.extd[0][EAX] & 0xffff).min(extd as u32);
        let mut set = self.features().and(&max.features());
        if self.basic[0][EAX] < 0xd {
            set.set(X86_FEATURE_XSAVE, false);
        }
        let mut set = set.sanitise();
        // Facts about the hardware that cannot be hidden.
        for fact in [X86_FEATURE_FDP_EXCP_ONLY, X86_FEATURE_NO_FPU_SEL] {
            set.set(fact, max.has(fact));
        }
        self.set_features(&set);
        self.platform_info &= max.platform_info;

        // Size of a cache line.
        self.basic[1][EBX] = self.basic[1][EBX] & !0xff00 | max.basic[1][EBX] & 0xff00;
        let floor = if set.has(X86_FEATURE_PAE) || set.has(X86_FEATURE_PSE36) { 36 } else { 32 };
        let physical = (self.extd[8][EAX] & 0xff).min(max.extd[8][EAX] & 0xff).min(MAX_GPA_BITS).max(floor);
        let linear = if set.has(X86_FEATURE_LM) { 48 } else { 32 };
        self.extd[8][EAX] = self.extd[8][EAX] & !0xffff | linear << 8 | physical;

        self.set_xstate(max);
        self.tidy();
        self.tidy_caches();
        self.basic[0xa] = [0; 4]; // no performance counters
        self.extd[0xa] = [0; 4]; // no nested virtualisation
        if !set.has(X86_FEATURE_PAGE1GB) {
            self.extd[0x19] = [0; 4];
        }
        self.clear_out_of_range();
    }

    /// Leaf 0xd from the features; sizes and offsets of the components from `host`.
    fn set_xstate(&mut self, host: &Policy) {
        let instructions = self.xstate[1][EAX];
        self.xstate = [[0; 4]; NR_XSTATE];
        let set = self.features();
        if !set.has(X86_FEATURE_XSAVE) {
            return;
        }
        let mut states = 1 | 1 << SSE;
        for (feature, bits) in STATE_OF {
            if set.has(feature) {
                states |= bits;
            }
        }
        let mut size = XSAVE_MIN;
        for i in 2..NR_XSTATE {
            if states & 1 << i != 0 {
                let [len, offset, flags, _] = host.xstate[i];
                self.xstate[i] = [len, offset, flags & 2, 0]; // alignment; user state, as no XSS bit is offered
                size = size.max(offset.saturating_add(len));
            }
        }
        self.xstate[0] = [states as u32, 0, size, (states >> 32) as u32];
        self.xstate[1] = [instructions, 0, 0, 0];
    }

    /// Zeroes what guests never see and fills in what AMD repeats.
    fn tidy(&mut self) {
        self.basic[1][EAX] &= 0x0fff_0fff;
        self.basic[1][EBX] &= 0x00ff_ffff;
        for leaf in [5, 6, 8, 0xc] {
            self.basic[leaf] = [0; 4];
        }
        self.topo = [[0; 4]; NR_TOPO];
        self.extd[1][EDX] &= !COMMON_1D;
        self.extd[7] = [0, 0, 0, self.extd[7][EDX]];
        self.extd[8][EDX] = 0;
        match self.vendor() {
            Vendor::Intel => {
                self.basic[2][EAX] = self.basic[2][EAX] & !0xff | 1;
                self.basic[3] = [0; 4];
                self.basic[9] = [0; 4];
                self.extd[0] = [self.extd[0][EAX], 0, 0, 0];
                self.extd[1][EAX] = 0;
                self.extd[1][EBX] = 0;
                self.extd[5] = [0; 4];
                self.extd[6] = [0, 0, self.extd[6][ECX], 0];
                self.extd[8][EAX] &= 0xffff;
                self.extd[8][ECX] = 0;
            }
            Vendor::Amd => {
                for leaf in [2, 3, 9, 0xa] {
                    self.basic[leaf] = [0; 4];
                }
                self.cache = [[0; 4]; NR_CACHE];
                let [_, b, c, d] = self.basic[0];
                self.extd[0] = [self.extd[0][EAX], b, c, d];
                self.extd[1][EAX] = self.basic[1][EAX];
                self.extd[1][EBX] &= 0xff00_ffff;
                self.extd[1][EDX] |= self.basic[1][EDX] & COMMON_1D;
                self.extd[8][EAX] &= 0xffff;
                self.extd[8][ECX] &= 0x0003_f0ff;
                // Reserved; 0x1b IBS, 0x1c LWP, 0x1d/0x1e topology, 0x1f SEV, 0x20 QoS.
                for leaf in (9..=0x18).filter(|&l| l != 0xa).chain(0x1b..=0x20) {
                    self.extd[leaf] = [0; 4];
                }
                self.extd[0x21][EBX] = 0;
                self.extd[0x21][EDX] = 0;
            }
            Vendor::Other => {}
        }
        if self.max_basic() < NR_BASIC - 1 {
            self.xstate = [[0; 4]; NR_XSTATE];
        }
    }

    /// Keeps the valid sub-leaves of leaf 4 without their reserved bits.
    fn tidy_caches(&mut self) {
        let valid = self.cache.iter().take_while(|l| matches!(l[EAX] & 0x1f, 1..=3)).count();
        for (i, l) in self.cache.iter_mut().enumerate() {
            *l = if i < valid { [l[EAX] & 0xffff_c3ff, l[EBX], l[ECX], l[EDX] & 7] } else { [0; 4] };
        }
    }
}

/// Reads sub-leaves until `more` is false of one.
fn fill_while(to: &mut [Leaf], len: usize, read: impl Fn(u32) -> Leaf, more: impl Fn(&Leaf) -> bool) {
    for (i, slot) in to.iter_mut().enumerate().take(len) {
        let leaf = read(i as u32);
        if !more(&leaf) {
            return;
        }
        *slot = leaf;
    }
}

/// All features of a policy are features of the other, and so are its extended states.
#[cfg(test)]
pub(crate) fn within(p: &Policy, max: &Policy) -> bool {
    let set = p.features();
    set.is_subset(&max.features()) && p.xcr0_mask() & !max.xcr0_mask() == 0
}
