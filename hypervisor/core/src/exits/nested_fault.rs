//! Nested page faults: emulated registers, stale rights, device memory of the hardware domain, or nothing at all.

use alloc::sync::Arc;

use radon_cpu::{Access, NestedFault};

use radon_p2m::Kind;

use crate::context::Context;
use crate::domain::Domain;
use crate::vcpu::Vcpu;
use crate::{hardware, log_dirty, pod, shutdown};

use super::mmio;

/// Handles a nested page fault.
pub fn handle(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context, fault: NestedFault) {
    if let Some(entry) = domain.lookup(fault.gpa.gfn()) {
        let allowed = match fault.access {
            Access::Read => true,
            Access::Write => entry.kind.writable(),
            Access::Execute => entry.kind.executable(),
        };
        if allowed || fault.access == Access::Write && log_dirty::touch(domain, fault.gpa.gfn()) {
            // Another vCPU gave the right since; this one's translation is stale.
            context.backend.flush_tlb();
            return;
        }
        // Writes to read-only memory are dropped, as on Xen.
        let read_only = matches!(entry.kind, Kind::RamRo | Kind::GrantRo);
        if fault.access == Access::Write && read_only && mmio::emulate(domain, vcpu, context, fault) {
            return;
        }
        refuse(domain, vcpu, context, fault, "access its memory type forbids");
        return;
    }
    if pod::populate(domain, fault.gpa.gfn()) {
        return;
    }
    if pod::is_marked(domain, fault.gpa.gfn()) {
        refuse(domain, vcpu, context, fault, "more memory touched than it has (populate on demand)");
        return;
    }
    if fault.table_walk {
        refuse(domain, vcpu, context, fault, "page table outside its memory");
        return;
    }
    if vcpu.apic.lock().claims(fault.gpa.raw()) || hardware::claims(domain, fault.gpa) {
        if mmio::emulate(domain, vcpu, context, fault) {
            return;
        }
        refuse(domain, vcpu, context, fault, "instruction that cannot be emulated on a register");
        return;
    }
    if hardware::map_device_memory(domain, fault.gpa) {
        return;
    }
    // An empty place: reads give ones, writes vanish, as on a bus where nobody answers.
    if fault.access != Access::Execute && mmio::emulate(domain, vcpu, context, fault) {
        return;
    }
    refuse(domain, vcpu, context, fault, "access to nothing");
}

fn refuse(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &Context, fault: NestedFault, why: &str) {
    radon_hw::guest!("{}v{} {:?} of {:x}", domain.id, vcpu.id.raw(), fault.access, fault.gpa);
    shutdown::crash(domain, vcpu, context, why);
}
