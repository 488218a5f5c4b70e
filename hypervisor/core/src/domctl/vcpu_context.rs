//! `XEN_DOMCTL_{get,set}vcpucontext`: a vCPU's registers for debugging tools (`xenctx`, core dumps) and for the return
//! value of a cancelled suspend; and the related extended state and MSR operations, which are PV guests'.

use alloc::boxed::Box;
use alloc::sync::Arc;

use radon_cpu::{Backend, Control, Gpr, SegmentReg};
use xen_abi::Errno;
use xen_abi::arch_x86::{VGCF_I387_VALID, VGCF_IN_KERNEL, VGCF_ONLINE, VcpuGuestContext};
use xen_abi::domctl::{Domctl, DomctlVcpucontext};
use zerocopy::{FromZeros, IntoBytes};

use super::{Outcome, Result, not_myself, vcpu};
use crate::context::Context;
use crate::domain::Domain;
use crate::hypercall::Caller;
use crate::{run, vcpu_state};

/// `XEN_DOMCTL_getvcpucontext`.
pub fn get(caller: &Caller<'_>, domain: &Arc<Domain>, op: &Domctl) -> Result {
    let asked: DomctlVcpucontext = op.payload();
    let v = vcpu(domain, asked.vcpu).map_err(|_| Errno::EINVAL)?;
    if Arc::ptr_eq(v, caller.vcpu) {
        return Err(Errno::EINVAL);
    }
    run::pause_vcpu(v);
    let copied = {
        let mut context = v.context.lock_nested();
        vcpu_state::settle_startup(v, &mut context);
        context.initialised.then(|| registers(&context, v.is_up()))
    };
    run::unpause_vcpu(v);
    let registers = copied.ok_or(Errno::ENODATA)??;
    caller.copy_out(asked.ctxt.raw(), registers.as_bytes())?;
    Ok(Outcome::Back)
}

fn registers(context: &Context, up: bool) -> Result<Box<VcpuGuestContext>> {
    let b = &context.backend;
    let mut c = Box::new(VcpuGuestContext::new_zeroed());
    c.flags = VGCF_I387_VALID | VGCF_IN_KERNEL | if up { VGCF_ONLINE } else { 0 };
    c.fpu_ctxt.iter_mut().zip(context.fpu.bytes()).for_each(|(to, from)| *to = *from);
    let u = &mut c.user_regs;
    u.rax = b.gpr(Gpr::Rax);
    u.rbx = b.gpr(Gpr::Rbx);
    u.rcx = b.gpr(Gpr::Rcx);
    u.rdx = b.gpr(Gpr::Rdx);
    u.rsi = b.gpr(Gpr::Rsi);
    u.rdi = b.gpr(Gpr::Rdi);
    u.rbp = b.gpr(Gpr::Rbp);
    u.rsp = b.gpr(Gpr::Rsp);
    u.r8 = b.gpr(Gpr::R8);
    u.r9 = b.gpr(Gpr::R9);
    u.r10 = b.gpr(Gpr::R10);
    u.r11 = b.gpr(Gpr::R11);
    u.r12 = b.gpr(Gpr::R12);
    u.r13 = b.gpr(Gpr::R13);
    u.r14 = b.gpr(Gpr::R14);
    u.r15 = b.gpr(Gpr::R15);
    u.rip = b.rip();
    u.rflags = b.rflags();
    let selector = |s| b.segment(s).selector;
    u.cs = selector(SegmentReg::Cs);
    u.ss = selector(SegmentReg::Ss);
    u.ds = selector(SegmentReg::Ds);
    u.es = selector(SegmentReg::Es);
    u.fs = selector(SegmentReg::Fs);
    u.gs = selector(SegmentReg::Gs);
    let [cr0, _, cr2, cr3, cr4, ..] = &mut c.ctrlreg;
    *cr0 = b.control(Control::Cr0);
    *cr2 = b.control(Control::Cr2);
    *cr3 = b.control(Control::Cr3);
    *cr4 = b.control(Control::Cr4);
    let [dr0, dr1, dr2, dr3, .., dr6, dr7] = &mut c.debugreg;
    *dr0 = b.control(Control::Dr0);
    *dr1 = b.control(Control::Dr1);
    *dr2 = b.control(Control::Dr2);
    *dr3 = b.control(Control::Dr3);
    *dr6 = b.control(Control::Dr6);
    *dr7 = b.control(Control::Dr7);
    c.fs_base = b.segment(SegmentReg::Fs).base;
    // Which of the two is the user's depends on the guest's mode; Xen shows GS here and the shadow there.
    let (gs, shadow) = (b.segment(SegmentReg::Gs).base, b.control(Control::KernelGsBase));
    let kernel = b.segment(SegmentReg::Ss).dpl() == 0;
    (c.gs_base_kernel, c.gs_base_user) = if kernel { (gs, shadow) } else { (shadow, gs) };
    Ok(c)
}

/// `XEN_DOMCTL_setvcpucontext`: of an HVM vCPU only the general registers, as Xen does it.
pub fn set(caller: &Caller<'_>, domain: &Arc<Domain>, op: &Domctl) -> Result {
    not_myself(caller, domain)?;
    let asked: DomctlVcpucontext = op.payload();
    let v = vcpu(domain, asked.vcpu).map_err(|_| Errno::EINVAL)?;
    if asked.ctxt.is_null() {
        // "Reset this vCPU": not needed by any tool for a PVH guest.
        return Err(Errno::EOPNOTSUPP);
    }
    let mut c = Box::new(VcpuGuestContext::new_zeroed());
    caller.copy_in(asked.ctxt.raw(), c.as_mut_bytes())?;
    run::pause_domain(domain);
    {
        let mut context = v.context.lock_nested();
        v.set_startup(None);
        load(context.backend.as_mut(), &c);
        context.initialised = true;
    }
    v.set_up(c.flags & VGCF_ONLINE != 0);
    run::unpause_domain(domain);
    run::reschedule(v);
    Ok(Outcome::Done)
}

fn load(b: &mut dyn Backend, c: &VcpuGuestContext) {
    let u = &c.user_regs;
    for (r, value) in [
        (Gpr::Rax, u.rax),
        (Gpr::Rbx, u.rbx),
        (Gpr::Rcx, u.rcx),
        (Gpr::Rdx, u.rdx),
        (Gpr::Rsi, u.rsi),
        (Gpr::Rdi, u.rdi),
        (Gpr::Rbp, u.rbp),
        (Gpr::Rsp, u.rsp),
        (Gpr::R8, u.r8),
        (Gpr::R9, u.r9),
        (Gpr::R10, u.r10),
        (Gpr::R11, u.r11),
        (Gpr::R12, u.r12),
        (Gpr::R13, u.r13),
        (Gpr::R14, u.r14),
        (Gpr::R15, u.r15),
    ] {
        b.set_gpr(r, value);
    }
    b.set_rip(u.rip);
    b.set_rflags(u.rflags);
}

/// `XEN_DOMCTL_getvcpuextstate`: an HVM guest's is part of its HVM context.
pub fn get_extended(_domain: &Arc<Domain>, _op: &Domctl) -> Result {
    Err(Errno::EINVAL)
}

/// `XEN_DOMCTL_{get,set}_vcpu_msrs`: likewise.
pub fn msrs(_domain: &Arc<Domain>, _op: &Domctl) -> Result {
    Err(Errno::EINVAL)
}
