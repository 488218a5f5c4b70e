//! `XEN_DOMCTL_{get,set}_cpu_policy`: what a domain believes of its processor, as lists of CPUID leaves and MSRs.

use alloc::sync::Arc;
use alloc::vec::Vec;

use radon_policy::{MAX_LEAVES, MAX_MSRS, Policy};
use xen_abi::domctl::{Domctl, DomctlCpuPolicy};
use xen_abi::featureset::{CpuidLeaf, MsrEntry};
use xen_abi::{Errno, Handle};
use zerocopy::{FromBytes, IntoBytes};

use super::{Outcome, Result, not_myself};
use crate::domain::Domain;
use crate::hypercall::Caller;

/// Reads `count` records.
fn list<T: FromBytes + IntoBytes + Clone>(
    caller: &Caller<'_>,
    from: Handle<T>,
    count: u32,
) -> Result<Vec<T>> {
    (0..u64::from(count)).map(|i| caller.read(caller.element::<T>(from.raw(), i)?)).collect()
}

/// Copies a policy to the caller's arrays; a null array asks for the largest number there can be. Returns the numbers of
/// leaves and MSRs. `ENOBUFS`: an array is too short.
pub fn copy_out(
    caller: &Caller<'_>,
    policy: &Policy,
    leaves: (Handle<CpuidLeaf>, u32),
    msrs: (Handle<MsrEntry>, u32),
) -> Result<(u32, u32)> {
    let nr_leaves = if leaves.0.is_null() {
        MAX_LEAVES as u32
    } else {
        let all = policy.leaves();
        let count = u32::try_from(all.len()).map_err(|_| Errno::ENOBUFS)?;
        if count > leaves.1 {
            return Err(Errno::ENOBUFS);
        }
        caller.copy_out(leaves.0.raw(), all.as_bytes())?;
        count
    };
    let nr_msrs = if msrs.0.is_null() {
        MAX_MSRS as u32
    } else {
        let all = policy.msrs();
        if all.len() as u32 > msrs.1 {
            return Err(Errno::ENOBUFS);
        }
        caller.copy_out(msrs.0.raw(), all.as_bytes())?;
        all.len() as u32
    };
    Ok((nr_leaves, nr_msrs))
}

/// The domain's policy.
pub fn get(caller: &Caller<'_>, domain: &Arc<Domain>, op: &mut Domctl) -> Result {
    let mut p: DomctlCpuPolicy = op.payload();
    let policy = domain.policy.read().clone();
    (p.nr_leaves, p.nr_msrs) = copy_out(caller, &policy, (p.leaves, p.nr_leaves), (p.msrs, p.nr_msrs))?;
    op.set_payload(&p);
    Ok(Outcome::Back)
}

/// Overlays the domain's policy; `EEXIST` once it has been started.
pub fn set(caller: &Caller<'_>, domain: &Arc<Domain>, op: &mut Domctl) -> Result {
    not_myself(caller, domain)?;
    if domain.toolstack.lock().started {
        return Err(Errno::EEXIST);
    }
    let mut p: DomctlCpuPolicy = op.payload();
    if p.nr_leaves as usize > MAX_LEAVES || p.nr_msrs as usize > MAX_MSRS {
        return Err(Errno::E2BIG);
    }
    let leaves = list(caller, p.leaves, p.nr_leaves)?;
    let msrs = list(caller, p.msrs, p.nr_msrs)?;
    let merged = domain.policy.read().update(&leaves, &msrs);
    match merged {
        Ok(policy) => {
            **domain.policy.write() = policy;
            Ok(Outcome::Done)
        }
        Err(refusal) => {
            (p.err_leaf, p.err_subleaf, p.err_msr) = (refusal.leaf, refusal.subleaf, refusal.msr);
            op.set_payload(&p);
            Ok(Outcome::Refused(refusal.errno))
        }
    }
}
