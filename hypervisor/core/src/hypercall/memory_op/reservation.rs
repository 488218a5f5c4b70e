//! Growing and shrinking a domain: `XENMEM_populate_physmap`, `increase_reservation`, `decrease_reservation`,
//! `claim_pages`, and the counters.

use alloc::sync::Arc;

use radon_addr::Gfn;
use radon_frames::{ClaimError, frames};
use xen_abi::Errno;
use xen_abi::compat::CompatPodTarget;
use xen_abi::memory::{
    MemoryDomain, MemoryReservation, PodTarget, XENMEM_CURRENT_RESERVATION, XENMEM_DECREASE_RESERVATION,
    XENMEM_MAXIMUM_RESERVATION, XENMEM_POPULATE_PHYSMAP, XENMEM_SET_POD_TARGET, XENMEMF_POPULATE_ON_DEMAND,
    mem_flags_address_bits,
};

use super::super::{Answer, Caller, OK, Reply, Width};
use super::extents::Extents;
use super::resume;
use crate::domain::Domain;
use crate::{low_memory, physmap, pod};

/// Largest extent a guest may ask of itself (2 MiB) and the toolstack for another (1 GiB).
const OWN_MAX_ORDER: u32 = 9;
const PRIVILEGED_MAX_ORDER: u32 = 18;

/// Largest extent that the caller may name.
pub fn max_order(caller: &Caller<'_>) -> u32 {
    if caller.domain.privileged() { PRIVILEGED_MAX_ORDER } else { OWN_MAX_ORDER }
}

/// The reservation structure by the caller's width.
fn read_reservation(caller: &Caller<'_>, arg: u64) -> Result<MemoryReservation, Errno> {
    match caller.width {
        Width::Long => caller.read(arg),
        Width::Compat => caller.read::<xen_abi::compat::CompatMemoryReservation>(arg).map(Into::into),
    }
}

/// Populate, increase or decrease from extent `start` on. The value is the number of extents done.
pub fn call(caller: &mut Caller<'_>, op: u32, start: u64, arg: u64) -> Reply {
    // As Xen: a structure that cannot be read, or a target that is not there, means that nothing was done.
    let Ok(r) = read_reservation(caller, arg) else { return Ok(Answer::Done(start as i64)) };
    if r.nr_extents > (u64::MAX >> 7) || start >= r.nr_extents && start != 0 {
        return Ok(Answer::Done(start as i64));
    }
    let Ok(domain) = caller.target(r.domid) else { return Ok(Answer::Done(start as i64)) };
    if r.extent_order > max_order(caller) {
        return Ok(Answer::Done(start as i64));
    }
    let mut list = Extents::new(r.extent_start.raw(), r.nr_extents);
    let mut i = start;
    while i < r.nr_extents {
        if i > start && i.is_multiple_of(8) && caller.should_yield() {
            low_memory::check();
            return resume(op, i, arg);
        }
        let done = list.get(caller, i).and_then(|gfn| extent_step(caller, &domain, op, &r, gfn));
        if done.is_err() {
            break;
        }
        i += 1;
    }
    low_memory::check();
    Ok(Answer::Done(i as i64))
}

