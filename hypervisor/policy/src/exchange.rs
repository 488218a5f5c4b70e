//! Policies as lists of leaves and MSRs, as the toolstack sends and receives them.

use alloc::vec::Vec;

use xen_abi::Errno;
use xen_abi::featureset::{CpuidLeaf, MsrEntry, XEN_CPUID_NO_SUBLEAF};

use crate::leaves::{EAX, ECX, Leaf, NR_BASIC, NR_CACHE, NR_EXTD, NR_FEAT, NR_TOPO, NR_XSTATE, Policy};

/// Most leaves a policy is made of (`CPUID_MAX_SERIALISED_LEAVES`), the answer to a query with a null array.
pub const MAX_LEAVES: usize =
    NR_BASIC + (NR_FEAT - 1) + (NR_CACHE - 1) + (NR_TOPO - 1) + (NR_XSTATE - 1) + NR_EXTD + 2;
/// Number of MSRs (`MSR_MAX_SERIALISED_ENTRIES`).
pub const MAX_MSRS: usize = 2;

const MSR_PLATFORM_INFO: u32 = 0xce;
const MSR_ARCH_CAPABILITIES: u32 = 0x10a;
const HV_LIMIT: u32 = 0x4000_0000;
const HV2_LIMIT: u32 = 0x4000_0100;

/// Why a policy was not accepted; what is not to blame is all ones (`xen_domctl_cpu_policy.err_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `E2BIG`, `ERANGE`, `EINVAL` or `EOVERFLOW`.
    pub errno: Errno,
    /// Leaf.
    pub leaf: u32,
    /// Sub-leaf.
    pub subleaf: u32,
    /// MSR.
    pub msr: u32,
}

impl Refusal {
    const fn plain(errno: Errno) -> Refusal {
        Refusal { errno, leaf: u32::MAX, subleaf: u32::MAX, msr: u32::MAX }
    }
    const fn leaf(errno: Errno, leaf: u32, subleaf: u32) -> Refusal {
        Refusal { errno, leaf, subleaf, msr: u32::MAX }
    }
    const fn msr(errno: Errno, msr: u32) -> Refusal {
        Refusal { errno, leaf: u32::MAX, subleaf: u32::MAX, msr }
    }
}

impl Policy {
    /// The leaves in the order in which libxenguest searches them (ascending). At most [`MAX_LEAVES`]; a caller whose
    /// array is shorter gets `ENOBUFS`.
    pub fn leaves(&self) -> Vec<CpuidLeaf> {
        let mut out = Vec::with_capacity(MAX_LEAVES);
        let mut put = |leaf: u32, subleaf: u32, [a, b, c, d]: Leaf| {
            out.push(CpuidLeaf { leaf, subleaf, a, b, c, d });
        };
        for (leaf, &value) in (0u32..).zip(&self.basic).take(self.max_basic() + 1) {
            match leaf {
                4 => each_until(&self.cache, |l| l[EAX] & 0x1f == 0, |i, l| put(4, i, l)),
                7 => (0u32..).zip(&self.feat).take(self.max_feat() + 1).for_each(|(i, &l)| put(7, i, l)),
                0xb => each_until(&self.topo, |l| l[ECX] & 0xff00 == 0, |i, l| put(0xb, i, l)),
                0xd => {
                    let states = 64 - self.xstates().leading_zeros() as usize;
                    (0u32..).zip(&self.xstate).take(states.max(2)).for_each(|(i, &l)| put(0xd, i, l));
                }
                _ => put(leaf, XEN_CPUID_NO_SUBLEAF, value),
            }
        }
        put(HV_LIMIT, XEN_CPUID_NO_SUBLEAF, [self.hv_limit.into(), 0, 0, 0]);
        put(HV2_LIMIT, XEN_CPUID_NO_SUBLEAF, [self.hv2_limit.into(), 0, 0, 0]);
        for (leaf, &value) in (0x8000_0000u32..).zip(&self.extd).take(self.max_extd() + 1) {
            put(leaf, XEN_CPUID_NO_SUBLEAF, value);
        }
        out
    }

    /// The MSRs, ascending.
    pub fn msrs(&self) -> [MsrEntry; MAX_MSRS] {
        [
            MsrEntry { idx: MSR_PLATFORM_INFO, flags: 0, val: self.platform_info() },
            MsrEntry { idx: MSR_ARCH_CAPABILITIES, flags: 0, val: self.arch_caps },
        ]
    }

