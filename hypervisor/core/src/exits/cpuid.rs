//! CPUID: the domain's policy, with the few bits that follow the vCPU's own state.

use alloc::sync::Arc;

use radon_cpu::{Control, Gpr};
use radon_decode::Kind;

use crate::context::Context;
use crate::domain::Domain;
use crate::vcpu::Vcpu;

/// Handles CPUID.
pub fn handle(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context) {
    let b = &context.backend;
    let (leaf, subleaf) = (b.gpr(Gpr::Rax) as u32, b.gpr(Gpr::Rcx) as u32);
    let state = radon_policy::VcpuState {
        vcpu: vcpu.id.raw(),
        apic_id: vcpu.id.raw().wrapping_mul(2),
        cr4: b.control(Control::Cr4),
        xcr0: context.xcr0,
        xss: context.msrs.xss,
        long_mode: b.mode() == radon_cpu::Mode::Long,
        domid: domain.id.raw(),
        apic_enabled: vcpu.apic.lock().hardware_enabled(),
    };
    let [a, bx, c, d] = domain.policy.read().cpuid(leaf, subleaf, &state);
    let b = &mut context.backend;
    b.set_gpr(Gpr::Rax, u64::from(a));
    b.set_gpr(Gpr::Rbx, u64::from(bx));
    b.set_gpr(Gpr::Rcx, u64::from(c));
    b.set_gpr(Gpr::Rdx, u64::from(d));
    super::advance(domain, vcpu, context, Kind::Cpuid);
}
