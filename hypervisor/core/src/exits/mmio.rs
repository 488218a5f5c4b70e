//! Emulation of the one instruction that touched an emulated register page.

use alloc::sync::Arc;

use radon_addr::{Gpa, Maddr};
use radon_cpu::{Gpr, NestedFault, SegmentReg};
use radon_decode::{MemoryOp, Operation, Regs, SegmentBases, decode_memory_access};
use radon_hw::{mem, time};

use crate::context::Context;
use crate::domain::Domain;
use crate::guest_access::{self, AddressSpace};
use crate::vcpu::Vcpu;
use crate::{apic, hardware, inject};

/// Emulates the instruction at RIP whose memory operand is `fault.gpa`. False: it cannot be emulated.
pub fn emulate(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context, fault: NestedFault) -> bool {
    inject::sync_tpr_from_guest(vcpu, context);
    let (bytes, n) = super::fetch(domain, context);
    let mode = super::decode_mode(context);
    let Some(op) = bytes.get(..n).and_then(|b| decode_memory_access(b, mode).ok()) else { return false };
    let mut regs = load(context);
    let bases = bases(context);
    let before = regs;
    // For MOVS one of the two operands may be ordinary memory.
    let (source, destination) = if matches!(op.operation, Operation::Movs { .. }) {
        let space = AddressSpace::of(context);
        let locate = |linear: u64, write: bool| {
            guest_access::translate(domain, &space, radon_addr::Gva::new(linear), write)
        };
        match (locate(op.linear(&regs, &bases), false), locate(op.linear_destination(&regs, &bases), true)) {
            (Some(s), Some(d)) => (s, d),
            _ => return false,
        }
    } else {
        (fault.gpa, fault.gpa)
    };
    op.execute(
        &mut regs,
        |size| access_read(domain, vcpu, source, size),
        |size, value| access_write(domain, vcpu, destination, size, value),
    );
    inject::apic_written(vcpu, context);
    store(context, &before, &regs, &op);
    true
}

fn access_read(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, gpa: Gpa, size: u8) -> u64 {
    let bits = 8 * u32::from(size.min(8));
    let ones = if bits >= 64 { u64::MAX } else { (1u64 << bits) - 1 };
    if let Some(maddr) = domain.ram_at(gpa, false) {
        return read_ram(maddr, size);
    }
    {
        let apic = vcpu.apic.lock();
        if apic.claims(gpa.raw()) {
            return apic.read(gpa.offset() as u32, size, time::now());
        }
    }
    hardware::mmio_read(domain, gpa, size).unwrap_or(ones)
}

fn access_write(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, gpa: Gpa, size: u8, value: u64) {
    if let Some(maddr) = domain.ram_at(gpa, true) {
        mem::write_bytes(maddr, value.to_le_bytes().get(..usize::from(size)).unwrap_or(&[]));
        return;
    }
    let effect = {
        let mut apic = vcpu.apic.lock();
        apic.claims(gpa.raw()).then(|| apic.write(gpa.offset() as u32, size, value, time::now()))
    };
    match effect {
        Some(effect) => apic::apply(domain, vcpu, effect),
        None => hardware::mmio_write(domain, gpa, size, value),
    }
}

fn read_ram(maddr: Maddr, size: u8) -> u64 {
    let mut bytes = [0u8; 8];
    if let Some(part) = bytes.get_mut(..usize::from(size)) {
        mem::read_bytes(maddr, part);
    }
    u64::from_le_bytes(bytes)
}

fn load(context: &Context) -> Regs {
    let b = &context.backend;
    Regs { gpr: Gpr::ALL.map(|r| b.gpr(r)), rip: b.rip(), rflags: b.rflags() }
}

fn bases(context: &Context) -> SegmentBases {
    let base = |s| context.backend.segment(s).base;
    SegmentBases {
        es: base(SegmentReg::Es),
        cs: base(SegmentReg::Cs),
        ss: base(SegmentReg::Ss),
        ds: base(SegmentReg::Ds),
        fs: base(SegmentReg::Fs),
        gs: base(SegmentReg::Gs),
    }
}

fn store(context: &mut Context, before: &Regs, after: &Regs, _op: &MemoryOp) {
    for (r, (old, new)) in Gpr::ALL.into_iter().zip(before.gpr.into_iter().zip(after.gpr)) {
        if old != new {
            context.backend.set_gpr(r, new);
        }
    }
    context.backend.set_rflags(after.rflags);
    super::retire(context, after.rip);
}
