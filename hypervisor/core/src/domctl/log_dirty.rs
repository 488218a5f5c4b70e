//! `XEN_DOMCTL_shadow_op`'s log-dirty half: switching the mode, reading and cleaning the log.

use alloc::sync::Arc;

use radon_p2m::Kind;
use xen_abi::Errno;
use xen_abi::domctl::{
    Domctl, DomctlShadowOp, DomctlShadowOpStats, XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY,
    XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL, XEN_DOMCTL_SHADOW_OP_CLEAN, XEN_DOMCTL_SHADOW_OP_ENABLE,
    XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, XEN_DOMCTL_SHADOW_OP_OFF, XEN_DOMCTL_SHADOW_OP_PEEK,
};

use super::{Outcome, Result};
use crate::domain::Domain;
use crate::hypercall::Caller;
use crate::log_dirty;

/// Bytes of the log handled at a time: 8192 pages.
const PIECE: usize = 1024;

/// The sub-operations that are about the log.
pub fn call(caller: &Caller<'_>, domain: &Arc<Domain>, op: &mut Domctl) -> Result {
    let mut s: DomctlShadowOp = op.payload();
    let log = &domain.log_dirty;
    let start = log.begin(s.op).ok_or(Errno::EBUSY)?;
    match s.op {
        XEN_DOMCTL_SHADOW_OP_ENABLE if s.mode & XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY == 0 => {
            // Shadow page tables of other kinds, which there are none of.
            Err(Errno::EINVAL)
        }
        XEN_DOMCTL_SHADOW_OP_ENABLE | XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY => {
            if start == 0 && log.is_on() {
                return Err(Errno::EINVAL);
            }
            log.set(true);
            log.forget_faults();
            change(caller, domain, s.op, start, Kind::RamLogdirty)
        }
        XEN_DOMCTL_SHADOW_OP_OFF => {
            let outcome = change(caller, domain, s.op, start, Kind::Ram)?;
            if outcome == Outcome::Done {
                log.set(false);
            }
            Ok(outcome)
        }
        XEN_DOMCTL_SHADOW_OP_CLEAN | XEN_DOMCTL_SHADOW_OP_PEEK => {
            if s.mode & !XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL != 0 {
                return Err(Errno::EINVAL);
            }
            let outcome = read(caller, domain, &mut s, start)?;
            op.set_payload(&s);
            Ok(outcome)
        }
        _ => Err(Errno::EOPNOTSUPP),
    }
}

fn change(caller: &Caller<'_>, domain: &Domain, op: u32, start: u64, to: Kind) -> Result {
    let mut at = start;
    while let Some(next) = log_dirty::change(domain, at, u64::MAX, to) {
        at = next;
        if caller.should_yield() {
            domain.log_dirty.interrupt(op, at);
            return Ok(Outcome::Again);
        }
    }
    domain.log_dirty.finish();
    Ok(Outcome::Done)
}

/// Copies the log to the caller, piece by piece; cleaned is what the caller has got.
fn read(caller: &Caller<'_>, domain: &Domain, s: &mut DomctlShadowOp, start: u64) -> Result {
    let log = &domain.log_dirty;
    let clean = s.op == XEN_DOMCTL_SHADOW_OP_CLEAN;
    let mut at = start;
    while at < s.pages {
        if at > start && caller.should_yield() {
            log.interrupt(s.op, at);
            return Ok(Outcome::Again);
        }
        let bytes = (s.pages - at).div_ceil(8).min(PIECE as u64) as usize;
        let mut piece = [0; PIECE];
        let bits = piece.get_mut(..bytes).ok_or(Errno::EINVAL)?;
        log.count(log_dirty::read(domain, at, bits));
        if !s.dirty_bitmap.is_null() {
            let to = s.dirty_bitmap.raw().checked_add(at / 8).ok_or(Errno::EFAULT);
            to.and_then(|to| caller.copy_out(to, bits)).inspect_err(|_| log.finish())?;
        }
        if clean && log.is_on() {
            log_dirty::clean(domain, at, bits);
        }
        at += 8 * bytes as u64;
    }
    s.stats = DomctlShadowOpStats { fault_count: log.faults(), dirty_count: log.count(0) };
    s.pages = s.pages.min(at);
    if clean {
        log.forget_faults();
    }
    log.finish();
    Ok(Outcome::Back)
}
