//! How much memory a domain may have, and the pool its page tables are said to come from.

use alloc::sync::Arc;

use radon_addr::PAGE_SHIFT;
use radon_frames::frames;
use xen_abi::Errno;
use xen_abi::domctl::{
    Domctl, DomctlMaxMem, DomctlPagingMempool, DomctlShadowOp, XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION,
    XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION,
};

use super::{Outcome, Result};
use crate::domain::{Domain, Dying};
use crate::hypercall::Caller;

/// KiB in a page, as a shift.
const PAGE_KIB_SHIFT: u32 = 2;
/// Bytes in a MiB, as a shift.
const MIB_SHIFT: u32 = 20;
/// Bytes in a page less one.
const PAGE_MASK: u64 = 0xfff;

/// `XEN_DOMCTL_max_mem`. May be below what the domain has: then it only cannot grow.
pub fn max_mem(domain: &Arc<Domain>, op: &Domctl) -> Result {
    let wanted: DomctlMaxMem = op.payload();
    frames().set_max_pages(domain.id, wanted.max_memkb >> PAGE_KIB_SHIFT);
    Ok(Outcome::Done)
}

/// Page tables that a domain may have whatever the toolstack says (Xen's `hap_enable`).
pub const MIN_TABLES: u32 = 256;

/// Notes the pool. Page tables come from the heap, but no more of them than the pool has pages: or a guest could take all
/// memory by mapping one page at ever new places.
fn note_pool(domain: &Arc<Domain>, bytes: u64) {
    domain.toolstack.lock().pool_bytes = bytes;
    if !domain.privileged() {
        let tables = u32::try_from(bytes >> PAGE_SHIFT).unwrap_or(u32::MAX);
        domain.p2m.write().set_table_limit(tables.max(MIN_TABLES));
    }
}

/// `XEN_DOMCTL_set_paging_mempool_size`.
pub fn set_pool(domain: &Arc<Domain>, op: &Domctl) -> Result {
    let pool: DomctlPagingMempool = op.payload();
    if pool.size & PAGE_MASK != 0 {
        return Err(Errno::EINVAL);
    }
    note_pool(domain, pool.size);
    Ok(Outcome::Done)
}

/// `XEN_DOMCTL_get_paging_mempool_size`.
pub fn get_pool(domain: &Arc<Domain>, op: &mut Domctl) -> Result {
    let size = domain.toolstack.lock().pool_bytes;
    op.set_payload(&DomctlPagingMempool { size });
    Ok(Outcome::Back)
}

/// `XEN_DOMCTL_shadow_op`: the pool in MiB, and the log of changed pages.
pub fn shadow_op(caller: &Caller<'_>, domain: &Arc<Domain>, op: &mut Domctl) -> Result {
    // Xen's order: not of oneself; nothing to do for a dying domain; none without vCPUs.
    super::not_myself(caller, domain)?;
    if domain.dying() != Dying::No {
        return Ok(Outcome::Done);
    }
    if domain.vcpus().is_empty() {
        return Err(Errno::EINVAL);
    }
    let mut s: DomctlShadowOp = op.payload();
    match s.op {
        XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION => {
            note_pool(domain, u64::from(s.mb) << MIB_SHIFT);
            Ok(Outcome::Back)
        }
        XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION => {
            s.mb = u32::try_from(domain.toolstack.lock().pool_bytes >> MIB_SHIFT).unwrap_or(u32::MAX);
            op.set_payload(&s);
            Ok(Outcome::Back)
        }
        _ => super::log_dirty::call(caller, domain, op),
    }
}
