//! Emulation of the one instruction that touched an emulated register page.

use alloc::sync::Arc;
use core::cell::Cell;

use radon_addr::{Gpa, Gva};
use radon_cpu::{Control, Event, Gpr, NestedFault, SegmentReg};
use radon_decode::{MemoryOp, Operation, Regs, SegmentBases, decode_memory_access};
use radon_hw::time;
use radon_p2m::Kind;

use crate::context::Context;
use crate::domain::Domain;
use crate::guest_access::{self, AddressSpace};
use crate::vcpu::Vcpu;
use crate::{apic, hardware, inject, pod};

/// One end of an emulated access.
#[derive(Clone, Copy)]
enum Operand {
    /// Emulated registers, or nothing.
    Registers(Gpa),
    /// The guest's memory, at a linear address: what is not aligned goes on in another page, which can lie anywhere.
    Memory(Gva),
}

/// An access that the guest's page tables forbid.
#[derive(Clone, Copy)]
struct Refused {
    at: Gva,
    write: bool,
}

/// The guest whose instruction is emulated.
struct Machine<'a> {
    domain: &'a Arc<Domain>,
    vcpu: &'a Arc<Vcpu>,
    space: AddressSpace,
    refused: Cell<Option<Refused>>,
}

/// Emulates the instruction at RIP whose memory operand is `fault.gpa`. False: it cannot be emulated.
pub fn emulate(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context, fault: NestedFault) -> bool {
    inject::sync_tpr_from_guest(vcpu, context);
    let (bytes, n) = super::fetch(domain, context);
    let mode = super::decode_mode(context);
    let Some(op) = bytes.get(..n).and_then(|b| decode_memory_access(b, mode).ok()) else { return false };
    let mut regs = load(context);
    let bases = bases(context);
    let before = regs;
    let machine = Machine { domain, vcpu, space: AddressSpace::of(context), refused: Cell::new(None) };
    let from = Gva::new(op.linear(&regs, &bases));
    let (source, destination) = if matches!(op.operation, Operation::Movs { .. }) {
        // One of the two operands may be ordinary memory.
        let to = Gva::new(op.linear_destination(&regs, &bases));
        (machine.operand(from, false), machine.operand(to, true))
    } else if domain.ram_at(fault.gpa, false).is_some() {
        // Memory that cannot be written.
        (Operand::Memory(from), Operand::Registers(fault.gpa))
    } else {
        (Operand::Registers(fault.gpa), Operand::Registers(fault.gpa))
    };
    op.execute(
        &mut regs,
        |size| machine.read(source, size),
        |size, value| machine.write(destination, size, value),
    );
    if let Some(refused) = machine.refused.get() {
        let code = u32::from(refused.write) << 1 | u32::from(guest_access::is_user(&machine.space)) << 2;
        context.backend.set_control(Control::Cr2, refused.at.raw());
        context.raise(Event::exception(14, Some(code)));
        return true;
    }
    inject::apic_written(vcpu, context);
    store(context, &before, &regs, &op);
    true
}

impl Machine<'_> {
    /// What lies at a linear address.
    fn operand(&self, at: Gva, write: bool) -> Operand {
        let is_memory = |gpa: Gpa| {
            self.domain.ram_at(gpa, write).is_some()
                || pod::is_marked(self.domain, gpa.gfn())
                || self.domain.lookup(gpa.gfn()).is_some_and(|e| e.kind == Kind::RamLogdirty)
        };
        match guest_access::translate(self.domain, &self.space, at, write) {
            // Memory that it may not write among them: what is written there vanishes.
            Some(gpa) if !is_memory(gpa) => Operand::Registers(gpa),
            // Also what cannot be reached: it is refused when it is accessed.
            _ => Operand::Memory(at),
        }
    }

    fn read(&self, operand: Operand, size: u8) -> u64 {
        let gpa = match operand {
            Operand::Registers(gpa) => gpa,
            Operand::Memory(at) => {
                let mut bytes = [0u8; 8];
                let part = bytes.get_mut(..usize::from(size)).unwrap_or_default();
                if guest_access::load(self.domain, &self.space, at, part).is_err() {
                    self.refused.set(Some(Refused { at, write: false }));
                }
                return u64::from_le_bytes(bytes);
            }
        };
        {
            let apic = self.vcpu.apic.lock();
            if apic.claims(gpa.raw()) {
                return apic.read(gpa.offset() as u32, size, time::now());
            }
        }
        let ones = u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)));
        hardware::mmio_read(self.domain, gpa, size).unwrap_or(ones)
    }

    fn write(&self, operand: Operand, size: u8, value: u64) {
        if self.refused.get().is_some() {
            return;
        }
        let gpa = match operand {
            Operand::Registers(gpa) => gpa,
            Operand::Memory(at) => {
                let bytes = value.to_le_bytes();
                let part = bytes.get(..usize::from(size)).unwrap_or_default();
                if guest_access::store(self.domain, &self.space, at, part).is_err() {
                    self.refused.set(Some(Refused { at, write: true }));
                }
                return;
            }
        };
        // Memory that cannot be written: as on a bus where nobody answers.
        if self.domain.ram_at(gpa, false).is_some() {
            return;
        }
        let effect = {
            let mut apic = self.vcpu.apic.lock();
            apic.claims(gpa.raw()).then(|| apic.write(gpa.offset() as u32, size, value, time::now()))
        };
        match effect {
            Some(effect) => apic::apply(self.domain, self.vcpu, effect),
            None => hardware::mmio_write(self.domain, gpa, size, value),
        }
    }
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
