//! What to do about an exit: one file a reason.

use alloc::sync::Arc;

use radon_addr::{Gva, PAGE_SHIFT};
use radon_cpu::{Control, Event, Exit, Mode, SegmentReg};
use radon_decode::{Kind, length_of};
use radon_hw::mem;

use crate::context::{Context, FetchMemo};
use crate::domain::Domain;
use crate::guest_access::{self, AddressSpace};
use crate::vcpu::Vcpu;
use crate::{hypercall, shutdown};

mod cpuid;
mod cr;
mod halt;
mod io;
mod machine_check;
pub mod mmio;
mod msr;
mod nested_fault;
mod xsetbv;

/// Handles one exit.
pub fn handle(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context, exit: Exit) {
    match exit {
        Exit::Hypercall => hypercall::dispatch(domain, vcpu, context),
        Exit::Msr { write } => msr::handle(domain, vcpu, context, write),
        Exit::Cpuid => cpuid::handle(domain, vcpu, context),
        Exit::Io(access) => io::handle(domain, vcpu, context, access),
        Exit::Hlt => halt::handle(domain, vcpu, context),
        Exit::NestedFault(fault) => nested_fault::handle(domain, vcpu, context, fault),
        Exit::InterruptWindow | Exit::Interrupt | Exit::Nmi | Exit::DebugRegister => {}
        Exit::Cr(access) => cr::handle(domain, vcpu, context, access),
        Exit::CacheFlush => {
            // Memory of guests without devices is coherent; the whole machine would wait for what it does to all caches.
            if domain.config.hardware {
                radon_hw::cpu::write_back_caches();
            }
            advance(domain, vcpu, context, Kind::Wbinvd);
        }
        Exit::Xsetbv => xsetbv::handle(domain, vcpu, context),
        Exit::ReadTsc { .. } => context.raise(Event::UNDEFINED),
        Exit::Pause => advance(domain, vcpu, context, Kind::Pause),
        Exit::Monitor | Exit::Virtualisation => context.raise(Event::UNDEFINED),
        Exit::Exception { vector, code, address } => exception(domain, vcpu, context, vector, code, address),
        Exit::Shutdown => shutdown::triple_fault(domain, vcpu, context),
        Exit::Invalid => shutdown::crash(domain, vcpu, context, "invalid guest state"),
        Exit::HostState => shutdown::crash(domain, vcpu, context, "its state was lost by the processor"),
        Exit::Other(code) => {
            radon_hw::guest!("{} unexpected exit {code:#x}", domain.id);
            shutdown::crash(domain, vcpu, context, "unexpected exit");
        }
    }
}

/// Exceptions are intercepted only to keep a guest from locking the processor up in their delivery: #DB and #AC go back
/// to the guest; #MC is the machine's.
fn exception(
    domain: &Arc<Domain>,
    vcpu: &Arc<Vcpu>,
    context: &mut Context,
    vector: u8,
    code: Option<u32>,
    address: u64,
) {
    match vector {
        18 => machine_check::handle(domain, vcpu, context),
        14 => {
            context.backend.set_control(Control::Cr2, address);
            context.raise(Event::exception(14, code));
        }
        _ => context.raise(Event::exception(vector, code)),
    }
}

/// Steps over the intercepted instruction. Where the processor does not save the next RIP, its bytes are read and their
/// length computed. A guest that changed the bytes meanwhile gets `#GP`; one whose code page is gone, a page fault.
#[inline]
pub fn advance(domain: &Arc<Domain>, _vcpu: &Arc<Vcpu>, context: &mut Context, kind: Kind) {
    if let Some(next) = context.backend.next_rip() {
        retire(context, next);
        return;
    }
    let mode = context.backend.mode();
    match instruction_length(domain, context, kind, mode) {
        Some(length) => {
            let next = after(context, mode, length);
            retire(context, next);
        }
        None => context.raise(Event::PROTECTION),
    }
}

/// RIP after an instruction of `length` bytes, wrapped to the width of the code segment.
pub fn next_rip(context: &Context, length: u8) -> u64 {
    after(context, context.backend.mode(), length)
}

