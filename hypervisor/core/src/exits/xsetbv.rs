//! XSETBV: the guest chooses its extended-state components (APM vol. 2, 11.5.2).

use alloc::sync::Arc;

use radon_cpu::{Event, Gpr};
use radon_decode::Kind;

use crate::context::Context;
use crate::domain::Domain;
use crate::vcpu::Vcpu;

/// Handles XSETBV.
pub fn handle(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context) {
    let b = &context.backend;
    let value = b.gpr(Gpr::Rdx) << 32 | b.gpr(Gpr::Rax) & 0xffff_ffff;
    let allowed = domain.policy.read().xcr0_mask();
    let valid = radon_hw::fpu::valid_xcr0(value) && value & !allowed == 0;
    if b.cpl() != 0 || b.gpr(Gpr::Rcx) as u32 != 0 || !valid {
        context.raise(Event::PROTECTION);
        return;
    }
    context.fpu.set_xcr0(value);
    context.xcr0 = value;
    super::advance(domain, vcpu, context, Kind::Xsetbv);
}
