//! The end of a domain's run: by its own wish, by a fault of its own, or by its watchdog.

use alloc::sync::Arc;

use radon_cpu::{Control, Gpr, SegmentReg};
use radon_hw::error;
use xen_abi::hvm_op::HVM_PARAM_TRIPLE_FAULT_REASON;
use xen_abi::sched::{
    SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SHUTDOWN_SUSPEND, SHUTDOWN_WATCHDOG,
};
use xen_abi::xen::VIRQ_DOM_EXC;

use crate::context::Context;
use crate::domain::Domain;
use crate::vcpu::Vcpu;
use crate::{events, run};

/// Shuts a domain down with a `SHUTDOWN_*` code. The hardware domain takes the machine with it.
pub fn shutdown(domain: &Arc<Domain>, code: u8) {
    // Whoever sees the shutdown may undo it, and then takes this pause back.
    domain.add_pause();
    if !domain.begin_shutdown(code) {
        run::unpause_domain(domain);
        return;
    }
    radon_hw::info!("{} shut down, reason {code} ({})", domain.id, name(code));
    if domain.config.hardware {
        crate::machine::hardware_domain_gone(code);
    }
    for v in domain.vcpus() {
        run::reschedule(v);
    }
    let suspend_port = domain.toolstack.lock().suspend_port;
    match suspend_port.filter(|_| domain.shutdown_code().map(u32::from) == Some(SHUTDOWN_SUSPEND)) {
        // A toolstack that waits for the suspend asked to be told by a channel of its own (`XEN_DOMCTL_subscribe`).
        Some(port) if port.raw() != 0 => drop(events::send(domain, port)),
        _ => events::send_global_virq(VIRQ_DOM_EXC),
    }
}

/// The domain did what no domain may do: shuts it down as crashed, with its registers in the log.
pub fn crash(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &Context, reason: &str) {
    error!("{}v{} crashed: {reason}", domain.id, vcpu.id.raw());
    dump(context);
    shutdown(domain, SHUTDOWN_CRASH as u8);
}

/// A triple fault: what the domain's `HVM_PARAM_TRIPLE_FAULT_REASON` says (a restart unless set), with its registers in the log.
pub fn triple_fault(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &Context) {
    error!("{}v{} triple fault", domain.id, vcpu.id.raw());
    dump(context);
    let code = domain.params.lock().get(HVM_PARAM_TRIPLE_FAULT_REASON);
    shutdown(domain, code.map_or(SHUTDOWN_CRASH as u8, |c| c as u8));
}

fn name(code: u8) -> &'static str {
    match u32::from(code) {
        SHUTDOWN_POWEROFF => "power-off",
        SHUTDOWN_REBOOT => "reboot",
        2 => "suspend",
        SHUTDOWN_CRASH => "crash",
        SHUTDOWN_WATCHDOG => "watchdog",
        5 => "soft reset",
        _ => "unknown",
    }
}

/// Registers of a vCPU, for the log.
pub fn dump(context: &Context) {
    let b = &context.backend;
    error!(
        "  rip {:04x}:{:016x} rflags {:08x} mode {:?} cpl {}",
        b.segment(SegmentReg::Cs).selector,
        b.rip(),
        b.rflags(),
        b.mode(),
        b.cpl()
    );
    for row in Gpr::ALL.chunks(4) {
        if let [a, c, d, e] = *row {
            error!(
                "  {a:?} {:016x} {c:?} {:016x} {d:?} {:016x} {e:?} {:016x}",
                b.gpr(a),
                b.gpr(c),
                b.gpr(d),
                b.gpr(e)
            );
        }
    }
    error!(
        "  cr0 {:08x} cr2 {:016x} cr3 {:016x} cr4 {:08x} efer {:x}",
        b.control(Control::Cr0),
        b.control(Control::Cr2),
        b.control(Control::Cr3),
        b.control(Control::Cr4),
        b.control(Control::Efer)
    );
}
