//! MOV to and from control registers. None is intercepted with nested paging; an unexpected one is emulated for CR8 only.

use alloc::sync::Arc;

use radon_cpu::CrAccess;

use crate::context::Context;
use crate::domain::Domain;
use crate::shutdown;
use crate::vcpu::Vcpu;

/// Handles an intercepted control-register access.
pub fn handle(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context, access: CrAccess) {
    radon_hw::guest!("{} unexpected access to CR{}", domain.id, access.number);
    shutdown::crash(domain, vcpu, context, "unexpected control-register exit");
}