#[inline]
fn after(context: &Context, mode: Mode, length: u8) -> u64 {
    let next = context.backend.rip().wrapping_add(u64::from(length));
    if mode == Mode::Long { next } else { next & 0xffff_ffff }
}

/// An emulated instruction is complete: RIP moves on, the STI/MOV SS shadow ends, a single step traps.
pub fn retire(context: &mut Context, next: u64) {
    let b = &mut context.backend;
    b.set_rip(next);
    b.clear_interrupt_shadow();
    let flags = b.rflags();
    if flags & (radon_cpu::rflags::RF | radon_cpu::rflags::TF) != 0 {
        b.set_rflags(flags & !radon_cpu::rflags::RF);
        if flags & radon_cpu::rflags::TF != 0 {
            let dr6 = b.control(Control::Dr6);
            b.set_control(Control::Dr6, dr6 | 1 << 14);
            context.raise(Event::exception(1, None));
        }
    }
}

/// The mode in the decoder's terms.
pub fn decode_mode(context: &Context) -> radon_decode::Mode {
    width_of(context.backend.mode())
}

#[inline]
fn width_of(mode: Mode) -> radon_decode::Mode {
    match mode {
        Mode::Long => radon_decode::Mode::Bits64,
        Mode::Protected32 => radon_decode::Mode::Bits32,
        Mode::Real | Mode::Protected16 => radon_decode::Mode::Bits16,
    }
}

/// Linear address of the instruction.
#[inline]
fn linear_rip(context: &Context, mode: Mode) -> u64 {
    let rip = context.backend.rip();
    if mode == Mode::Long {
        rip
    } else {
        context.backend.segment(SegmentReg::Cs).base.wrapping_add(rip) & 0xffff_ffff
    }
}

#[inline]
fn instruction_length(domain: &Domain, context: &mut Context, kind: Kind, mode: Mode) -> Option<u8> {
    by_memo(domain, context, kind, mode).or_else(|| by_walk(domain, context, kind, mode))
}

#[cold]
fn by_walk(domain: &Domain, context: &mut Context, kind: Kind, mode: Mode) -> Option<u8> {
    let (bytes, n) = fetch(domain, context);
    length_of(kind, bytes.get(..n)?, width_of(mode)).ok()
}

/// Reads the instruction through the memo of the last fetch. Whatever lies there counts only if it is the very
/// instruction that the exit reported; otherwise the full walk decides.
#[inline]
fn by_memo(domain: &Domain, context: &Context, kind: Kind, mode: Mode) -> Option<u8> {
    let memo = &context.fetch;
    let linear = linear_rip(context, mode);
    let offset = linear & 0xfff;
    if memo.page != linear >> PAGE_SHIFT
        || offset > 0xff0
        || memo.cr3 != context.backend.control(Control::Cr3)
    {
        return None;
    }
    // Without the p2m's lock the frame could go to somebody else between this look and the read. Then its bytes are only
    // compared with the opcode that the exit reported, and the guest learns at most what its own instruction's length is.
    if memo.generation != domain.tlb_generation.load(core::sync::atomic::Ordering::SeqCst) {
        return None;
    }
    let at = radon_addr::Maddr::new(memo.maddr?.raw() + offset);
    let word = mem::read::<u64>(at).to_le_bytes();
    length_of(kind, &word, width_of(mode)).ok()
}

/// Reads up to 15 bytes at RIP and remembers the page.
pub fn fetch(domain: &Domain, context: &mut Context) -> ([u8; 15], usize) {
    let (bytes, n) = context.backend.fetched_bytes();
    if n > 0 {
        return (bytes, n);
    }
    let mut bytes = [0; 15];
    let space = AddressSpace::of(context);
    let linear = linear_rip(context, context.backend.mode());
    let generation = domain.tlb_generation.load(core::sync::atomic::Ordering::SeqCst);
    let (n, first) = guest_access::fetch(domain, &space, Gva::new(linear), &mut bytes);
    context.fetch = FetchMemo {
        cr3: context.backend.control(Control::Cr3),
        page: linear >> PAGE_SHIFT,
        generation,
        maddr: first.map(|m| m.mfn().maddr()),
    };
    (bytes, n)
}
