//! RDMSR and WRMSR. What is not listed here raises `#GP`, as on a processor without the register.

use alloc::sync::Arc;

use radon_cpu::{Backend, Control, Event, Gpr};
use radon_decode::Kind;
use radon_hw::time;
use radon_vapic::{MSR_APIC_BASE, MSR_TSC_DEADLINE, MSR_X2APIC_FIRST, MSR_X2APIC_LAST};

use crate::context::Context;
use crate::domain::Domain;
use crate::vcpu::Vcpu;
use crate::{apic, hypercall_page, inject, layout, machine};

/// Numbers of the MSRs that guests touch (APM vol. 2, appendix A).
mod number {
    pub const TSC: u32 = 0x10;
    pub const PLATFORM_ID: u32 = 0x17;
    pub const FEATURE_CONTROL: u32 = 0x3a;
    pub const SPEC_CTRL: u32 = 0x48;
    pub const PRED_CMD: u32 = 0x49;
    pub const MICROCODE_REVISION: u32 = 0x8b;
    pub const MTRR_CAP: u32 = 0xfe;
    pub const ARCH_CAPABILITIES: u32 = 0x10a;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MCG_CAP: u32 = 0x179;
    pub const MCG_STATUS: u32 = 0x17a;
    pub const MCG_CTL: u32 = 0x17b;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const DEBUG_CTL: u32 = 0x1d9;
    pub const MTRR_VARIABLE_FIRST: u32 = 0x200;
    pub const MTRR_VARIABLE_LAST: u32 = 0x20f;
    pub const MTRR_FIX64K: u32 = 0x250;
    pub const MTRR_FIX16K_FIRST: u32 = 0x258;
    pub const MTRR_FIX16K_LAST: u32 = 0x259;
    pub const MTRR_FIX4K_FIRST: u32 = 0x268;
    pub const MTRR_FIX4K_LAST: u32 = 0x26f;
    pub const PAT: u32 = 0x277;
    pub const MTRR_DEF_TYPE: u32 = 0x2ff;
    pub const MCA_FIRST: u32 = 0x400;
    pub const MCA_LAST: u32 = 0x47f;
    pub const XSS: u32 = 0xda0;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const SFMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
    pub const K7_EVNTSEL_FIRST: u32 = 0xc001_0000;
    pub const K7_PERFCTR_LAST: u32 = 0xc001_0007;
    pub const SYSCFG: u32 = 0xc001_0010;
    pub const HWCR: u32 = 0xc001_0015;
    pub const IORR_FIRST: u32 = 0xc001_0016;
    pub const IORR_LAST: u32 = 0xc001_0019;
    pub const TOP_MEM: u32 = 0xc001_001a;
    pub const TOP_MEM2: u32 = 0xc001_001d;
    pub const NB_CFG: u32 = 0xc001_001f;
    pub const VIRT_SPEC_CTRL: u32 = 0xc001_011f;
    pub const LS_CFG: u32 = 0xc001_1020;
    pub const IC_CFG: u32 = 0xc001_1021;
    pub const DC_CFG: u32 = 0xc001_1022;
    pub const FR0_CFG: u32 = 0xc001_1029;
    pub const OSVW_FIRST: u32 = 0xc001_0140;
    pub const OSVW_LAST: u32 = 0xc001_0141;
}

/// The access raises `#GP(0)`.
struct Fault;

/// EFER bits a guest may set: SCE, LME, LMA (ignored on write), NXE, FFXSR.
const EFER_LMA: u64 = 1 << 10;
const EFER_LME: u64 = 1 << 8;
const EFER_ALLOWED: u64 = 1 | EFER_LME | EFER_LMA | 1 << 11 | 1 << 14;
const CR0_PG: u64 = 1 << 31;
/// MTRRcap: 8 variable ranges, fixed ranges, write-combining.
const MTRR_CAP: u64 = 0x508;

/// Handles RDMSR or WRMSR.
pub fn handle(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context, is_write: bool) {
    let b = &context.backend;
    let msr = b.gpr(Gpr::Rcx) as u32;
    let outcome = if is_write {
        let value = b.gpr(Gpr::Rax) & 0xffff_ffff | b.gpr(Gpr::Rdx) << 32;
        write(domain, vcpu, context, msr, value)
    } else {
        read(domain, vcpu, context, msr).map(|value| {
            context.backend.set_gpr(Gpr::Rax, value & 0xffff_ffff);
            context.backend.set_gpr(Gpr::Rdx, value >> 32);
        })
    };
    match outcome {
        Ok(()) => super::advance(domain, vcpu, context, if is_write { Kind::Wrmsr } else { Kind::Rdmsr }),
        Err(Fault) => context.raise(Event::PROTECTION),
    }
}

