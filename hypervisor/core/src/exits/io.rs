//! I/O ports. A guest's ports lead nowhere: reads are all ones, writes vanish. The hardware domain reaches the machine's
//! ports directly but for those the hypervisor keeps (PCI configuration, PIC, PIT, its UART), which exit.

use alloc::sync::Arc;

use radon_addr::Gva;
use radon_cpu::{Control, Event, Gpr, IoAccess, Mode, SegmentReg};

use crate::context::Context;
use crate::domain::Domain;
use crate::guest_access::{self, AddressSpace};
use crate::hardware;
use crate::vcpu::Vcpu;

/// Handles IN, OUT, INS and OUTS.
pub fn handle(domain: &Arc<Domain>, _vcpu: &Arc<Vcpu>, context: &mut Context, access: IoAccess) {
    if access.string {
        string(domain, context, access);
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

/// Bytes moved by INS or OUTS before the guest may be interrupted.
const STRING_MAX: u64 = 4096;

/// INS/OUTS: nobody answers on these ports, so INS stores ones and OUTS goes nowhere. Long repetitions are done in pieces.
fn string(domain: &Domain, context: &mut Context, access: IoAccess) {
    let size = u64::from(access.size);
    let b = &context.backend;
    let left = if access.rep { b.gpr(Gpr::Rcx) & width_mask(context) } else { 1 };
    let n = left.min(STRING_MAX / size);
    let down = b.rflags() & DIRECTION != 0;
    let index = if access.input { Gpr::Rdi } else { Gpr::Rsi };
    let start = b.gpr(index) & width_mask(context);
    let bytes = n.saturating_mul(size);
    if access.input && n > 0 {
        let base = if b.mode() == Mode::Long { 0 } else { b.segment(SegmentReg::Es).base };
        let first = if down { start.wrapping_sub(bytes.saturating_sub(size)) } else { start };
        let at = Gva::new(base.wrapping_add(first));
        let ones = [0xff; STRING_MAX as usize];
        let space = AddressSpace::of(context);
        if guest_access::copy_out(domain, &space, at, ones.get(..bytes as usize).unwrap_or(&[])).is_err() {
            context.backend.set_control(Control::Cr2, at.raw());
            context.raise(Event::exception(14, Some(2)));
            return;
        }
    }
    let moved = if down { start.wrapping_sub(bytes) } else { start.wrapping_add(bytes) };
    context.backend.set_gpr(index, moved & width_mask(context));
    if access.rep {
        context.backend.set_gpr(Gpr::Rcx, left - n);
    }
    if n == left || !access.rep {
        super::retire(context, access.next_rip);
    }
}

/// RFLAGS.DF.
const DIRECTION: u64 = 1 << 10;

/// Bits of an index register that count.
fn width_mask(context: &Context) -> u64 {
    match context.backend.mode() {
        Mode::Long => u64::MAX,
        Mode::Protected32 => 0xffff_ffff,
        Mode::Real | Mode::Protected16 => 0xffff,
    }
}
