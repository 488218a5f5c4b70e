//! `#MC` while a guest ran: the hardware's complaint, never the guest's doing (INT 18 is no machine check).

use alloc::sync::Arc;

use radon_hw::machine_check::{self, Severity};

use crate::context::Context;
use crate::domain::Domain;
use crate::shutdown;
use crate::vcpu::Vcpu;

/// Corrected: a line in the log. Data lost: they were the guest's, which must not go on with what is left of them. The
/// processor itself is hit: the machine stops, before anything wrong is written to a disk.
pub fn handle(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &Context) {
    match machine_check::collect(|line| radon_hw::error!("{line}")) {
        Severity::Corrected => {}
        Severity::Uncorrected => shutdown::crash(domain, vcpu, context, "machine check"),
        Severity::Fatal => panic!("machine check while {}v{} was running", domain.id, vcpu.id.raw()),
    }
}
