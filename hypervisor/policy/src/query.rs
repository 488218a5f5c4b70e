//! The CPUID instruction of a vCPU: a static leaf and the bits that follow the vCPU's state.

use xen_abi::featureset::*;

use crate::build::XSAVE_MIN;
use crate::leaves::{EAX, EBX, ECX, EDX, Leaf, NR_XSTATE, Policy, Vendor};

/// The part of a vCPU's state that CPUID shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct VcpuState {
    /// vCPU number.
    pub vcpu: u32,
    /// Its (x2)APIC id.
    pub apic_id: u32,
    /// CR4 as the guest sees it.
    pub cr4: u64,
    /// XCR0 as the guest set it.
    pub xcr0: u64,
    /// `MSR_XSS`.
    pub xss: u64,
    /// In long mode.
    pub long_mode: bool,
    /// Domain id.
    pub domid: u16,
    /// The local APIC is enabled in `MSR_APIC_BASE`.
    pub apic_enabled: bool,
}

const CR4_OSXSAVE: u64 = 1 << 18;
const CR4_PKE: u64 = 1 << 22;

/// A feature's bit within its word.
const fn bit(feature: u32) -> u32 {
    1 << (feature % 32)
}

impl Policy {
    /// What CPUID returns to the vCPU: EAX, EBX, ECX, EDX. Leaves out of range are zero, as on AMD processors.
    pub fn cpuid(&self, leaf: u32, subleaf: u32, state: &VcpuState) -> Leaf {
        match leaf {
            0..=0x3fff_ffff => self.basic_leaf(leaf, subleaf, state),
            0x4000_0000..=0x4000_01ff => self.xen_leaf(leaf, subleaf, state),
            0x8000_0000..=0x8000_ffff => self.extended_leaf(leaf, state),
            _ => [0; 4],
        }
    }

    fn basic_leaf(&self, leaf: u32, subleaf: u32, state: &VcpuState) -> Leaf {
        if leaf as usize > self.max_basic() {
            return [0; 4];
        }
        let get = |table: &[Leaf], at: u32| table.get(at as usize).copied().unwrap_or([0; 4]);
        match leaf {
            1 => self.leaf_1(state),
            4 => get(&self.cache, subleaf),
            7 if subleaf as usize > self.max_feat() => [0; 4],
            7 => {
                let mut r = get(&self.feat, subleaf);
                if subleaf == 0 && state.cr4 & CR4_PKE != 0 {
                    r[ECX] |= bit(X86_FEATURE_OSPKE);
                }
                r
            }
            0xb => {
                let mut r = get(&self.topo, subleaf);
                if self.basic[1][ECX] & bit(X86_FEATURE_X2APIC) != 0 {
                    r[ECX] = r[ECX] & !0xff | subleaf & 0xff;
                    r[EDX] = state.apic_id;
                }
                r
            }
            0xd => self.leaf_d(subleaf, state),
            _ => get(&self.basic, leaf),
        }
    }

    fn leaf_1(&self, state: &VcpuState) -> Leaf {
        let mut r = self.basic[1];
        r[EBX] = r[EBX] & 0x00ff_ffff | state.apic_id << 24;
        if state.cr4 & CR4_OSXSAVE != 0 {
            r[ECX] |= bit(X86_FEATURE_OSXSAVE);
        }
        if !state.apic_enabled {
            r[EDX] &= !bit(X86_FEATURE_APIC);
        }
        r
    }

    /// Extended state: sizes follow what is enabled now.
    fn leaf_d(&self, subleaf: u32, state: &VcpuState) -> Leaf {
        let Some(&leaf) = self.xstate.get(subleaf as usize) else { return [0; 4] };
        if self.basic[1][ECX] & bit(X86_FEATURE_XSAVE) == 0 {
            return [0; 4];
        }
        let mut r = leaf;
        match subleaf {
            0 => r[EBX] = self.standard_size(state.xcr0),
            1 if r[EAX] & bit(X86_FEATURE_XSAVEC) != 0 => r[EBX] = self.compact_size(state.xcr0 | state.xss),
            _ => {}
        }
        r
    }

    /// Components from 2 on among `states`.
    fn components(&self, states: u64) -> impl Iterator<Item = &Leaf> {
        let wanted = move |i: usize| i < NR_XSTATE && states & 1 << i != 0;
        self.xstate.iter().enumerate().skip(2).filter(move |&(i, _)| wanted(i)).map(|(_, l)| l)
    }

    /// Bytes that XSAVE writes.
    fn standard_size(&self, states: u64) -> u32 {
        self.components(states).map(|l| l[EBX].saturating_add(l[EAX])).fold(XSAVE_MIN, u32::max)
    }

    /// Bytes that XSAVEC writes.
    fn compact_size(&self, states: u64) -> u32 {
        self.components(states).fold(XSAVE_MIN, |at, l| {
            let start = if l[ECX] & 2 != 0 { at.saturating_add(63) & !63 } else { at };
            start.saturating_add(l[EAX])
        })
    }

    fn extended_leaf(&self, leaf: u32, state: &VcpuState) -> Leaf {
        let index = (leaf & 0xffff) as usize;
        let Some(&leaf) = self.extd.get(index).filter(|_| index <= self.max_extd()) else { return [0; 4] };
        let mut r = leaf;
        if index == 1 {
            if self.vendor() == Vendor::Intel && !state.long_mode {
                r[EDX] &= !bit(X86_FEATURE_SYSCALL);
            }
            // On AMD this bit repeats leaf 1's.
            if !state.apic_enabled {
                r[EDX] &= !bit(X86_FEATURE_APIC);
            }
        }
        r
    }
}
