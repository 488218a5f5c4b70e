//! `XEN_DOMCTL_{get,set}tscinfo`. The guest's counter is the machine's plus an offset; no mode emulates it.

use alloc::sync::Arc;

use radon_hw::time;
use xen_abi::Errno;
use xen_abi::domctl::{Domctl, DomctlTscInfo};

use super::{Outcome, Result};
use crate::domain::Domain;

/// `TSC_MODE_*` (xen/arch-x86/time.h): default, always emulate, never emulate.
const DEFAULT: u32 = 0;
const ALWAYS_EMULATE: u32 = 1;
const NEVER_EMULATE: u32 = 2;

/// Remembers the mode; a saved domain's clock goes on where it was.
pub fn set(domain: &Arc<Domain>, op: &Domctl) -> Result {
    let t: DomctlTscInfo = op.payload();
    if !matches!(t.tsc_mode, DEFAULT | ALWAYS_EMULATE | NEVER_EMULATE) {
        return Err(Errno::EINVAL);
    }
    domain.toolstack.lock().tsc_zero_ns = time::now().raw().wrapping_sub(t.elapsed_nsec);
    let mut policy = domain.policy.write();
    policy.tsc.mode = t.tsc_mode;
    policy.tsc.khz = if t.gtsc_khz == 0 { machine_khz() } else { t.gtsc_khz };
    policy.tsc.incarnation = t.incarnation.saturating_add(1);
    Ok(Outcome::Done)
}

/// What [`set`] remembered.
pub fn get(domain: &Arc<Domain>, op: &mut Domctl) -> Result {
    let tsc = domain.policy.read().tsc;
    let mut t: DomctlTscInfo = op.payload();
    t.tsc_mode = tsc.mode;
    t.incarnation = tsc.incarnation;
    (t.gtsc_khz, t.elapsed_nsec) = match tsc.mode {
        NEVER_EMULATE => (0, 0),
        _ => {
            let zero = domain.toolstack.lock().tsc_zero_ns;
            let elapsed = time::now().raw().wrapping_sub(zero);
            (machine_khz(), if (elapsed as i64) < 0 { 0 } else { elapsed })
        }
    };
    op.set_payload(&t);
    Ok(Outcome::Back)
}

fn machine_khz() -> u32 {
    u32::try_from(time::tsc_khz()).unwrap_or(u32::MAX)
}
