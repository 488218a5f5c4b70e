//! `XEN_DOMCTL_{get,set}hvmcontext`: the processor state of a domain as a stream of records (`hvm/save.h`). libxl builds a
//! PVH guest's first vCPU with it, and saving and restoring a domain is made of it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use radon_hw::{cpuid, time};
use xen_abi::Errno;
use xen_abi::domctl::{Domctl, DomctlHvmcontext, DomctlHvmcontextPartial};
use xen_abi::hvm_save::{
    self as hvm, CPU_MSR_CODE, CPU_XSAVE_CODE, HVM_FILE_MAGIC, HVM_FILE_VERSION, HVM_SAVE_CODE_CPU,
    HVM_SAVE_CODE_END, HVM_SAVE_CODE_HEADER, HVM_SAVE_CODE_LAPIC, HVM_SAVE_CODE_LAPIC_REGS,
    HVM_SAVE_CODE_MTRR, HVM_SAVE_CODE_TSC_ADJUST, HVM_SAVE_CODE_VMCE_VCPU, HvmHwCpu, HvmSaveDescriptor,
    HvmSaveHeader,
};

use super::{Outcome, Result, not_myself};
use crate::domain::Domain;
use crate::hypercall::Caller;
use crate::vcpu::Vcpu;
use crate::{run, vcpu_state};

mod cpu;
mod stream;
mod vcpu_records;

use stream::{Reader, Record};

/// Records of each vCPU, in the order in which Xen writes them.
const PER_VCPU: [u16; 7] = [
    HVM_SAVE_CODE_CPU,
    HVM_SAVE_CODE_LAPIC,
    HVM_SAVE_CODE_LAPIC_REGS,
    HVM_SAVE_CODE_MTRR,
    CPU_XSAVE_CODE,
    HVM_SAVE_CODE_VMCE_VCPU,
    HVM_SAVE_CODE_TSC_ADJUST,
];
/// More than any domain's context.
const LARGEST: u32 = 8 << 20;
/// "Unknown" as the change set that saved.
const NO_CHANGESET: u64 = u64::MAX;

/// `XEN_DOMCTL_gethvmcontext`: a null buffer asks for the size.
pub fn get(caller: &Caller<'_>, domain: &Arc<Domain>, op: &mut Domctl) -> Result {
    not_myself(caller, domain)?;
    let mut asked: DomctlHvmcontext = op.payload();
    let most = largest(domain);
    if asked.buffer.is_null() {
        asked.size = most;
        op.set_payload(&asked);
        return Ok(Outcome::Back);
    }
    if asked.size < most {
        return Err(Errno::ENOSPC);
    }
    run::pause_domain(domain);
    let stream = save(domain);
    run::unpause_domain(domain);
    asked.size = u32::try_from(stream.len()).map_err(|_| Errno::ENOSPC)?;
    caller.copy_out(asked.buffer.raw(), &stream)?;
    op.set_payload(&asked);
    Ok(Outcome::Back)
}

/// Bytes that the context can have at most.
fn largest(domain: &Domain) -> u32 {
    let descriptor = size_of::<HvmSaveDescriptor>();
    let fixed = 2 * descriptor + size_of::<HvmSaveHeader>();
    let per_vcpu = PER_VCPU.len() * descriptor
        + size_of::<HvmHwCpu>()
        + size_of::<hvm::HvmHwLapic>()
        + size_of::<hvm::HvmHwLapicRegs>()
        + size_of::<hvm::HvmHwMtrr>()
        + 24
        + vcpu_records::xsave_size(radon_hw::fpu::max_xcr0())
        + size_of::<hvm::HvmVmceVcpu>()
        + size_of::<hvm::HvmTscAdjust>();
    u32::try_from(fixed.saturating_add(per_vcpu.saturating_mul(domain.vcpus().len()))).unwrap_or(u32::MAX)
}

/// The stream of a domain that does not run.
fn save(domain: &Arc<Domain>) -> Vec<u8> {
    let mut to = Vec::with_capacity(largest(domain) as usize);
    let header = HvmSaveHeader {
        magic: HVM_FILE_MAGIC,
        version: HVM_FILE_VERSION,
        changeset: NO_CHANGESET,
        cpuid: cpuid::leaf(1, 0).eax,
        gtsc_khz: u32::try_from(time::tsc_khz()).unwrap_or(u32::MAX),
    };
    stream::put(&mut to, HVM_SAVE_CODE_HEADER, 0, &header);
    let tsc = time::tsc();
    for typecode in PER_VCPU {
        for v in domain.vcpus() {
            save_one(v, typecode, tsc, &mut to);
        }
    }
    stream::put_bytes(&mut to, HVM_SAVE_CODE_END, 0, &[]);
    to
}

