//! The end of a domain: gives back everything it holds, in bounded steps.
//!
//! ```text
//!  alive --destroy--> dying: settle vCPUs, close event channels, unmap others' grants, tear the p2m down
//!                       --all done--> dead (VIRQ_DOM_EXC) --no frame of it referenced any more--> off the list (VIRQ_DOM_EXC)
//! ```
//! A dead domain stays listed while another domain maps one of its frames or grants: xenstored and the console daemon do
//! so until they hear of its death. [`reap`] looks again; it is called wherever the tools look for domains.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use radon_addr::Port;
use radon_evtchn::Closer;
use radon_frames::frames;
use radon_grant::Handle;
use radon_p2m::Entry;
use xen_abi::Errno;
use xen_abi::xen::VIRQ_DOM_EXC;

use crate::domain::{Domain, Dying};
use crate::hypercall::event_channel_op;
use crate::timers::NEVER;
use crate::{domains, events, grants, physmap, run};

/// Page-table slots looked at in one step.
const STEP_SLOTS: u32 = 512;
/// Frames released between two looks at the clock: a 2 MiB leaf.
const STEP_ORDER: u8 = 9;

/// Dead domains still listed.
static ZOMBIES: AtomicU32 = AtomicU32::new(0);

/// How far the tear-down of a domain has come.
#[derive(Default)]
pub struct Teardown {
    /// Leaves taken out of the p2m whose frames are still held.
    unreleased: Vec<Entry>,
    /// The p2m is empty and its tables are gone.
    p2m_done: bool,
    /// Mappings of others' grants are undone up to this handle.
    unmapped: u32,
}

/// Ends a domain. `Ok(false)`: `due` asked to stop; call again. `EINVAL`: it is dead already.
pub fn destroy(domain: &Arc<Domain>, due: impl Fn() -> bool) -> Result<bool, Errno> {
    match domain.dying() {
        Dying::No => {
            domain.add_pause();
            domain.set_dying(Dying::No, Dying::Dying);
            domain.events.lock().set_dying();
            frames().set_max_pages(domain.id, 0);
            let _ = frames().claim(domain.id, 0);
            retire_vcpus(domain);
            crate::pod::drain(domain);
        }
        Dying::Dying => {}
        Dying::Dead => {
            reap();
            return Ok(true);
        }
    }
    if !close_channels(domain, Closer::Xen, &due)
        || !unmap_grants(domain, &due)
        || !release_memory(domain, &due)
    {
        return Ok(false);
    }
    forget_vcpu_state(domain);
    run::SCHEDULER.lock().remove_domain(domain.id);
    if domain.set_dying(Dying::Dying, Dying::Dead) {
        ZOMBIES.fetch_add(1, Ordering::SeqCst);
        radon_hw::info!("{} destroyed", domain.id);
        events::send_global_virq(VIRQ_DOM_EXC);
    }
    reap();
    Ok(true)
}

/// Stops the vCPUs for good: none is loaded anywhere, none has a timer, none finds its `vcpu_info` any more.
fn retire_vcpus(domain: &Arc<Domain>) {
    run::settle_domain(domain);
    for v in domain.vcpus() {
        v.set_up(false);
        for timer in [&v.singleshot, &v.periodic_next, &v.apic_deadline, &v.poll_deadline] {
            timer.store(NEVER, Ordering::Relaxed);
        }
        v.periodic_ns.store(0, Ordering::Relaxed);
        v.vcpu_info.store(0, Ordering::Release);
        v.runstate.lock().area = None;
        // A pCPU that chose the vCPU just before it was paused may still be taking it up: wait until it has left.
        drop(v.context.lock_nested());
        run::wait_descheduled(v);
        run::requeue_timer(v);
    }
}

/// Drops what vCPUs and channels hold of the domain's frames.
fn forget_vcpu_state(domain: &Arc<Domain>) {
    for v in domain.vcpus() {
        domain.events.lock().drop_vcpu_info(v.id);
        let held = v.vcpu_info_frame.lock().take();
        drop(held);
    }
    let fifo = domain.events.lock().take_fifo_frames();
    event_channel_op::release_frames(fifo);
}