/// Control-structure MSRs, read and written alike.
fn control_of(msr: u32) -> Option<Control> {
    Some(match msr {
        number::SYSENTER_CS => Control::SysenterCs,
        number::SYSENTER_ESP => Control::SysenterEsp,
        number::SYSENTER_EIP => Control::SysenterEip,
        number::PAT => Control::Pat,
        number::STAR => Control::Star,
        number::LSTAR => Control::Lstar,
        number::CSTAR => Control::Cstar,
        number::SFMASK => Control::Sfmask,
        number::KERNEL_GS_BASE => Control::KernelGsBase,
        number::DEBUG_CTL => Control::DebugCtl,
        _ => return None,
    })
}

fn read(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context, msr: u32) -> Result<u64, Fault> {
    let b = context.backend.as_ref();
    let m = &context.msrs;
    Ok(match msr {
        MSR_X2APIC_FIRST..=MSR_X2APIC_LAST => {
            let read = inject::with_apic(vcpu, context, |apic| apic.read_msr(msr, time::now()));
            return read.map_err(|_| Fault);
        }
        MSR_APIC_BASE => vcpu.apic.lock().base_msr(),
        MSR_TSC_DEADLINE => vcpu.apic.lock().tsc_deadline(),
        number::TSC => time::tsc().wrapping_add(b.tsc_offset()),
        number::EFER => b.control(Control::Efer),
        number::FS_BASE => b.segment(radon_cpu::SegmentReg::Fs).base,
        number::GS_BASE => b.segment(radon_cpu::SegmentReg::Gs).base,
        number::TSC_AUX => m.tsc_aux,
        number::MTRR_CAP => MTRR_CAP,
        number::MTRR_DEF_TYPE => m.mtrr_def_type,
        number::MTRR_VARIABLE_FIRST..=number::MTRR_VARIABLE_LAST => {
            *m.mtrr_variable.get((msr - number::MTRR_VARIABLE_FIRST) as usize).ok_or(Fault)?
        }
        number::MISC_ENABLE => m.misc_enable,
        number::MCG_CAP => 0,
        number::MCG_STATUS => m.mcg_status,
        number::XSS => m.xss,
        number::MICROCODE_REVISION => radon_hw::msr::try_read(number::MICROCODE_REVISION).unwrap_or(0),
        // Present, nothing in them.
        number::MCG_CTL
        | number::MCA_FIRST..=number::MCA_LAST
        | number::K7_EVNTSEL_FIRST..=number::K7_PERFCTR_LAST
        | number::SYSCFG
        | number::IORR_FIRST..=number::IORR_LAST
        | number::TOP_MEM
        | number::TOP_MEM2
        | number::NB_CFG
        | number::HWCR
        | number::FR0_CFG
        | number::LS_CFG
        | number::IC_CFG
        | number::DC_CFG
        | number::OSVW_FIRST..=number::OSVW_LAST
        | number::PLATFORM_ID => 0,
        number::FEATURE_CONTROL => 1,
        _ => match (fixed_mtrr(msr), control_of(msr)) {
            (Some(i), _) => *m.mtrr_fixed.get(i).ok_or(Fault)?,
            (_, Some(control)) => b.control(control),
            _ => return unknown(domain, "read", msr),
        },
    })
}

