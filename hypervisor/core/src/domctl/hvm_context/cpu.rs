//! The CPU record: a vCPU's registers.

use radon_cpu::{Control, Descriptor, Event, EventKind, Gpr, Segment, SegmentReg};
use radon_hw::fpu::FpuState;
use xen_abi::Errno;
use xen_abi::hvm_save::{HvmHwCpu, XEN_X86_FPU_INITIALISED};
use zerocopy::FromZeros;

use crate::context::Context;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
/// x87 and SSE in the XSAVE header.
const XSTATE_LEGACY: u8 = 3;
/// Bytes of the FXSAVE image.
const FXSAVE: usize = 512;

/// The record of a vCPU; `tsc` is its time stamp counter now.
pub fn save(context: &Context, tsc: u64) -> HvmHwCpu {
    let b = context.backend.as_ref();
    let mut r = HvmHwCpu::new_zeroed();
    r.fpu_regs.iter_mut().zip(context.fpu.bytes()).for_each(|(to, from)| *to = *from);
    for (reg, slot) in gprs(&mut r) {
        *slot = b.gpr(reg);
    }
    r.rip = b.rip();
    r.rflags = b.rflags();
    for (control, slot) in controls(&mut r) {
        *slot = b.control(control);
    }
    for (name, slot) in segments(&mut r) {
        let s = b.segment(name);
        *slot.selector = s.selector.into();
        *slot.limit = s.limit;
        *slot.base = s.base;
        *slot.attributes = s.attributes.into();
    }
    (r.gdtr_base, r.gdtr_limit) = b.descriptor_table(Descriptor::Gdt);
    (r.idtr_base, r.idtr_limit) = b.descriptor_table(Descriptor::Idt);
    r.msr_tsc_aux = context.msrs.tsc_aux;
    r.tsc = tsc;
    if let Some(event) = context.pending {
        (r.pending_event, r.error_code) = encode(event);
    }
    r.flags = XEN_X86_FPU_INITIALISED;
    r
}

/// Takes a record over. `EINVAL` for what no processor can be in.
pub fn load(context: &mut Context, mut r: HvmHwCpu, physical_bits: u8) -> Result<(), Errno> {
    let cr0_ok = r.cr0 >> 32 == 0 && r.cr0 & CR0_ET != 0 && r.cr0 & (CR0_PE | CR0_PG) != CR0_PG;
    let cr3_ok = r.cr3 >> physical_bits.min(63) == 0;
    if r._pad0 != 0 || !cr0_ok || !cr3_ok || r.cr4 >> 32 != 0 || r.flags & !XEN_X86_FPU_INITIALISED != 0 {
        return Err(Errno::EINVAL);
    }
    *context.fpu = FpuState::new();
    if r.flags & XEN_X86_FPU_INITIALISED != 0 {
        let mut area = [0u8; FXSAVE + 1];
        if let Some((header, image)) = area.split_last_mut() {
            image.copy_from_slice(&r.fpu_regs);
            *header = XSTATE_LEGACY;
        }
        context.fpu.load(&area).ok_or(Errno::EINVAL)?;
    }
    context.pending = decode(r.pending_event, r.error_code);
    context.halted = false;
    context.msrs.tsc_aux = r.msr_tsc_aux;
    let b = context.backend.as_mut();
    for (reg, slot) in gprs(&mut r) {
        b.set_gpr(reg, *slot);
    }
    b.set_rip(r.rip);
    b.set_rflags(r.rflags);
    for (control, slot) in controls(&mut r) {
        b.set_control(control, *slot);
    }
    for (name, slot) in segments(&mut r) {
        let s = Segment {
            selector: *slot.selector as u16,
            attributes: (*slot.attributes & 0xfff) as u16,
            limit: *slot.limit,
            base: *slot.base,
        };
        b.set_segment(name, s);
    }
    b.set_descriptor_table(Descriptor::Gdt, r.gdtr_base, r.gdtr_limit & 0xffff);
    b.set_descriptor_table(Descriptor::Idt, r.idtr_base, r.idtr_limit & 0xffff);
    b.flush_tlb();
    context.fetch = Default::default();
    context.initialised = true;
    Ok(())
}

/// General registers and their places in the record.
fn gprs(r: &mut HvmHwCpu) -> [(Gpr, &mut u64); 16] {
    [
        (Gpr::Rax, &mut r.rax),
        (Gpr::Rbx, &mut r.rbx),
        (Gpr::Rcx, &mut r.rcx),
        (Gpr::Rdx, &mut r.rdx),
        (Gpr::Rbp, &mut r.rbp),
        (Gpr::Rsi, &mut r.rsi),
        (Gpr::Rdi, &mut r.rdi),
        (Gpr::Rsp, &mut r.rsp),
        (Gpr::R8, &mut r.r8),
        (Gpr::R9, &mut r.r9),
        (Gpr::R10, &mut r.r10),
        (Gpr::R11, &mut r.r11),
        (Gpr::R12, &mut r.r12),
        (Gpr::R13, &mut r.r13),
        (Gpr::R14, &mut r.r14),
        (Gpr::R15, &mut r.r15),
    ]
}

