//! Initial and saved register state of vCPUs: INIT/start-up IPIs, `VCPUOP_initialise`, the PVH boot state, and the
//! CPU record of the toolstack's HVM context.

use alloc::sync::Arc;

use radon_cpu::{Backend, Control, Descriptor, Gpr, Segment, SegmentReg};
use xen_abi::Errno;
use xen_abi::vcpu::{VCPU_HVM_MODE_32B, VCPU_HVM_MODE_64B, VcpuHvmContext, VcpuHvmX8632, VcpuHvmX8664};

use crate::context::Context;
use crate::domain::Domain;
use crate::run;
use crate::vcpu::Vcpu;

/// Flat segments: attributes in VMCB form.
const CODE32: u16 = 0xc9b;
const DATA32: u16 = 0xc93;
const CODE64: u16 = 0xa9b;
const TSS_BUSY: u16 = 0x8b;
const LDT: u16 = 0x82;

const ALL_DATA: [SegmentReg; 5] =
    [SegmentReg::Ds, SegmentReg::Es, SegmentReg::Ss, SegmentReg::Fs, SegmentReg::Gs];

fn flat(attributes: u16, selector: u16) -> Segment {
    Segment { selector, attributes, limit: 0xffff_ffff, base: 0 }
}

fn clear_gprs(b: &mut dyn Backend) {
    for r in Gpr::ALL {
        b.set_gpr(r, 0);
    }
}

/// State at the PVH entry point (docs/misc/pvh in the public headers): 32-bit protected mode, no paging, flat
/// segments, EBX = address of the start info.
pub fn pvh_entry(context: &mut Context, entry: u64, start_info: u64) {
    let b = context.backend.as_mut();
    clear_gprs(b);
    b.set_gpr(Gpr::Rbx, start_info);
    b.set_rip(entry);
    b.set_rflags(radon_cpu::rflags::FIXED);
    b.set_control(Control::Cr0, 0x11); // PE | ET
    b.set_control(Control::Cr3, 0);
    b.set_control(Control::Cr4, 0);
    b.set_control(Control::Efer, 0);
    for s in ALL_DATA {
        b.set_segment(s, flat(DATA32, 0));
    }
    b.set_segment(SegmentReg::Cs, flat(CODE32, 0));
    b.set_segment(SegmentReg::Tr, Segment { selector: 0, attributes: TSS_BUSY, limit: 0x67, base: 0 });
    b.set_segment(SegmentReg::Ldtr, Segment { selector: 0, attributes: LDT, limit: 0, base: 0 });
    b.set_descriptor_table(Descriptor::Gdt, 0, 0);
    b.set_descriptor_table(Descriptor::Idt, 0, 0);
    context.initialised = true;
}

/// Acts on a start-up IPI that has come since the context was held last.
#[inline]
pub fn settle_startup(vcpu: &Vcpu, context: &mut Context) {
    if let Some(page) = vcpu.take_startup() {
        startup_ipi(context, page);
    }
}

/// State after a start-up IPI with this vector: real mode at `vector << 12` (APM vol. 2, 14.1.3 and 16.5).
#[cold]
fn startup_ipi(context: &mut Context, vector: u8) {
    let b = context.backend.as_mut();
    clear_gprs(b);
    b.set_rip(0);
    b.set_rflags(radon_cpu::rflags::FIXED);
    b.set_control(Control::Cr0, 0x10);
    b.set_control(Control::Cr2, 0);
    b.set_control(Control::Cr3, 0);
    b.set_control(Control::Cr4, 0);
    b.set_control(Control::Efer, 0);
    for dr in [Control::Dr0, Control::Dr1, Control::Dr2, Control::Dr3] {
        b.set_control(dr, 0);
    }
    b.set_control(Control::Dr6, 0xffff_0ff0);
    b.set_control(Control::Dr7, 0x400);
    let real = |selector: u16, attributes: u16| Segment {
        selector,
        attributes,
        limit: 0xffff,
        base: u64::from(selector) << 4,
    };
    for s in ALL_DATA {
        b.set_segment(s, real(0, 0x93));
    }
    b.set_segment(SegmentReg::Cs, real(u16::from(vector) << 8, 0x9b));
    b.set_segment(SegmentReg::Tr, Segment { selector: 0, attributes: TSS_BUSY, limit: 0xffff, base: 0 });
    b.set_segment(SegmentReg::Ldtr, Segment { selector: 0, attributes: LDT, limit: 0xffff, base: 0 });
    b.set_descriptor_table(Descriptor::Gdt, 0, 0xffff);
    b.set_descriptor_table(Descriptor::Idt, 0, 0xffff);
    // What the vCPU was about to take when it was stopped belongs to its former life.
    b.cancel_injection();
    b.clear_interrupt_shadow();
    context.pending = None;
    context.blocking = false;
    context.halted = false;
    context.initialised = true;
}

