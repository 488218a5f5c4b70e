//! What the machine's processor can do, and what guests can have of it.

use radon_policy::Policy;
use xen_abi::Errno;
use xen_abi::sysctl::{Sysctl, SysctlCpuFeatureset, SysctlCpuLevellingCaps, SysctlCpuPolicy};

use super::Result;
use crate::domctl::cpu_policy::copy_out;
use crate::hypercall::Caller;

/// `XEN_SYSCTL_get_cpu_featureset`: a null array asks for the number of words; `ENOBUFS` if it is shorter.
pub fn featureset(caller: &Caller<'_>, op: &mut Sysctl) -> Result {
    let mut asked: SysctlCpuFeatureset = op.payload();
    let words = Policy::featureset_of_index(asked.index)?.0;
    let total = words.len() as u32;
    let mut count = total;
    if !asked.features.is_null() {
        count = count.min(asked.nr_features);
        for (i, word) in words.iter().enumerate().take(count as usize) {
            caller.write(caller.element::<u32>(asked.features.raw(), i as u64)?, word)?;
        }
    }
    asked.nr_features = count;
    op.set_payload(&asked);
    if count < total { Err(Errno::ENOBUFS) } else { Ok(()) }
}

/// `XEN_SYSCTL_get_cpu_policy`.
pub fn policy(caller: &Caller<'_>, op: &mut Sysctl) -> Result {
    let mut asked: SysctlCpuPolicy = op.payload();
    if asked._rsvd != 0 {
        return Err(Errno::EINVAL);
    }
    let policy = Policy::of_index(asked.index)?;
    let counts = copy_out(caller, policy, (asked.leaves, asked.nr_leaves), (asked.msrs, asked.nr_msrs))?;
    (asked.nr_leaves, asked.nr_msrs) = counts;
    op.set_payload(&asked);
    Ok(())
}

/// `XEN_SYSCTL_get_cpu_levelling_caps`: none; CPUID of an HVM guest always exits.
pub fn levelling_caps(op: &mut Sysctl) -> Result {
    op.set_payload(&SysctlCpuLevellingCaps { caps: 0 });
    Ok(())
}