/// Control registers and their places. EFER first: the meaning of the others depends on it.
fn controls(r: &mut HvmHwCpu) -> [(Control, &mut u64); 19] {
    [
        (Control::Efer, &mut r.msr_efer),
        (Control::Cr0, &mut r.cr0),
        (Control::Cr2, &mut r.cr2),
        (Control::Cr3, &mut r.cr3),
        (Control::Cr4, &mut r.cr4),
        (Control::Dr0, &mut r.dr0),
        (Control::Dr1, &mut r.dr1),
        (Control::Dr2, &mut r.dr2),
        (Control::Dr3, &mut r.dr3),
        (Control::Dr6, &mut r.dr6),
        (Control::Dr7, &mut r.dr7),
        (Control::SysenterCs, &mut r.sysenter_cs),
        (Control::SysenterEsp, &mut r.sysenter_esp),
        (Control::SysenterEip, &mut r.sysenter_eip),
        (Control::KernelGsBase, &mut r.shadow_gs),
        (Control::Lstar, &mut r.msr_lstar),
        (Control::Star, &mut r.msr_star),
        (Control::Cstar, &mut r.msr_cstar),
        (Control::Sfmask, &mut r.msr_syscall_mask),
    ]
}

/// The four fields of one segment register.
struct SegmentSlot<'a> {
    selector: &'a mut u32,
    limit: &'a mut u32,
    base: &'a mut u64,
    attributes: &'a mut u32,
}

/// Segment registers and their places; attributes are the packed 12 bits, as in the VMCB.
fn segments(r: &mut HvmHwCpu) -> [(SegmentReg, SegmentSlot<'_>); 8] {
    macro_rules! slot {
        ($selector:ident $limit:ident $base:ident $attributes:ident) => {
            SegmentSlot {
                selector: &mut r.$selector,
                limit: &mut r.$limit,
                base: &mut r.$base,
                attributes: &mut r.$attributes,
            }
        };
    }
    [
        (SegmentReg::Cs, slot!(cs_sel cs_limit cs_base cs_arbytes)),
        (SegmentReg::Ds, slot!(ds_sel ds_limit ds_base ds_arbytes)),
        (SegmentReg::Es, slot!(es_sel es_limit es_base es_arbytes)),
        (SegmentReg::Fs, slot!(fs_sel fs_limit fs_base fs_arbytes)),
        (SegmentReg::Gs, slot!(gs_sel gs_limit gs_base gs_arbytes)),
        (SegmentReg::Ss, slot!(ss_sel ss_limit ss_base ss_arbytes)),
        (SegmentReg::Tr, slot!(tr_sel tr_limit tr_base tr_arbytes)),
        (SegmentReg::Ldtr, slot!(ldtr_sel ldtr_limit ldtr_base ldtr_arbytes)),
    ]
}

/// `pending_event` has the form of the VMCB's EVENTINJ (APM vol. 2, 15.20).
const EVENT_VALID: u32 = 1 << 31;
const EVENT_HAS_CODE: u32 = 1 << 11;

fn encode(event: Event) -> (u32, u32) {
    let kind = match event.kind {
        EventKind::Interrupt => 0,
        EventKind::Nmi => 2,
        EventKind::Exception => 3,
        EventKind::Software => 4,
    };
    let code = if event.code.is_some() { EVENT_HAS_CODE } else { 0 };
    (u32::from(event.vector) | kind << 8 | code | EVENT_VALID, event.code.unwrap_or(0))
}

fn decode(raw: u32, code: u32) -> Option<Event> {
    if raw & EVENT_VALID == 0 {
        return None;
    }
    let kind = match raw >> 8 & 7 {
        0 => EventKind::Interrupt,
        2 => EventKind::Nmi,
        3 => EventKind::Exception,
        4 => EventKind::Software,
        _ => return None,
    };
    Some(Event { kind, vector: raw as u8, code: (raw & EVENT_HAS_CODE != 0).then_some(code) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive() {
        for event in [
            Event::interrupt(0x30),
            Event::NMI,
            Event::UNDEFINED,
            Event::PROTECTION,
            Event::exception(14, Some(7)),
        ] {
            let (raw, code) = encode(event);
            assert_eq!(decode(raw, code), Some(event));
        }
        assert_eq!(decode(0x30, 0), None);
        assert_eq!(encode(Event::PROTECTION).0, 0x8000_0b0d);
    }
}
