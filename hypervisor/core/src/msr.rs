//! MSRs that guest and host share and no control structure switches.

use crate::context::Context;

const TSC_AUX: u32 = 0xc000_0103;

/// Loads what the guest reads without an exit (RDTSCP's TSC_AUX).
pub fn load_host_visible(context: &Context) {
    if radon_hw::cpu::features().rdtscp {
        radon_hw::msr::write(TSC_AUX, context.msrs.tsc_aux);
    }
}
