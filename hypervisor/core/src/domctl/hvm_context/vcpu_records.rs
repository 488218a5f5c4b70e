//! The other records of one vCPU: local APIC, MTRRs, extended state, and small ones.

use alloc::sync::Arc;
use alloc::vec::Vec;

use radon_cpu::Control;
use radon_hw::{cpuid, fpu, time};
use radon_vapic::SavedHidden;
use xen_abi::Errno;
use xen_abi::hvm_save::{
    CPU_XSAVE_CODE, HVM_SAVE_CODE_LAPIC, HVM_SAVE_CODE_LAPIC_REGS, HVM_SAVE_CODE_MTRR,
    HVM_SAVE_CODE_TSC_ADJUST, HVM_SAVE_CODE_VMCE_VCPU, HvmHwCpuXsave, HvmHwLapic, HvmHwLapicRegs, HvmHwMtrr,
    HvmMsr, HvmOneMsr, HvmTscAdjust, HvmVmceVcpu,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::stream::{Record, put, put_bytes};
use crate::context::Context;
use crate::vcpu::Vcpu;
use crate::{run, timers};

/// MTRRcap: 8 variable ranges, fixed ranges, write-combining.
const MTRR_CAP: u64 = 0x508;
/// What precedes the save area in the extended-state record: feature mask, XCR0, accumulated XCR0.
const XSAVE_PREFIX: usize = 24;
/// Legacy area and header of a save area.
const XSAVE_MIN: usize = 576;
const MSR_XSS: u32 = 0xda0;

/// Appends the vCPU's local APIC.
pub fn save_apic(vcpu: &Vcpu, to: &mut Vec<u8>, typecode: u16) {
    let (hidden, data) = vcpu.apic.lock().export(time::now());
    let id = vcpu.id.raw() as u16;
    if typecode == HVM_SAVE_CODE_LAPIC {
        let record = HvmHwLapic {
            apic_base_msr: hidden.apic_base_msr,
            disabled: hidden.disabled,
            timer_divisor: hidden.timer_divisor,
            tdt_msr: hidden.tdt_msr,
        };
        put(to, HVM_SAVE_CODE_LAPIC, id, &record);
    } else {
        put(to, HVM_SAVE_CODE_LAPIC_REGS, id, &HvmHwLapicRegs { data });
    }
}

/// Takes over one of the two records of the local APIC; the other half stays as it is.
pub fn load_apic(vcpu: &Arc<Vcpu>, record: &Record<'_>, tsc_offset: u64) -> Result<(), Errno> {
    let now = time::now();
    let deadline = {
        let mut apic = vcpu.apic.lock();
        let (mut hidden, mut page) = apic.export(now);
        if record.typecode == HVM_SAVE_CODE_LAPIC {
            let h: HvmHwLapic = record.extended()?;
            hidden = SavedHidden {
                apic_base_msr: h.apic_base_msr,
                disabled: h.disabled,
                timer_divisor: h.timer_divisor,
                tdt_msr: h.tdt_msr,
            };
        } else {
            page = record.exact::<HvmHwLapicRegs>()?.data;
        }
        apic.import(&hidden, &page, now).map_err(|_| Errno::EINVAL)?;
        apic.rearm_tsc_deadline(time::tsc().wrapping_add(tsc_offset), time::tsc_khz(), now);
        apic.timer_deadline()
    };
    timers::apic_timer_changed(vcpu, deadline);
    run::requeue_timer(vcpu);
    Ok(())
}

/// Appends the MTRRs and the PAT.
pub fn save_mtrr(id: u16, context: &Context, to: &mut Vec<u8>) {
    let record = HvmHwMtrr {
        msr_pat_cr: context.backend.control(Control::Pat),
        msr_mtrr_var: context.msrs.mtrr_variable,
        msr_mtrr_fixed: context.msrs.mtrr_fixed,
        msr_mtrr_cap: MTRR_CAP,
        msr_mtrr_def_type: context.msrs.mtrr_def_type,
    };
    put(to, HVM_SAVE_CODE_MTRR, id, &record);
}

/// Takes over the MTRRs and the PAT. `EINVAL`: a PAT with types that do not exist.
pub fn load_mtrr(context: &mut Context, record: &Record<'_>) -> Result<(), Errno> {
    let r: HvmHwMtrr = record.exact()?;
    if r.msr_pat_cr.to_le_bytes().iter().any(|t| !matches!(t, 0 | 1 | 4..=7)) {
        return Err(Errno::EINVAL);
    }
    context.backend.set_control(Control::Pat, r.msr_pat_cr);
    context.msrs.mtrr_variable = r.msr_mtrr_var;
    context.msrs.mtrr_fixed = r.msr_mtrr_fixed;
    context.msrs.mtrr_def_type = r.msr_mtrr_def_type & 0xcff;
    Ok(())
}

/// Bytes of a save area (standard format) with these components.
pub fn xsave_size(xcr0: u64) -> usize {
    (2..63).filter(|i| xcr0 & 1 << i != 0).fold(XSAVE_MIN, |size, i| {
        let leaf = cpuid::leaf(0xd, i);
        size.max(leaf.ebx.saturating_add(leaf.eax) as usize).min(fpu::AREA_SIZE)
    })
}

/// Appends the extended state, if the machine has any.
pub fn save_xsave(id: u16, context: &Context, to: &mut Vec<u8>) {
    let mask = fpu::max_xcr0();
    if mask == 0 {
        return;
    }
    let used = (context.xcr0 | context.fpu.xstate_bv() | 3) & mask;
    let mut data = Vec::with_capacity(XSAVE_PREFIX + fpu::AREA_SIZE);
    data.extend_from_slice(mask.as_bytes());
    data.extend_from_slice(context.xcr0.as_bytes());
    data.extend_from_slice(used.as_bytes());
    data.extend_from_slice(context.fpu.bytes().get(..xsave_size(used)).unwrap_or_default());
    put_bytes(to, CPU_XSAVE_CODE, id, &data);
}

/// Takes over the extended state.
pub fn load_xsave(context: &mut Context, record: &Record<'_>) -> Result<(), Errno> {
    if fpu::max_xcr0() == 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let (fixed, _) = HvmHwCpuXsave::read_from_prefix(record.data).map_err(|_| Errno::EINVAL)?;
    if !fpu::valid_xcr0(fixed.xcr0)
        || fixed.xcr0_accum & !fpu::max_xcr0() != 0
        || fixed.xstate_bv & !fixed.xcr0_accum != 0
        || fixed.xcomp_bv != 0
    {
        return Err(Errno::EINVAL);
    }
    let area = record.data.get(XSAVE_PREFIX..).ok_or(Errno::EINVAL)?;
    let size = xsave_size(fixed.xcr0_accum);
    let (area, beyond) = area.split_at_checked(size.min(area.len())).ok_or(Errno::EINVAL)?;
    if beyond.iter().any(|&b| b != 0) {
        return Err(Errno::EOPNOTSUPP);
    }
    context.fpu.load(area).ok_or(Errno::EINVAL)?;
    context.xcr0 = fixed.xcr0;
    context.loaded_before = false;
    Ok(())
}

/// Appends a record of what a vCPU here does not have: machine-check banks, the TSC_ADJUST register.
pub fn save_fixed(id: u16, typecode: u16, to: &mut Vec<u8>) {
    match typecode {
        HVM_SAVE_CODE_VMCE_VCPU => put(to, typecode, id, &HvmVmceVcpu::new_zeroed()),
        HVM_SAVE_CODE_TSC_ADJUST => put(to, typecode, id, &HvmTscAdjust::new_zeroed()),
        _ => {}
    }
}

/// Takes over MSRs; those that do not exist here are another processor's and are left.
pub fn load_msrs(context: &mut Context, record: &Record<'_>) -> Result<(), Errno> {
    let (head, mut rest) = HvmMsr::read_from_prefix(record.data).map_err(|_| Errno::EINVAL)?;
    for _ in 0..head.count {
        let (msr, after) = HvmOneMsr::read_from_prefix(rest).map_err(|_| Errno::EINVAL)?;
        if msr._rsvd != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if msr.index == MSR_XSS && msr.val == 0 {
            context.msrs.xss = 0;
        }
        rest = after;
    }
    Ok(())
}
