//! Devices: permissions and pass-through. There is no IOMMU, so only the hardware domain has devices and nothing can be
//! given to another.

use alloc::sync::Arc;

use xen_abi::Errno;
use xen_abi::domctl::{
    DPCI_ADD_MAPPING, Domctl, DomctlIomemPermission, DomctlIoportPermission, DomctlIrqPermission,
    DomctlMemoryMapping,
};

use super::{Outcome, Result};
use crate::domain::Domain;

/// I/O ports there are.
const PORTS: u32 = 1 << 16;

/// What a domain may reach follows from whether it is the hardware domain; only that can be "granted".
fn permission(domain: &Arc<Domain>, allow: bool) -> Result {
    if allow == domain.config.hardware || !allow { Ok(Outcome::Done) } else { Err(Errno::EPERM) }
}

/// `XEN_DOMCTL_irq_permission`. A PVH hardware domain has no physical interrupts by number, so there is none to name.
pub fn irq_permission(_domain: &Arc<Domain>, op: &Domctl) -> Result {
    let _: DomctlIrqPermission = op.payload();
    Err(Errno::EINVAL)
}

/// `XEN_DOMCTL_iomem_permission`.
pub fn iomem_permission(domain: &Arc<Domain>, op: &Domctl) -> Result {
    let p: DomctlIomemPermission = op.payload();
    wraps(p.first_mfn, p.nr_mfns)?;
    permission(domain, p.allow_access != 0)
}

/// `XEN_DOMCTL_ioport_permission`.
pub fn ioport_permission(domain: &Arc<Domain>, op: &Domctl) -> Result {
    let p: DomctlIoportPermission = op.payload();
    match p.first_port.checked_add(p.nr_ports) {
        Some(end) if p.nr_ports != 0 && end <= PORTS => permission(domain, p.allow_access != 0),
        _ => Err(Errno::EINVAL),
    }
}

/// `XEN_DOMCTL_memory_mapping`.
pub fn memory_mapping(op: &Domctl) -> Result {
    let m: DomctlMemoryMapping = op.payload();
    wraps(m.first_mfn, m.nr_mfns)?;
    wraps(m.first_gfn, m.nr_mfns)?;
    if m.add_mapping == DPCI_ADD_MAPPING { Err(Errno::EPERM) } else { Ok(Outcome::Done) }
}

fn wraps(first: u64, count: u64) -> Result<()> {
    match count.checked_sub(1).map(|n| first.checked_add(n)) {
        Some(None) => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

/// Pass-through.
pub fn no_iommu() -> Result {
    Err(Errno::EOPNOTSUPP)
}