/// Appends one record of a vCPU, if it has it: the registers of one that is down mean nothing.
fn save_one(v: &Arc<Vcpu>, typecode: u16, machine_tsc: u64, to: &mut Vec<u8>) {
    let id = v.id.raw() as u16;
    match typecode {
        HVM_SAVE_CODE_CPU => {
            if v.is_up() {
                let mut context = v.context.lock_nested();
                vcpu_state::settle_startup(v, &mut context);
                let tsc = machine_tsc.wrapping_add(context.backend.tsc_offset());
                stream::put(to, typecode, id, &cpu::save(&context, tsc));
            }
        }
        HVM_SAVE_CODE_LAPIC | HVM_SAVE_CODE_LAPIC_REGS => vcpu_records::save_apic(v, to, typecode),
        HVM_SAVE_CODE_MTRR => vcpu_records::save_mtrr(id, &v.context.lock_nested(), to),
        CPU_XSAVE_CODE => vcpu_records::save_xsave(id, &v.context.lock_nested(), to),
        _ => vcpu_records::save_fixed(id, typecode, to),
    }
}

/// `XEN_DOMCTL_gethvmcontext_partial`: one record, without its descriptor; a null buffer asks for its size.
pub fn get_one(caller: &Caller<'_>, domain: &Arc<Domain>, op: &mut Domctl) -> Result {
    not_myself(caller, domain)?;
    let mut asked: DomctlHvmcontextPartial = op.payload();
    let typecode = u16::try_from(asked.kind).ok().filter(|t| PER_VCPU.contains(t)).ok_or(Errno::EINVAL)?;
    let v = super::vcpu(domain, asked.instance).map_err(|_| Errno::ENOENT)?;
    let mut stream = Vec::new();
    run::pause_domain(domain);
    save_one(v, typecode, time::tsc(), &mut stream);
    run::unpause_domain(domain);
    let record = stream.get(size_of::<HvmSaveDescriptor>()..).ok_or(Errno::ENOENT)?;
    let size = record.len() as u64;
    if !asked.buffer.is_null() {
        if size > asked.bufsz {
            return Err(Errno::ENOBUFS);
        }
        caller.copy_out(asked.buffer.raw(), record)?;
    }
    asked.bufsz = size;
    op.set_payload(&asked);
    Ok(Outcome::Back)
}

/// `XEN_DOMCTL_sethvmcontext`. As in Xen all vCPUs go down; those with a CPU record come up again.
pub fn set(caller: &Caller<'_>, domain: &Arc<Domain>, op: &Domctl) -> Result {
    not_myself(caller, domain)?;
    let asked: DomctlHvmcontext = op.payload();
    if asked.size > LARGEST {
        return Err(Errno::ENOMEM);
    }
    let mut bytes = alloc::vec![0u8; asked.size as usize];
    caller.copy_in(asked.buffer.raw(), &mut bytes)?;
    let mut records = Reader::new(&bytes);
    let header = records.next().ok_or(Errno::EINVAL)??;
    let h: HvmSaveHeader = header.exact()?;
    if header.typecode != HVM_SAVE_CODE_HEADER || h.magic != HVM_FILE_MAGIC || h.version != HVM_FILE_VERSION {
        return Err(Errno::EINVAL);
    }
    run::pause_domain(domain);
    for v in domain.vcpus() {
        v.set_up(false);
    }
    let loaded = records.try_for_each(|record| load_one(domain, &record?));
    run::unpause_domain(domain);
    loaded.map(|()| Outcome::Done)
}

fn load_one(domain: &Arc<Domain>, record: &Record<'_>) -> Result<()> {
    let v = super::vcpu(domain, record.instance.into()).map_err(|_| Errno::EINVAL)?;
    match record.typecode {
        HVM_SAVE_CODE_CPU => load_cpu(domain, v, record),
        HVM_SAVE_CODE_LAPIC | HVM_SAVE_CODE_LAPIC_REGS => {
            let offset = domain.tsc_offset.load(Ordering::Relaxed);
            vcpu_records::load_apic(v, record, offset)
        }
        HVM_SAVE_CODE_MTRR => vcpu_records::load_mtrr(&mut v.context.lock_nested(), record),
        CPU_XSAVE_CODE => vcpu_records::load_xsave(&mut v.context.lock_nested(), record),
        CPU_MSR_CODE => vcpu_records::load_msrs(&mut v.context.lock_nested(), record),
        HVM_SAVE_CODE_VMCE_VCPU | HVM_SAVE_CODE_TSC_ADJUST => Ok(()),
        // A device that a PVH domain does not have.
        _ => Err(Errno::ENODEV),
    }
}

fn load_cpu(domain: &Arc<Domain>, v: &Arc<Vcpu>, record: &Record<'_>) -> Result<()> {
    let r: HvmHwCpu = record.extended()?;
    let bits = domain.policy.read().physical_address_bits();
    {
        let mut context = v.context.lock_nested();
        v.set_startup(None);
        cpu::load(&mut context, r, bits)?;
        // Registers that a pCPU may still hold of it are stale.
        context.loaded_before = false;
    }
    // All vCPUs have one time stamp counter: that of the first.
    if record.instance == 0 {
        let offset = r.tsc.wrapping_sub(time::tsc());
        domain.tsc_offset.store(offset, Ordering::Relaxed);
        for other in domain.vcpus() {
            other.context.lock_nested().backend.set_tsc_offset(offset);
        }
    }
    v.waiting_for_startup.store(false, Ordering::SeqCst);
    v.clear_blocked();
    v.set_up(true);
    Ok(())
}
