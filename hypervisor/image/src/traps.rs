//! Exceptions of the hypervisor and interrupts from devices.
#![allow(unsafe_code)] // called from assembly

use crate::crash;
use core::arch::global_asm;
use radon_hw::{cr, extable, irq};

global_asm!(include_str!("traps.S"), options(att_syntax));

/// The registers at an exception or interrupt, as `traps.S` pushes them.
#[repr(C)]
#[allow(missing_docs)] // the registers' names say it
#[derive(Clone, Copy, Debug)]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const VECTOR_NMI: u64 = 2;
const VECTOR_GENERAL_PROTECTION: u64 = 13;
const VECTOR_PAGE_FAULT: u64 = 14;
const FIRST_EXTERNAL: u64 = 32;

/// Called by every stub.
#[unsafe(no_mangle)]
extern "C" fn trap_dispatch(frame: &mut TrapFrame) {
    match frame.vector {
        FIRST_EXTERNAL.. => irq::dispatch(frame.vector as u8),
        VECTOR_NMI => crash::on_nmi(frame),
        VECTOR_GENERAL_PROTECTION | VECTOR_PAGE_FAULT => match extable::lookup(frame.rip) {
            Some(fixup) => frame.rip = fixup,
            None => crash::fatal_trap(frame, cr::read_cr2()),
        },
        _ => crash::fatal_trap(frame, cr::read_cr2()),
    }
}

/// The name of an exception (APM volume 2, table 8-1).
pub fn name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error (#DE)",
        1 => "debug (#DB)",
        2 => "non-maskable interrupt",
        3 => "breakpoint (#BP)",
        4 => "overflow (#OF)",
        5 => "bound range (#BR)",
        6 => "invalid opcode (#UD)",
        7 => "device not available (#NM)",
        8 => "double fault (#DF)",
        10 => "invalid TSS (#TS)",
        11 => "segment not present (#NP)",
        12 => "stack (#SS)",
        13 => "general protection (#GP)",
        14 => "page fault (#PF)",
        16 => "x87 floating point (#MF)",
        17 => "alignment check (#AC)",
        18 => "machine check (#MC)",
        19 => "SIMD floating point (#XF)",
        21 => "control protection (#CP)",
        28 => "hypervisor injection (#HV)",
        29 => "VMM communication (#VC)",
        30 => "security (#SX)",
        _ => "reserved exception",
    }
}
