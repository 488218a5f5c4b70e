//! `HYPERVISOR_hvm_op` (34): parameters, the event upcall vector, guest time.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use radon_addr::VcpuId;
use radon_hw::time;
use xen_abi::Errno;
use xen_abi::hvm_op::{
    HVM_NR_PARAMS, HVM_PARAM_ACPI_IOPORTS_LOCATION, HVM_PARAM_ALTP2M, HVM_PARAM_CALLBACK_IRQ,
    HVM_PARAM_CALLBACK_TYPE_VECTOR, HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_STORE_EVTCHN,
    HVM_PARAM_STORE_PFN, HVM_PARAM_VM_GENERATION_ID_ADDR, HVM_PARAM_VM86_TSS, HVM_PARAM_VM86_TSS_SIZED,
    HVM_PARAM_X87_FIP_WIDTH, HVMMEM_MMIO_DM, HVMMEM_RAM_RO, HVMMEM_RAM_RW, HVMOP_FLUSH_TLBS,
    HVMOP_GET_MEM_TYPE, HVMOP_GET_PARAM, HVMOP_GET_TIME, HVMOP_PAGETABLE_DYING,
    HVMOP_SET_EVTCHN_UPCALL_VECTOR, HVMOP_SET_PARAM, HvmEvtchnUpcallVector, HvmGetMemType, HvmGetTime,
    HvmParam,
};

use super::{Caller, OK, Reply};
use crate::domain::Domain;
use crate::{layout, params, run};

/// `args`: sub-operation, pointer.
pub fn call(caller: &mut Caller<'_>, args: [u64; 6]) -> Reply {
    let [op, arg, ..] = args;
    match op as u32 {
        HVMOP_SET_PARAM => set_param(caller, arg),
        HVMOP_GET_PARAM => get_param(caller, arg),
        HVMOP_SET_EVTCHN_UPCALL_VECTOR => set_upcall_vector(caller, arg),
        HVMOP_GET_TIME => {
            caller.write(arg, &HvmGetTime { now: time::now().raw() })?;
            OK
        }
        HVMOP_FLUSH_TLBS => {
            if arg != 0 {
                return Err(Errno::EINVAL);
            }
            run::flush_domain_tlb(caller.domain);
            OK
        }
        // Linux probes this; with nested paging there is nothing to tell.
        HVMOP_PAGETABLE_DYING => Err(Errno::EINVAL),
        HVMOP_GET_MEM_TYPE => get_mem_type(caller, arg),
        _ => Err(Errno::ENOSYS),
    }
}

/// May the caller set this parameter? A domain sets few of its own, not even the control domain more.
fn may_set(index: u32, own: bool) -> Result<(), Errno> {
    match index {
        HVM_PARAM_CALLBACK_IRQ
        | HVM_PARAM_VM86_TSS
        | HVM_PARAM_VM86_TSS_SIZED
        | HVM_PARAM_ACPI_IOPORTS_LOCATION
        | HVM_PARAM_VM_GENERATION_ID_ADDR
        | HVM_PARAM_STORE_EVTCHN
        | HVM_PARAM_CONSOLE_EVTCHN
        | HVM_PARAM_X87_FIP_WIDTH => Ok(()),
        _ if params::is_deprecated(index) => Err(Errno::EINVAL),
        _ if own => Err(Errno::EPERM),
        _ => Ok(()),
    }
}

/// May the caller read this parameter?
fn may_get(index: u32, own: bool) -> Result<(), Errno> {
    match index {
        HVM_PARAM_STORE_PFN | HVM_PARAM_CONSOLE_PFN | HVM_PARAM_ALTP2M => Ok(()),
        _ => may_set(index, own),
    }
}

fn set_param(caller: &mut Caller<'_>, arg: u64) -> Reply {
    let p: HvmParam = caller.read(arg)?;
    if p.index >= HVM_NR_PARAMS {
        return Err(Errno::EINVAL);
    }
    let domain = caller.target(p.domid)?;
    may_set(p.index, domain.id == caller.domain.id)?;
    domain.params.lock().set(p.index, p.value)?;
    if p.index == HVM_PARAM_CALLBACK_IRQ {
        set_callback(&domain, p.value);
        if Arc::ptr_eq(&domain, caller.domain) {
            layout::latch(&domain, caller.context.backend.mode());
        }
    }
    OK
}

/// Only delivery by vector exists for PVH; other kinds switch it off.
fn set_callback(domain: &Domain, value: u64) {
    let vector = if value >> 56 == HVM_PARAM_CALLBACK_TYPE_VECTOR { value as u8 } else { 0 };
    domain.callback_vector.store(vector, Ordering::Release);
    for v in domain.vcpus() {
        v.attention.store(true, Ordering::SeqCst);
    }
}

fn get_param(caller: &mut Caller<'_>, arg: u64) -> Reply {
    let mut p: HvmParam = caller.read(arg)?;
    if p.index >= HVM_NR_PARAMS {
        return Err(Errno::EINVAL);
    }
    let domain = caller.target(p.domid)?;
    may_get(p.index, domain.id == caller.domain.id)?;
    p.value = domain.params.lock().get(p.index).ok_or(Errno::EINVAL)?;
    caller.write(arg, &p)?;
    OK
}

fn set_upcall_vector(caller: &mut Caller<'_>, arg: u64) -> Reply {
    let v: HvmEvtchnUpcallVector = caller.read(arg)?;
    if v.vector < 0x10 {
        return Err(Errno::EINVAL);
    }
    let vcpu = caller.domain.vcpu(VcpuId::new(v.vcpu)).ok_or(Errno::ENOENT)?;
    vcpu.upcall_vector.store(v.vector, Ordering::Release);
    let pending = caller.domain.events.lock().upcall_pending(vcpu.id);
    if pending {
        crate::events::upcall(vcpu);
    }
    OK
}

fn get_mem_type(caller: &mut Caller<'_>, arg: u64) -> Reply {
    let mut t: HvmGetMemType = caller.read(arg)?;
    let domain = caller.target(t.domid)?;
    t.mem_type = match domain.lookup(radon_addr::Gfn::new(t.pfn)) {
        Some(e) if e.kind.is_writable_ram() => HVMMEM_RAM_RW,
        Some(e) if e.kind.is_ram() => HVMMEM_RAM_RO,
        _ => HVMMEM_MMIO_DM,
    };
    caller.write(arg, &t)?;
    OK
}
