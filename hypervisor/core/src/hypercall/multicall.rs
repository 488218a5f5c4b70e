//! `HYPERVISOR_multicall` (13): a list of hypercalls in one exit.
//!
//! Source: `struct multicall_entry` in xen.h. libxc wraps each memory_op in a one-entry multicall to get a 64-bit
//! result. An entry that needs a continuation is written back with its continued arguments and the list is resumed there.

use xen_abi::compat::CompatMulticallEntry as CompatEntry;
use xen_abi::xen::MulticallEntry;
use xen_abi::{Errno, hypercall as nr};

use super::{Answer, Caller, Continuation, OK, Reply, Width, call as dispatch};

/// `args`: address of the list, number of entries.
pub fn call(caller: &mut Caller<'_>, args: [u64; 6]) -> Reply {
    let [list, count, ..] = args;
    let mut index = 0u64;
    while index < count {
        if index > 0 && caller.should_yield() {
            return resume(caller, list, index, count);
        }
        let (number, entry_args) = read_entry(caller, list, index)?;
        if number == u64::from(nr::HYPERVISOR_MULTICALL) {
            write_result(caller, list, index, Errno::EINVAL.to_ret())?;
            index += 1;
            continue;
        }
        match dispatch(caller, number, entry_args) {
            Ok(Answer::Done(v)) => write_result(caller, list, index, v)?,
            Err(e) => write_result(caller, list, index, e.to_ret())?,
            Ok(Answer::Continue(more)) => {
                write_args(caller, list, index, more.applied(entry_args))?;
                return resume(caller, list, index, count);
            }
        }
        index += 1;
    }
    OK
}

/// Continue with the list from `index`.
fn resume(caller: &Caller<'_>, list: u64, index: u64, count: u64) -> Reply {
    let at = match caller.width {
        Width::Long => caller.element::<MulticallEntry>(list, index)?,
        Width::Compat => caller.element::<CompatEntry>(list, index)?,
    };
    Ok(Answer::Continue(Continuation::two(at, count.saturating_sub(index))))
}

fn read_entry(caller: &Caller<'_>, list: u64, index: u64) -> Result<(u64, [u64; 6]), Errno> {
    match caller.width {
        Width::Long => {
            let e: MulticallEntry = caller.read(caller.element::<MulticallEntry>(list, index)?)?;
            Ok((e.op, e.args))
        }
        Width::Compat => {
            let e: CompatEntry = caller.read(caller.element::<CompatEntry>(list, index)?)?;
            Ok((u64::from(e.op), e.args.map(u64::from)))
        }
    }
}

/// `result` is the second word of the entry.
fn write_result(caller: &Caller<'_>, list: u64, index: u64, value: i64) -> Result<(), Errno> {
    match caller.width {
        Width::Long => caller.write(caller.element::<MulticallEntry>(list, index)?.wrapping_add(8), &value),
        Width::Compat => {
            caller.write(caller.element::<CompatEntry>(list, index)?.wrapping_add(4), &(value as i32))
        }
    }
}

fn write_args(caller: &Caller<'_>, list: u64, index: u64, args: [u64; 6]) -> Result<(), Errno> {
    match caller.width {
        Width::Long => caller.write(caller.element::<MulticallEntry>(list, index)?.wrapping_add(16), &args),
        Width::Compat => {
            let words = args.map(|a| a as u32);
            caller.write(caller.element::<CompatEntry>(list, index)?.wrapping_add(8), &words)
        }
    }
}