    /// The domain's policy after `XEN_DOMCTL_set_cpu_policy`: this one, overlaid with the given leaves and MSRs, checked
    /// and clamped to what this machine can give a guest.
    pub fn update(&self, leaves: &[CpuidLeaf], msrs: &[MsrEntry]) -> Result<Policy, Refusal> {
        self.update_within(Policy::guest_max(), leaves, msrs)
    }

    /// [`Policy::update`] with another upper bound.
    pub fn update_within(
        &self,
        max: &Policy,
        leaves: &[CpuidLeaf],
        msrs: &[MsrEntry],
    ) -> Result<Policy, Refusal> {
        let mut new = self.clone();
        new.overlay(leaves, msrs)?;
        new.clear_out_of_range();
        new.check(max)?;
        new.recalculate(max);
        Ok(new)
    }

    /// Overwrites leaves and MSRs with those given, unchecked.
    pub fn overlay(&mut self, leaves: &[CpuidLeaf], msrs: &[MsrEntry]) -> Result<(), Refusal> {
        if leaves.len() > MAX_LEAVES || msrs.len() > MAX_MSRS {
            return Err(Refusal::plain(Errno::E2BIG));
        }
        for l in leaves {
            self.overlay_leaf(l).ok_or(Refusal::leaf(Errno::ERANGE, l.leaf, l.subleaf))?;
        }
        for m in msrs {
            let refuse = |errno| Err(Refusal::msr(errno, m.idx));
            match m.idx {
                _ if m.flags != 0 => return refuse(Errno::EINVAL),
                MSR_PLATFORM_INFO => match u32::try_from(m.val) {
                    Ok(value) => self.platform_info = value,
                    Err(_) => return refuse(Errno::EOVERFLOW),
                },
                MSR_ARCH_CAPABILITIES => self.arch_caps = m.val,
                _ => return refuse(Errno::ERANGE),
            }
        }
        Ok(())
    }

    fn overlay_leaf(&mut self, l: &CpuidLeaf) -> Option<()> {
        let at = l.subleaf as usize;
        let plain = l.subleaf == XEN_CPUID_NO_SUBLEAF;
        let slot = match l.leaf {
            4 => self.cache.get_mut(at)?,
            7 => self.feat.get_mut(at)?,
            0xb => self.topo.get_mut(at)?,
            0xd => self.xstate.get_mut(at)?,
            _ if !plain => return None,
            HV_LIMIT => {
                self.hv_limit = l.a as u8;
                return Some(());
            }
            HV2_LIMIT => {
                self.hv2_limit = l.a as u8;
                return Some(());
            }
            0x8000_0000.. => self.extd.get_mut((l.leaf & 0x7fff_ffff) as usize)?,
            leaf => self.basic.get_mut(leaf as usize)?,
        };
        *slot = [l.a, l.b, l.c, l.d];
        Some(())
    }

    /// What clamping would hide from the toolstack: leaves beyond the host's, MSR bits it lacks.
    fn check(&self, max: &Policy) -> Result<(), Refusal> {
        let fail = |leaf, subleaf| Err(Refusal::leaf(Errno::EINVAL, leaf, subleaf));
        if self.basic[0][EAX] > max.basic[0][EAX] {
            return fail(0, XEN_CPUID_NO_SUBLEAF);
        }
        if self.feat[0][EAX] > max.feat[0][EAX] {
            return fail(7, 0);
        }
        if self.extd[0][EAX] > max.extd[0][EAX] {
            return fail(0x8000_0000, XEN_CPUID_NO_SUBLEAF);
        }
        if self.platform_info & !max.platform_info != 0 {
            return Err(Refusal::msr(Errno::EINVAL, MSR_PLATFORM_INFO));
        }
        Ok(())
    }
}

/// Calls `put` for each sub-leaf up to and including the first that ends the list.
fn each_until(leaves: &[Leaf], last: impl Fn(&Leaf) -> bool, mut put: impl FnMut(u32, Leaf)) {
    for (i, l) in (0u32..).zip(leaves) {
        put(i, *l);
        if last(l) {
            return;
        }
    }
}
