//! `XENMEM_exchange`: frames for other frames, contiguous or at low addresses.
//!
//! Only a PV domain can do that, whose frames are machine frames. As on Xen, a translated domain's arguments are looked at
//! just the same, and the first frame that it could exchange ends the call with `-EOPNOTSUPP`.

use radon_addr::Gfn;
use xen_abi::Errno;
use xen_abi::compat::CompatMemoryExchange;
use xen_abi::memory::MemoryExchange;

use super::super::{Caller, OK, Reply, Width};
use super::reservation::max_order;

/// Checks everything in Xen's order; writes back how many extents were exchanged: none more than before.
pub fn call(caller: &mut Caller<'_>, start: u64, arg: u64) -> Reply {
    if start != 0 {
        return Err(Errno::EINVAL);
    }
    let (exchange, counter): (MemoryExchange, usize) = match caller.width {
        Width::Long => (caller.read(arg)?, core::mem::offset_of!(MemoryExchange, nr_exchanged)),
        Width::Compat => (
            caller.read::<CompatMemoryExchange>(arg)?.into(),
            core::mem::offset_of!(CompatMemoryExchange, nr_exchanged),
        ),
    };
    let Err(refusal) = check(caller, &exchange) else { return OK };
    if refusal != Errno::EFAULT {
        let at = arg.wrapping_add(counter as u64);
        match caller.width {
            Width::Long => caller.write(at, &exchange.nr_exchanged)?,
            Width::Compat => caller.write(at, &(exchange.nr_exchanged as u32))?,
        }
    }
    Err(refusal)
}

/// Success only if all had been exchanged before.
fn check(caller: &Caller<'_>, e: &MemoryExchange) -> Result<(), Errno> {
    let (from, to) = (&e.input, &e.out);
    if from.extent_order.max(to.extent_order) > max_order(caller) {
        return Err(Errno::EPERM);
    }
    let pages = |nr: u64, order: u32| nr.checked_mul(1 << order).ok_or(Errno::EINVAL);
    if e.nr_exchanged > from.nr_extents
        || from.domid != to.domid
        || pages(from.nr_extents, from.extent_order)? != pages(to.nr_extents, to.extent_order)?
    {
        return Err(Errno::EINVAL);
    }
    if e.nr_exchanged == from.nr_extents {
        return Ok(());
    }
    let domain = caller.target(from.domid)?;
    let list = from.extent_start.raw();
    let gfn = Gfn::new(match caller.width {
        Width::Long => caller.read::<u64>(caller.element::<u64>(list, e.nr_exchanged)?)?,
        Width::Compat => u64::from(caller.read::<u32>(caller.element::<u32>(list, e.nr_exchanged)?)?),
    });
    match domain.lookup(gfn) {
        Some(_) => Err(Errno::EOPNOTSUPP),
        None => Err(Errno::EINVAL),
    }
}
