//! `HYPERVISOR_vcpu_op` (24) and `HYPERVISOR_set_timer_op` (15): bringing vCPUs up, their timers and shared records.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use radon_addr::{Gfn, Maddr, PAGE_SIZE, VcpuId};
use radon_hw::time;
use xen_abi::Errno;
use xen_abi::compat::CompatVcpuRunstateInfo;
use xen_abi::vcpu::{
    VCPUOP_DOWN, VCPUOP_GET_PHYSID, VCPUOP_GET_RUNSTATE_INFO, VCPUOP_INITIALISE, VCPUOP_IS_UP,
    VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, VCPUOP_REGISTER_VCPU_INFO, VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA,
    VCPUOP_SEND_NMI, VCPUOP_SET_PERIODIC_TIMER, VCPUOP_SET_SINGLESHOT_TIMER, VCPUOP_STOP_PERIODIC_TIMER,
    VCPUOP_STOP_SINGLESHOT_TIMER, VCPUOP_UP, VcpuHvmContext, VcpuRegisterVcpuInfo, VcpuRunstateInfo,
    VcpuSetPeriodicTimer, VcpuSetSingleshotTimer,
};

use super::{Answer, Caller, OK, Reply, Width};
use crate::timers::NEVER;
use crate::vcpu::Vcpu;
use crate::{clock, events, layout, physmap, run};

/// Shortest period a guest may have.
const MIN_PERIOD_NS: u64 = 1_000_000;
/// Size of `struct vcpu_info`.
const VCPU_INFO_SIZE: u32 = 64;

/// `args`: sub-operation, vCPU, pointer.
pub fn call(caller: &mut Caller<'_>, args: [u64; 6]) -> Reply {
    let [op, vcpu, arg, ..] = args;
    let vcpu = u32::try_from(vcpu).map_err(|_| Errno::ENOENT)?;
    let vcpu = caller.domain.vcpu(VcpuId::new(vcpu)).ok_or(Errno::ENOENT)?.clone();
    let own = Arc::ptr_eq(&vcpu, caller.vcpu);
    match op as u32 {
        VCPUOP_SET_SINGLESHOT_TIMER => set_singleshot(caller, &vcpu, own, arg),
        VCPUOP_STOP_SINGLESHOT_TIMER => {
            if !own {
                return Err(Errno::EINVAL);
            }
            vcpu.singleshot.store(NEVER, Ordering::Relaxed);
            OK
        }
        VCPUOP_SET_PERIODIC_TIMER => {
            let p: VcpuSetPeriodicTimer = caller.read(arg)?;
            if p.period_ns < MIN_PERIOD_NS || p.period_ns > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            vcpu.periodic_ns.store(p.period_ns, Ordering::Relaxed);
            vcpu.periodic_next.store(time::now().saturating_add(p.period_ns).raw(), Ordering::Relaxed);
            run::requeue_timer(&vcpu);
            OK
        }
        VCPUOP_STOP_PERIODIC_TIMER => {
            vcpu.periodic_ns.store(0, Ordering::Relaxed);
            vcpu.periodic_next.store(NEVER, Ordering::Relaxed);
            OK
        }
        VCPUOP_IS_UP => Ok(Answer::Done(i64::from(vcpu.is_up()))),
        VCPUOP_GET_RUNSTATE_INFO => {
            let (state, entered, time) = vcpu.runstate.lock().at(time::now());
            let info =
                VcpuRunstateInfo { state: state as i32, _pad: [0; 4], state_entry_time: entered.raw(), time };
            match caller.width {
                Width::Long => caller.write(arg, &info)?,
                Width::Compat => caller.write(arg, &CompatVcpuRunstateInfo::from(info))?,
            }
            OK
        }
        VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA => {
            let address = read_address(caller, arg)?;
            vcpu.runstate.lock().area = Some(address).filter(|&a| a != 0);
            if own {
                clock::publish_runstate(caller.domain, &vcpu, caller.context);
            }
            OK
        }
        VCPUOP_REGISTER_VCPU_INFO => register_vcpu_info(caller, &vcpu, arg),
        VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA => {
            // Another vCPU writes its own when it runs next.
            vcpu.time_area.store(read_address(caller, arg)?, Ordering::Relaxed);
            if own {
                clock::publish(caller.domain, &vcpu, caller.context);
            }
            OK
        }
        VCPUOP_INITIALISE => {
            let context: VcpuHvmContext = caller.read(arg)?;
            crate::vcpu_state::initialise(caller.domain, &vcpu, &context).and(OK)
        }
        VCPUOP_UP => crate::vcpu_state::bring_up(caller.domain, &vcpu).and(OK),
        VCPUOP_DOWN => {
            vcpu.set_up(false);
            run::reschedule(&vcpu);
            if !caller.domain.vcpus().iter().any(|v| v.is_up()) {
                crate::shutdown::shutdown(caller.domain, xen_abi::sched::SHUTDOWN_POWEROFF as u8);
            }
            OK
        }
        VCPUOP_SEND_NMI => {
            vcpu.nmi_pending.store(true, Ordering::SeqCst);
            run::kick(&vcpu);
            OK
        }
        VCPUOP_GET_PHYSID => Err(Errno::EINVAL),
        _ => Err(Errno::ENOSYS),
    }
}