/// Closes all ports. False: not finished.
fn close_channels(domain: &Arc<Domain>, by: Closer, due: &impl Fn() -> bool) -> bool {
    let mut from = Port::new(1);
    loop {
        let next = domain.events.lock().next_open(from);
        let Some(port) = next else { return true };
        let _ = event_channel_op::close(domain, port, by);
        from = Port::new(port.raw().saturating_add(1));
        if due() {
            return false;
        }
    }
}

/// Closes all ports of a domain that lives on, and takes it back to the 2-level event-channel ABI.
pub fn reset_channels(domain: &Arc<Domain>, due: impl Fn() -> bool) -> Result<bool, Errno> {
    event_channel_op::reset_domain(domain, due)
}

/// Undoes the mappings that the domain has of others' grants. False: not finished.
fn unmap_grants(domain: &Arc<Domain>, due: &impl Fn() -> bool) -> bool {
    loop {
        // Its vCPUs are gone: no mapping turns up behind this place.
        let from = domain.teardown.lock().unmapped;
        let next = domain.maptrack.lock().next_mapped(Handle(from));
        let Some((handle, mapping)) = next else { return true };
        domain.teardown.lock().unmapped = handle.0;
        let taken = domain.maptrack.lock().take(handle);
        if taken.is_err() {
            continue;
        }
        grants::undo(domain, &mapping);
        if due() {
            return false;
        }
    }
}

/// Tears the p2m down and releases every frame in it. False: not finished.
fn release_memory(domain: &Arc<Domain>, due: &impl Fn() -> bool) -> bool {
    let mut progress = domain.teardown.lock();
    loop {
        while let Some(entry) = progress.unreleased.pop() {
            if entry.order > STEP_ORDER {
                split(entry, &mut progress.unreleased);
                continue;
            }
            physmap::release(domain, entry);
            if due() {
                return false;
            }
        }
        if progress.p2m_done {
            return true;
        }
        let Teardown { unreleased, p2m_done, .. } = &mut *progress;
        *p2m_done = domain.p2m.write().teardown(STEP_SLOTS, |_, entry| unreleased.push(entry));
        if due() {
            return false;
        }
    }
}

/// A 1 GiB leaf as 2 MiB ones.
fn split(entry: Entry, into: &mut Vec<Entry>) {
    for i in 0..1u64 << entry.order.saturating_sub(STEP_ORDER) {
        if let Some(mfn) = entry.mfn.checked_add(i << STEP_ORDER) {
            into.push(Entry { mfn, order: STEP_ORDER, ..entry });
        }
    }
}

/// Takes dead domains of which nothing is left off the list.
pub fn reap() {
    if ZOMBIES.load(Ordering::SeqCst) == 0 {
        return;
    }
    for domain in domains::all() {
        if domain.dying() == Dying::Dead && finish(&domain) {
            domains::remove(domain.id);
            ZOMBIES.fetch_sub(1, Ordering::SeqCst);
            radon_hw::info!("{} is gone", domain.id);
            events::send_global_virq(VIRQ_DOM_EXC);
        }
    }
}

/// Gives back the pages shared with the hypervisor once no grant of the domain is in use. True, once only: nothing of it
/// is left.
fn finish(domain: &Arc<Domain>) -> bool {
    {
        let mut grants = domain.grants.lock();
        if grants.pinned_entries() != 0 {
            return false;
        }
        for frame in grants.take_frames() {
            let released = frames().release_allocated(frame, domain.id);
            debug_assert!(released.is_ok(), "{:?} was no grant frame of {}", frame, domain.id);
        }
    }
    if !domain.shared_info_released.swap(true, Ordering::SeqCst) {
        let released = frames().release_allocated(domain.shared_info, domain.id);
        debug_assert!(released.is_ok(), "shared info of {}", domain.id);
    }
    frames().domain_is_empty(domain.id) && !domain.reaped.swap(true, Ordering::SeqCst)
}
