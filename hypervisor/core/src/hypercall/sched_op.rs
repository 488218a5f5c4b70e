//! `HYPERVISOR_sched_op` (29): yield, block, shut down, poll, watchdog.

use core::sync::atomic::Ordering;

use radon_addr::{DomId, Port};
use radon_hw::time;
use xen_abi::Errno;
use xen_abi::sched::{
    SCHEDOP_BLOCK, SCHEDOP_PIN_OVERRIDE, SCHEDOP_POLL, SCHEDOP_REMOTE_SHUTDOWN, SCHEDOP_SHUTDOWN,
    SCHEDOP_SHUTDOWN_CODE, SCHEDOP_WATCHDOG, SCHEDOP_YIELD, SHUTDOWN_CRASH, SHUTDOWN_MAX, SchedPoll,
    SchedRemoteShutdown, SchedShutdown, SchedWatchdog,
};

use super::{Answer, Caller, OK, Reply, Width};
use crate::{domains, run, shutdown, watchdog};

/// Ports one poll may name.
const POLL_PORTS_MAX: u32 = 128;

/// `args`: sub-operation, pointer.
pub fn call(caller: &mut Caller<'_>, args: [u64; 6]) -> Reply {
    let [op, arg, ..] = args;
    match op as u32 {
        SCHEDOP_YIELD => {
            run::yield_vcpu(caller.vcpu);
            OK
        }
        SCHEDOP_BLOCK => block(caller),
        SCHEDOP_SHUTDOWN => {
            let request: SchedShutdown = caller.read(arg)?;
            shut_down(caller, request.reason)
        }
        SCHEDOP_SHUTDOWN_CODE => {
            let request: SchedShutdown = caller.read(arg)?;
            if request.reason > SHUTDOWN_MAX {
                return Err(Errno::EINVAL);
            }
            caller.domain.set_next_shutdown_code(request.reason as u8);
            OK
        }
        SCHEDOP_POLL => poll(caller, arg),
        SCHEDOP_REMOTE_SHUTDOWN => {
            let request: SchedRemoteShutdown = caller.read(arg)?;
            caller.require_privilege()?;
            let target = domains::find(DomId::new(request.domain_id)).ok_or(Errno::ESRCH)?;
            if request.reason > SHUTDOWN_MAX {
                return Err(Errno::EINVAL);
            }
            shutdown::shutdown(&target, request.reason as u8);
            OK
        }
        SCHEDOP_WATCHDOG => {
            let request: SchedWatchdog = caller.read(arg)?;
            watchdog::set(caller.domain, request.id, request.timeout).map(|v| Answer::Done(i64::from(v)))
        }
        // Only the hardware domain may pin itself, and nothing it drives here needs it.
        SCHEDOP_PIN_OVERRIDE => Err(Errno::EPERM),
        _ => Err(Errno::ENOSYS),
    }
}

/// Blocks with events enabled until one is pending.
fn block(caller: &mut Caller<'_>) -> Reply {
    // Unlike HLT this waits for an event of any kind, also one that cannot be delivered because interrupts are off.
    if let Some(info) = caller.vcpu.vcpu_info() {
        radon_hw::mem::atomic_u8(radon_addr::Maddr::new(info.raw() + 1)).store(0, Ordering::SeqCst);
        if radon_hw::mem::atomic_u8(info).load(Ordering::SeqCst) != 0 {
            return OK;
        }
    }
    caller.context.blocking = true;
    OK
}

fn shut_down(caller: &mut Caller<'_>, reason: u32) -> Reply {
    if reason > SHUTDOWN_MAX {
        return Err(Errno::EINVAL);
    }
    if reason == SHUTDOWN_CRASH {
        radon_hw::info!("{} says that it crashed", caller.domain.id);
        shutdown::dump(caller.context);
    }
    shutdown::shutdown(caller.domain, reason as u8);
    OK
}

/// Waits until one of some ports is pending, or a time is reached.
fn poll(caller: &mut Caller<'_>, arg: u64) -> Reply {
    let (ports, count, timeout) = match caller.width {
        Width::Long => {
            let p: SchedPoll = caller.read(arg)?;
            (p.ports.raw(), p.nr_ports, p.timeout)
        }
        Width::Compat => {
            let p: xen_abi::compat::CompatSchedPoll = caller.read(arg)?;
            (u64::from(p.ports.raw()), p.nr_ports, p.timeout)
        }
    };
    if count > POLL_PORTS_MAX {
        return Err(Errno::EINVAL);
    }
    let deadline = if timeout == 0 { u64::MAX } else { timeout };
    // Polling is announced first, so that an event raised from now on ends it.
    caller.vcpu.begin_poll(deadline);
    let mut ready = deadline <= time::now().raw();
    for i in 0..u64::from(count) {
        let port: Result<u32, Errno> = caller.element::<u32>(ports, i).and_then(|at| caller.read(at));
        match port.and_then(|p| caller.domain.events.lock().poll(Port::new(p))) {
            Ok(pending) => ready |= pending,
            Err(e) => {
                caller.vcpu.end_poll();
                return Err(e);
            }
        }
    }
    if ready {
        caller.vcpu.end_poll();
    }
    OK
}