/// A structure that holds nothing but a guest address.
fn read_address(caller: &Caller<'_>, arg: u64) -> Result<u64, Errno> {
    match caller.width {
        Width::Long => caller.read::<u64>(arg),
        Width::Compat => caller.read::<u32>(arg).map(u64::from),
    }
}

fn set_singleshot(caller: &Caller<'_>, vcpu: &Arc<Vcpu>, own: bool, arg: u64) -> Reply {
    if !own {
        return Err(Errno::EINVAL);
    }
    let t: VcpuSetSingleshotTimer = match caller.width {
        Width::Long => caller.read(arg)?,
        Width::Compat => caller.read::<xen_abi::compat::CompatVcpuSetSingleshotTimer>(arg)?.into(),
    };
    // A time in the past fires at once: the entry path looks at the deadline. Xen 4.17 does not look at the flags.
    vcpu.singleshot.store(t.timeout_abs_ns.min(NEVER - 1), Ordering::Relaxed);
    OK
}

/// `HYPERVISOR_set_timer_op`: absolute system time in ns, 0 stops.
pub fn set_timer_op(caller: &mut Caller<'_>, args: [u64; 6]) -> Reply {
    let [low, high, ..] = args;
    let deadline = match caller.width {
        Width::Long => low,
        Width::Compat => low & 0xffff_ffff | high << 32,
    };
    let value = match deadline {
        0 => NEVER,
        d if (d as i64) < 0 => time::now().saturating_add(100_000_000).raw(),
        d => d,
    };
    caller.vcpu.singleshot.store(value, Ordering::Relaxed);
    OK
}

/// Moves a vCPU's `vcpu_info` to a page of the guest's own.
fn register_vcpu_info(caller: &Caller<'_>, vcpu: &Arc<Vcpu>, arg: u64) -> Reply {
    let r: VcpuRegisterVcpuInfo = caller.read(arg)?;
    let align = if layout::is_compat(caller.domain) { 4 } else { 8 };
    if r.offset > PAGE_SIZE as u32 - VCPU_INFO_SIZE || !r.offset.is_multiple_of(align) {
        return Err(Errno::ENXIO);
    }
    // Of another vCPU only while that is down: it would not see the move.
    if !Arc::ptr_eq(vcpu, caller.vcpu) && vcpu.is_up() {
        return Err(Errno::EINVAL);
    }
    let frame = physmap::get_frame(caller.domain, Gfn::new(r.mfn), true)?;
    let maddr = Maddr::new(frame.mfn().maddr().raw() | u64::from(r.offset));
    let notify = {
        let mut held = vcpu.vcpu_info_frame.lock();
        if held.is_some() {
            return Err(Errno::EINVAL);
        }
        let notify = caller.domain.events.lock().move_vcpu_info(vcpu.id, maddr)?;
        *held = Some(frame);
        vcpu.vcpu_info.store(maddr.raw(), Ordering::Release);
        notify
    };
    events::notify(caller.domain, notify);
    if Arc::ptr_eq(vcpu, caller.vcpu) {
        clock::publish(caller.domain, vcpu, caller.context);
    }
    OK
}