/// `VCPUOP_initialise`.
pub fn initialise(_domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, state: &VcpuHvmContext) -> Result<(), Errno> {
    if vcpu.is_up() {
        return Err(Errno::EEXIST);
    }
    let mut context = vcpu.context.try_lock().ok_or(Errno::EBUSY)?;
    if context.initialised {
        return Err(Errno::EEXIST);
    }
    match state.mode {
        VCPU_HVM_MODE_32B => initialise_32(&mut context, &state.payload::<VcpuHvmX8632>())?,
        VCPU_HVM_MODE_64B => initialise_64(&mut context, &state.payload::<VcpuHvmX8664>())?,
        _ => return Err(Errno::EINVAL),
    }
    context.initialised = true;
    Ok(())
}

fn initialise_32(context: &mut Context, s: &VcpuHvmX8632) -> Result<(), Errno> {
    const CR0_PE: u32 = 1;
    if s.cr0 & CR0_PE == 0 {
        return Err(Errno::EINVAL);
    }
    let b = context.backend.as_mut();
    clear_gprs(b);
    for (r, v) in [
        (Gpr::Rax, s.eax),
        (Gpr::Rcx, s.ecx),
        (Gpr::Rdx, s.edx),
        (Gpr::Rbx, s.ebx),
        (Gpr::Rsp, s.esp),
        (Gpr::Rbp, s.ebp),
        (Gpr::Rsi, s.esi),
        (Gpr::Rdi, s.edi),
    ] {
        b.set_gpr(r, u64::from(v));
    }
    b.set_rip(u64::from(s.eip));
    b.set_rflags(u64::from(s.eflags));
    b.set_control(Control::Cr0, u64::from(s.cr0));
    b.set_control(Control::Cr3, u64::from(s.cr3));
    b.set_control(Control::Cr4, u64::from(s.cr4));
    b.set_control(Control::Efer, s.efer);
    // Attributes are packed to 12 bits, as in the VMCB.
    let segment = |base: u32, limit: u32, ar: u16| Segment {
        selector: 0,
        attributes: ar & 0xfff,
        limit,
        base: u64::from(base),
    };
    b.set_segment(SegmentReg::Cs, segment(s.cs_base, s.cs_limit, s.cs_ar));
    b.set_segment(SegmentReg::Ds, segment(s.ds_base, s.ds_limit, s.ds_ar));
    b.set_segment(SegmentReg::Ss, segment(s.ss_base, s.ss_limit, s.ss_ar));
    b.set_segment(SegmentReg::Es, segment(s.es_base, s.es_limit, s.es_ar));
    b.set_segment(SegmentReg::Tr, segment(s.tr_base, s.tr_limit, s.tr_ar));
    for s in [SegmentReg::Fs, SegmentReg::Gs, SegmentReg::Ldtr] {
        b.set_segment(
            s,
            Segment {
                selector: 0,
                attributes: if s == SegmentReg::Ldtr { LDT } else { 0x93 },
                limit: 0xffff,
                base: 0,
            },
        );
    }
    Ok(())
}

fn initialise_64(context: &mut Context, s: &VcpuHvmX8664) -> Result<(), Errno> {
    const LMA_LME: u64 = 1 << 10 | 1 << 8;
    const PAE: u64 = 1 << 5;
    if s.cr0 & (1 << 31 | 1) != (1 << 31 | 1) || s.cr4 & PAE == 0 || s.efer & LMA_LME != LMA_LME {
        return Err(Errno::EINVAL);
    }
    let b = context.backend.as_mut();
    clear_gprs(b);
    for (r, v) in [
        (Gpr::Rax, s.rax),
        (Gpr::Rcx, s.rcx),
        (Gpr::Rdx, s.rdx),
        (Gpr::Rbx, s.rbx),
        (Gpr::Rsp, s.rsp),
        (Gpr::Rbp, s.rbp),
        (Gpr::Rsi, s.rsi),
        (Gpr::Rdi, s.rdi),
    ] {
        b.set_gpr(r, v);
    }
    b.set_rip(s.rip);
    b.set_rflags(s.rflags);
    b.set_control(Control::Cr0, s.cr0);
    b.set_control(Control::Cr3, s.cr3);
    b.set_control(Control::Cr4, s.cr4);
    b.set_control(Control::Efer, s.efer);
    for s in ALL_DATA {
        b.set_segment(s, flat(DATA32, 0));
    }
    b.set_segment(SegmentReg::Cs, flat(CODE64, 0));
    b.set_segment(SegmentReg::Tr, Segment { selector: 0, attributes: TSS_BUSY, limit: 0x67, base: 0 });
    b.set_segment(SegmentReg::Ldtr, Segment { selector: 0, attributes: LDT, limit: 0, base: 0 });
    Ok(())
}

/// `VCPUOP_up`.
pub fn bring_up(_domain: &Arc<Domain>, vcpu: &Arc<Vcpu>) -> Result<(), Errno> {
    if !vcpu.is_up() {
        let context = vcpu.context.try_lock().ok_or(Errno::EBUSY)?;
        if !context.initialised {
            return Err(Errno::EINVAL);
        }
        drop(context);
        vcpu.set_up(true);
        run::reschedule(vcpu);
    }
    Ok(())
}