fn write(
    domain: &Arc<Domain>,
    vcpu: &Arc<Vcpu>,
    context: &mut Context,
    msr: u32,
    value: u64,
) -> Result<(), Fault> {
    match msr {
        MSR_X2APIC_FIRST..=MSR_X2APIC_LAST => {
            let written = inject::with_apic(vcpu, context, |apic| apic.write_msr(msr, value, time::now()));
            let effect = written.map_err(|_| Fault)?;
            context.settled = false;
            apic::apply(domain, vcpu, effect);
        }
        MSR_APIC_BASE => {
            let written = inject::with_apic(vcpu, context, |apic| apic.write_base(value));
            let effect = written.map_err(|_| Fault)?;
            context.settled = false;
            apic::apply(domain, vcpu, effect);
        }
        MSR_TSC_DEADLINE => {
            let guest_tsc = time::tsc().wrapping_add(context.backend.tsc_offset());
            let deadline = {
                let mut apic = vcpu.apic.lock();
                apic.set_tsc_deadline(value, guest_tsc, time::tsc_khz(), time::now());
                apic.timer_deadline()
            };
            crate::timers::apic_timer_changed(vcpu, deadline);
        }
        number::TSC => context.backend.set_tsc_offset(value.wrapping_sub(time::tsc())),
        number::EFER => write_efer(context.backend.as_mut(), value)?,
        number::FS_BASE | number::GS_BASE => {
            let which =
                if msr == number::FS_BASE { radon_cpu::SegmentReg::Fs } else { radon_cpu::SegmentReg::Gs };
            let mut s = context.backend.segment(which);
            s.base = canonical(value)?;
            context.backend.set_segment(which, s);
        }
        number::TSC_AUX => {
            context.msrs.tsc_aux = u64::from(u32::try_from(value).map_err(|_| Fault)?);
            crate::msr::load_host_visible(context);
        }
        number::PAT => {
            if value.to_le_bytes().iter().any(|&t| !matches!(t, 0 | 1 | 4..=7)) {
                return Err(Fault);
            }
            context.backend.set_control(Control::Pat, value);
        }
        number::MTRR_DEF_TYPE => {
            if value & !0xcff != 0 || !is_memory_type(value as u8) {
                return Err(Fault);
            }
            context.msrs.mtrr_def_type = value;
        }
        number::MTRR_VARIABLE_FIRST..=number::MTRR_VARIABLE_LAST => {
            let slot = context.msrs.mtrr_variable.get_mut((msr - number::MTRR_VARIABLE_FIRST) as usize);
            // Even numbers are bases, whose low byte is a type; odd ones masks.
            if msr & 1 == 0 && (value & 0xf00 != 0 || !is_memory_type(value as u8))
                || msr & 1 == 1 && value & 0x7ff != 0
            {
                return Err(Fault);
            }
            *slot.ok_or(Fault)? = value;
        }
        number::MISC_ENABLE => context.msrs.misc_enable = value,
        number::MCG_STATUS => context.msrs.mcg_status = value,
        number::XSS => {
            if value != 0 {
                return Err(Fault);
            }
        }
        hypercall_page::MSR => {
            hypercall_page::fill(domain, value).map_err(|_| Fault)?;
            layout::latch(domain, context.backend.mode());
        }
        // Microcode updates, counters and machine-check banks are not the guest's; writes vanish.
        0x79
        | number::MICROCODE_REVISION
        | number::MCG_CTL
        | number::MCA_FIRST..=number::MCA_LAST
        | number::K7_EVNTSEL_FIRST..=number::K7_PERFCTR_LAST
        | number::SYSCFG
        | number::HWCR
        | number::NB_CFG
        | number::LS_CFG
        | number::IC_CFG
        | number::DC_CFG => {}
        number::LSTAR
        | number::CSTAR
        | number::KERNEL_GS_BASE
        | number::SYSENTER_ESP
        | number::SYSENTER_EIP => {
            let value = canonical(value)?;
            context.backend.set_control(control_of(msr).ok_or(Fault)?, value);
        }
        _ => match (fixed_mtrr(msr), control_of(msr)) {
            (Some(i), _) => {
                if !value.to_le_bytes().into_iter().all(is_memory_type) {
                    return Err(Fault);
                }
                *context.msrs.mtrr_fixed.get_mut(i).ok_or(Fault)? = value;
            }
            (_, Some(control)) => context.backend.set_control(control, value),
            _ => return unknown(domain, "write", msr).map(|_| ()),
        },
    }
    Ok(())
}

fn unknown(domain: &Domain, what: &str, msr: u32) -> Result<u64, Fault> {
    let known_absent = matches!(
        msr,
        number::SPEC_CTRL | number::PRED_CMD | number::ARCH_CAPABILITIES | number::VIRT_SPEC_CTRL
    );
    // `dom0=msr-relaxed`: for dom0 they read as zero, and writes go nowhere.
    let relaxed = domain.config.hardware && machine::facts().is_some_and(|f| f.options.dom0.msr_relaxed);
    if !known_absent && domain.log_limit.allow() {
        let outcome = if relaxed { "ignored" } else { "#GP" };
        radon_hw::debug!("{} {what} of MSR {msr:#x}: {outcome}", domain.id);
    }
    if relaxed && !known_absent { Ok(0) } else { Err(Fault) }
}

/// Types an MTRR may hold: UC, WC, WT, WP, WB (APM vol. 2, 7.7.1).
fn is_memory_type(kind: u8) -> bool {
    matches!(kind, 0 | 1 | 4..=6)
}

/// Index of a fixed-range MTRR.
fn fixed_mtrr(msr: u32) -> Option<usize> {
    match msr {
        number::MTRR_FIX64K => Some(0),
        number::MTRR_FIX16K_FIRST..=number::MTRR_FIX16K_LAST => {
            Some((msr - number::MTRR_FIX16K_FIRST) as usize + 1)
        }
        number::MTRR_FIX4K_FIRST..=number::MTRR_FIX4K_LAST => {
            Some((msr - number::MTRR_FIX4K_FIRST) as usize + 3)
        }
        _ => None,
    }
}

fn canonical(address: u64) -> Result<u64, Fault> {
    let top = (address as i64) >> 47;
    if top == 0 || top == -1 { Ok(address) } else { Err(Fault) }
}

/// EFER: long mode cannot be toggled while paging is on (APM vol. 2, 14.6).
fn write_efer(b: &mut dyn Backend, value: u64) -> Result<(), Fault> {
    let old = b.control(Control::Efer);
    let paging = b.control(Control::Cr0) & CR0_PG != 0;
    if value & !EFER_ALLOWED != 0 || paging && (value ^ old) & EFER_LME != 0 {
        return Err(Fault);
    }
    b.set_control(Control::Efer, value & !EFER_LMA | old & EFER_LMA);
    Ok(())
}