/// One extent.
fn extent_step(
    caller: &Caller<'_>,
    domain: &Arc<Domain>,
    op: u32,
    r: &MemoryReservation,
    gfn: Gfn,
) -> Result<(), Errno> {
    let order = r.extent_order as u8;
    let aligned = |g: Gfn| g.raw() & ((1u64 << order) - 1) == 0;
    match op {
        XENMEM_POPULATE_PHYSMAP => {
            let bits = match mem_flags_address_bits(r.mem_flags) {
                0 => 64,
                n => n.min(64) as u8,
            };
            if r.mem_flags & XENMEMF_POPULATE_ON_DEMAND != 0 {
                // Only the toolstack, for a domain it builds.
                caller.require_privilege()?;
                return pod::mark(domain, gfn, order);
            }
            pod::unmark(domain, gfn, order);
            populate(domain, gfn, order, bits, aligned(gfn))
        }
        XENMEM_DECREASE_RESERVATION => {
            let mut unmarked = pod::unmark(domain, gfn, order);
            if unmarked == 1 << order {
                return Ok(());
            }
            for n in 0..1u64 << order {
                if !give_back(domain, gfn.checked_add(n).ok_or(Errno::EINVAL)?)? {
                    // A page that was only promised has nothing to give; any other hole is the end, as on Xen.
                    unmarked = unmarked.checked_sub(1).ok_or(Errno::ENOENT)?;
                }
            }
            Ok(())
        }
        // A translated guest has no use for frames without a place; nothing is ever handed out.
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// The guest gives up one page of its RAM; false if it has none there.
fn give_back(domain: &Domain, gfn: Gfn) -> Result<bool, Errno> {
    let Some(entry) = physmap::take_if(domain, gfn, |e| e.kind.is_own_ram())? else { return Ok(false) };
    if !pod::keep(domain, &entry) {
        physmap::release(domain, entry);
    }
    Ok(true)
}

/// Populates an extent whose order the p2m may not have as such.
fn populate(domain: &Domain, gfn: Gfn, order: u8, bits: u8, aligned: bool) -> Result<(), Errno> {
    if matches!(order, 0 | 9 | 18) && aligned {
        return physmap::populate(domain, gfn, order, bits);
    }
    for n in 0..1u64 << order {
        let at = gfn.checked_add(n).ok_or(Errno::EINVAL)?;
        physmap::populate(domain, at, 0, bits)?;
    }
    Ok(())
}

/// `XENMEM_claim_pages`.
pub fn claim(caller: &mut Caller<'_>, arg: u64) -> Reply {
    caller.require_privilege()?;
    let r = read_reservation(caller, arg)?;
    if r.extent_start.raw() != 0 || r.extent_order != 0 || r.mem_flags != 0 {
        return Err(Errno::EINVAL);
    }
    let domain = caller.target(r.domid)?;
    frames().claim(domain.id, r.nr_extents).map_err(|e| match e {
        ClaimError::Invalid => Errno::EINVAL,
        _ => Errno::ENOMEM,
    })?;
    OK
}

/// Counters of a domain.
pub fn query(caller: &mut Caller<'_>, op: u32, arg: u64) -> Reply {
    let d: MemoryDomain = caller.read(arg)?;
    let domain = caller.target(d.domid)?;
    let counts = frames().domain(domain.id);
    let value = match op {
        XENMEM_CURRENT_RESERVATION => u64::from(counts.tot_pages),
        XENMEM_MAXIMUM_RESERVATION => u64::from(counts.max_pages),
        _ => domain.p2m.read().max_gfn().raw(),
    };
    Ok(Answer::Done(value as i64))
}

/// `XENMEM_{set,get}_pod_target`.
pub fn pod_target(caller: &mut Caller<'_>, op: u32, arg: u64) -> Reply {
    caller.require_privilege()?;
    let mut t: PodTarget = match caller.width {
        Width::Long => caller.read(arg)?,
        Width::Compat => caller.read::<CompatPodTarget>(arg)?.into(),
    };
    let domain = caller.target(t.domid)?;
    if op == XENMEM_SET_POD_TARGET {
        if t.target_pages > u64::from(frames().domain(domain.id).max_pages) {
            return Err(Errno::EINVAL);
        }
        if !pod::set_target(&domain, t.target_pages, || caller.should_yield())? {
            return resume(op, 0, arg);
        }
    }
    t.tot_pages = u64::from(frames().domain(domain.id).tot_pages);
    (t.pod_cache_pages, t.pod_entries) = pod::counts(&domain);
    match caller.width {
        Width::Long => caller.write(arg, &t)?,
        Width::Compat => caller.write(arg, &CompatPodTarget::from(t))?,
    }
    OK
}
