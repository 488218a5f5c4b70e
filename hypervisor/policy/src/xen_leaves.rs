//! Xen's own CPUID leaves, 0x40000000 to 0x40000005 (`arch-x86/cpuid.h`).

use xen_abi::cpuid::*;

use crate::leaves::{Leaf, Policy};
use crate::query::VcpuState;

/// Version served: 4.17.
const VERSION: u32 = 4 << 16 | 17;

/// The domain's time stamp counter (`XEN_DOMCTL_{get,set}tscinfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tsc {
    /// `XEN_DOMCTL_..`: 0 default, 1 always emulate, 2 never emulate, 3 as 2 with TSC_AUX.
    pub mode: u32,
    /// Frequency the domain sees.
    pub khz: u32,
    /// Times the domain was moved.
    pub incarnation: u32,
    /// Guest's counter less the host's.
    pub offset: u64,
    /// RDTSC is emulated.
    pub emulated: bool,
}

/// The machine's time stamp counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct HostTsc {
    pub khz: u32,
    /// Runs at one rate in all power states.
    pub safe: bool,
    pub rdtscp: bool,
}

impl Policy {
    /// A leaf among 0x40000000 to 0x400001ff. The signature is only at the first: guests that look for it at every
    /// 0x100th leaf find zeros in the others.
    pub(crate) fn xen_leaf(&self, leaf: u32, subleaf: u32, state: &VcpuState) -> Leaf {
        let limit = match u32::from(self.hv_limit) {
            0 => XEN_CPUID_MAX_NUM_LEAVES,
            chosen => chosen.clamp(2, XEN_CPUID_MAX_NUM_LEAVES),
        };
        let index = leaf.wrapping_sub(XEN_CPUID_FIRST_LEAF);
        if index > limit {
            return [0; 4];
        }
        match index {
            0 => [
                XEN_CPUID_FIRST_LEAF + limit,
                XEN_CPUID_SIGNATURE_EBX,
                XEN_CPUID_SIGNATURE_ECX,
                XEN_CPUID_SIGNATURE_EDX,
            ],
            1 => [VERSION, 0, 0, 0],
            2 => [1, XEN_HYPERCALL_MSR, 0, 0],
            3 => self.time_leaf(subleaf),
            // No hardware APIC virtualisation. IOMMU_MAPPINGS would promise that grants work for DMA without bounce
            // buffers, which is not so without an IOMMU.
            4 if subleaf == 0 => {
                let features =
                    XEN_HVM_CPUID_VCPU_ID_PRESENT | XEN_HVM_CPUID_DOMID_PRESENT | XEN_HVM_CPUID_UPCALL_VECTOR;
                [features, state.vcpu, u32::from(state.domid), 0]
            }
            _ => [0; 4],
        }
    }

    fn time_leaf(&self, subleaf: u32) -> Leaf {
        let (tsc, host) = (&self.tsc, &self.host_tsc);
        match subleaf {
            0 => {
                let flags = u32::from(tsc.emulated) | u32::from(host.safe) << 1 | u32::from(host.rdtscp) << 2;
                [flags, tsc.mode, tsc.khz, tsc.incarnation]
            }
            1 => {
                let offset = if tsc.emulated { 0 } else { tsc.offset };
                let (multiplier, shift) = scale(tsc.khz);
                [offset as u32, (offset >> 32) as u32, multiplier, shift as u32]
            }
            2 => [host.khz, 0, 0, 0],
            _ => [0; 4],
        }
    }
}

/// Factors with which ns = (ticks << shift) * multiplier >> 32.
fn scale(khz: u32) -> (u32, i32) {
    const SECOND: u64 = 1_000_000_000;
    let mut rate = u64::from(khz) * 1000;
    if rate == 0 {
        return (0, 0);
    }
    let mut shift = 0;
    while rate > 2 * SECOND {
        rate >>= 1;
        shift -= 1;
    }
    while rate <= SECOND {
        rate <<= 1;
        shift += 1;
    }
    (((SECOND << 32) / rate) as u32, shift)
}
