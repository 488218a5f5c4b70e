//! `XEN_SYSCTL_getdomaininfolist`: `xl list`.

use radon_addr::{DOMID_FIRST_RESERVED, DomId};
use xen_abi::domctl::DomctlGetdomaininfo;
use xen_abi::sysctl::{Sysctl, SysctlGetdomaininfolist};

use super::Result;
use crate::hypercall::Caller;
use crate::{destroy, domains, domctl};

/// Records of the domains from the first wanted on, as many as the caller has room for.
pub fn get(caller: &Caller<'_>, op: &mut Sysctl) -> Result {
    destroy::reap();
    let mut asked: SysctlGetdomaininfolist = op.payload();
    let mut count = 0;
    let mut next = asked.first_domain;
    while count < asked.max_domains && next < DOMID_FIRST_RESERVED {
        let Some(domain) = domains::first_from(DomId::new(next)) else { break };
        let at = caller.element::<DomctlGetdomaininfo>(asked.buffer.raw(), count.into())?;
        caller.write(at, &domctl::info(&domain))?;
        count += 1;
        next = domain.id.raw().saturating_add(1);
    }
    asked.num_domains = count;
    op.set_payload(&asked);
    Ok(())
}
