//! I/O ports. A guest's ports lead nowhere: reads are all ones, writes vanish. The hardware domain reaches the machine's
//! ports directly but for those the hypervisor keeps (PCI configuration, PIC, PIT, its UART), which exit.

use alloc::sync::Arc;

use radon_cpu::{Gpr, IoAccess};

use crate::context::Context;
use crate::domain::Domain;
use crate::hardware;
use crate::vcpu::Vcpu;

/// Handles IN, OUT, INS and OUTS.
pub fn handle(domain: &Arc<Domain>, _vcpu: &Arc<Vcpu>, context: &mut Context, access: IoAccess) {
    if access.string {
        string(context, access);
        return;
    }
    let mask = match access.size {
        1 => 0xff,
        2 => 0xffff,
        _ => 0xffff_ffff_u64,
    };
    let rax = context.backend.gpr(Gpr::Rax);
    if access.input {
        let value = hardware::port_read(domain, access.port, access.size) & mask;
        // A 32-bit IN zero-extends; smaller ones keep the rest of RAX.
        let merged = if access.size == 4 { value } else { rax & !mask | value };
        context.backend.set_gpr(Gpr::Rax, merged);
    } else {
        hardware::port_write(domain, access.port, access.size, rax & mask);
    }
    super::retire(context, access.next_rip);
}

/// INS/OUTS on a port that nobody claims: the whole repetition is done at once, with nothing moved (INS from an absent
/// device would store ones; no known guest does it).
fn string(context: &mut Context, access: IoAccess) {
    if access.rep {
        context.backend.set_gpr(Gpr::Rcx, 0);
    }
    super::retire(context, access.next_rip);
}
