//! Stopping a domain, letting it go on, and ending it.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use xen_abi::Errno;

use super::{Outcome, Result, not_myself};
use crate::domain::Domain;
use crate::hypercall::Caller;
use crate::{destroy, run};

/// `XEN_DOMCTL_pausedomain`: counted.
pub fn pause(caller: &Caller<'_>, domain: &Arc<Domain>) -> Result {
    not_myself(caller, domain)?;
    let counted =
        domain.controller_pauses.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_add(1));
    counted.map_err(|_| Errno::EOVERFLOW)?;
    run::pause_domain(domain);
    Ok(Outcome::Done)
}

/// `XEN_DOMCTL_unpausedomain`: takes one pause of the toolstack's back, the first one being that of creation.
pub fn unpause(domain: &Arc<Domain>) -> Result {
    let counted =
        domain.controller_pauses.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    counted.map_err(|_| Errno::EINVAL)?;
    domain.toolstack.lock().started = true;
    run::unpause_domain(domain);
    Ok(Outcome::Done)
}

/// `XEN_DOMCTL_resumedomain`: undoes a shutdown (a suspend that was cancelled or has been saved). A no-op otherwise.
pub fn resume(caller: &Caller<'_>, domain: &Arc<Domain>) -> Result {
    not_myself(caller, domain)?;
    if domain.clear_shutdown() {
        // `shutdown` paused the domain once.
        run::unpause_domain(domain);
    }
    Ok(Outcome::Done)
}

/// `XEN_DOMCTL_destroydomain`.
pub fn destroy(caller: &Caller<'_>, domain: &Arc<Domain>) -> Result {
    not_myself(caller, domain)?;
    Ok(if destroy::destroy(domain, || caller.should_yield())? { Outcome::Done } else { Outcome::Again })
}

/// `XEN_DOMCTL_soft_reset`: a domain that shut itself down for it forgets its event channels and its state of shutdown.
pub fn soft_reset(caller: &Caller<'_>, domain: &Arc<Domain>) -> Result {
    not_myself(caller, domain)?;
    if domain.shutdown_code().map(u32::from) != Some(xen_abi::sched::SHUTDOWN_SOFT_RESET) {
        return Err(Errno::EINVAL);
    }
    if !destroy::reset_channels(domain, || caller.should_yield())? {
        return Ok(Outcome::Again);
    }
    if domain.clear_shutdown() {
        run::unpause_domain(domain);
    }
    Ok(Outcome::Done)
}
