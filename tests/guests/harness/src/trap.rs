//! Descriptor tables, exceptions that tests provoke, interrupts that they count.

use crate::apic;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// What a trap stub leaves on the stack.
#[allow(missing_docs, reason = "registers under their own names")]
#[repr(C)]
pub struct Frame {
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

/// An exception.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Its vector.
    pub vector: u8,
    /// Its error code, or 0.
    pub error: u32,
    /// CR2 if it is a page fault.
    pub address: u64,
    /// Where it was raised.
    pub rip: u64,
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Fault { vector, error, address, rip } = self;
        write!(f, "exception {vector} error {error:#x} address {address:#x} at {rip:#x}")
    }
}

/// Vectors of exceptions.
#[allow(missing_docs, reason = "the architecture's names")]
pub mod vector {
    pub const UD: u8 = 6;
    pub const NMI: u8 = 2;
    pub const GP: u8 = 13;
    pub const PF: u8 = 14;
    /// Software interrupt by which user code returns.
    pub const USER_RETURN: u8 = 0x81;
}

/// A handler. It runs with interrupts off.
pub type Handler = fn(&mut Frame);

static HANDLERS: [AtomicUsize; 256] = [const { AtomicUsize::new(0) }; 256];
static COUNTS: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];
static ACKNOWLEDGE: [AtomicBool; 256] = [const { AtomicBool::new(false) }; 256];
/// Stack pointer of the innermost [`catch`], or 0.
static CATCH: AtomicU64 = AtomicU64::new(0);
static FAULT: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
/// Initial APIC id of the CPU that took each vector last.
static TAKER: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];

unsafe extern "C" {
    static trap_stubs: u8;
    static gdt_tss: [AtomicU64; 2];
    static trap_stack: u8;
    fn user_return();
    fn guard_call(context: *mut u64, f: unsafe extern "C" fn(*mut u8), argument: *mut u8) -> u64;
    fn guard_resume();
    fn guard_jump(stack: u64) -> !;
}

#[repr(C, align(16))]
struct Idt([[AtomicU64; 2]; 256]);
static IDT: Idt = Idt([const { [const { AtomicU64::new(0) }; 2] }; 256]);

#[repr(C, align(16))]
struct Tss([AtomicU32; 26]);
static TSS: Tss = Tss([const { AtomicU32::new(0) }; 26]);

fn gate(vector: usize, address: u64, privilege: u64) {
    let low =
        (address & 0xffff) | (0x08 << 16) | (0x8e00 | privilege << 13) << 32 | (address >> 16 & 0xffff) << 48;
    IDT.0[vector][0].store(low, Ordering::Relaxed);
    IDT.0[vector][1].store(address >> 32, Ordering::Relaxed);
}

pub(crate) fn init() {
    for vector in 0..256_usize {
        gate(vector, (&raw const trap_stubs) as u64 + 16 * vector as u64, 0);
    }
    gate(usize::from(vector::USER_RETURN), user_return as *const () as u64, 3);
    let stack = (&raw const trap_stack) as u64;
    TSS.0[1].store(stack as u32, Ordering::Relaxed);
    TSS.0[2].store((stack >> 32) as u32, Ordering::Relaxed);
    // Beyond the limit: no I/O permission bitmap.
    TSS.0[25].store(104 << 16, Ordering::Relaxed);
    let base = TSS.0.as_ptr() as u64;
    let low = 103 | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
    // SAFETY: the descriptor is the boot code's, written only here, before it is loaded.
    unsafe {
        gdt_tss[0].store(low, Ordering::Relaxed);
        gdt_tss[1].store(base >> 32, Ordering::Relaxed);
    }
    load_idt();
    // SAFETY: the descriptor was just made.
    unsafe { asm!("ltr {0:x}", in(reg) 0x30) };
}

/// Loads the interrupt table on this CPU.
pub(crate) fn load_idt() {
    #[repr(C, packed)]
    struct Pointer(u16, u64);
    let pointer = Pointer(4095, IDT.0.as_ptr() as u64);
    // SAFETY: the table is complete and static.
    unsafe { asm!("lidt [{}]", in(reg) &pointer) };
}

/// Interrupts or exceptions of `vector` taken so far.
pub fn count(vector: u8) -> u32 {
    COUNTS[usize::from(vector)].load(Ordering::Relaxed)
}

/// Initial APIC id of the CPU that took `vector` last.
pub fn taker(vector: u8) -> u32 {
    TAKER[usize::from(vector)].load(Ordering::Relaxed)
}

/// Calls `handler` at each interrupt of `vector`.
pub fn handle(vector: u8, handler: Handler) {
    HANDLERS[usize::from(vector)].store(handler as usize, Ordering::Relaxed);
}

/// Whether interrupts of `vector` come from the local APIC, to be acknowledged there after the handler.
pub fn acknowledge(vector: u8, yes: bool) {
    ACKNOWLEDGE[usize::from(vector)].store(yes, Ordering::Relaxed);
}

#[unsafe(no_mangle)]
extern "C" fn harness_trap(frame: &mut Frame) {
    let vector = (frame.vector & 0xff) as usize;
    COUNTS[vector].fetch_add(1, Ordering::Relaxed);
    if vector >= 32 || vector == usize::from(vector::NMI) {
        if crate::smp::several() {
            TAKER[vector].store(apic::initial_id(), Ordering::Relaxed);
        }
        let handler = HANDLERS[vector].load(Ordering::Relaxed);
        if handler != 0 {
            // SAFETY: only `handle` stores here.
            let handler = unsafe { core::mem::transmute::<usize, Handler>(handler) };
            handler(frame);
        }
        if ACKNOWLEDGE[vector].load(Ordering::Relaxed) {
            apic::eoi();
        }
        return;
    }
    let address: u64;
    // SAFETY: reads CR2.
    unsafe { asm!("mov {}, cr2", out(reg) address) };
    FAULT[0].store(vector as u64, Ordering::Relaxed);
    FAULT[1].store(frame.error, Ordering::Relaxed);
    FAULT[2].store(address, Ordering::Relaxed);
    FAULT[3].store(frame.rip, Ordering::Relaxed);
    let resume = CATCH.load(Ordering::Relaxed);
    if resume != 0 {
        frame.rip = guard_resume as *const () as u64;
        frame.rsp = resume;
        frame.cs = 0x08;
        frame.ss = 0x10;
        return;
    }
    crate::verdict::abandon(format_args!("unexpected {}", last_fault()));
}

/// The exception raised last.
pub fn last_fault() -> Fault {
    let [vector, error, address, rip] = FAULT.each_ref().map(|f| f.load(Ordering::Relaxed));
    let vector = vector as u8;
    Fault { vector, error: error as u32, address: if vector == vector::PF { address } else { 0 }, rip }
}

/// Runs `f`; an exception in it ends it. What `f` owns is leaked then.
pub fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Fault> {
    let before = CATCH.load(Ordering::Relaxed);
    let mut result = None;
    let done = guarded(&CATCH, || result = Some(f()));
    CATCH.store(before, Ordering::Relaxed);
    match result {
        Some(value) if done => Ok(value),
        _ => Err(last_fault()),
    }
}

/// Runs `f` with the way back out of it in `slot`; false if it was left by that way.
pub(crate) fn guarded<F: FnOnce()>(slot: &AtomicU64, f: F) -> bool {
    unsafe extern "C" fn call<F: FnOnce()>(argument: *mut u8) {
        // SAFETY: `guarded` passes its own closure, once.
        if let Some(f) = unsafe { (*argument.cast::<Option<F>>()).take() } {
            f();
        }
    }
    let mut f = Some(f);
    // SAFETY: the context is written before the call, and used while this frame lives: the slot is reset by our callers.
    unsafe { guard_call(slot.as_ptr(), call::<F>, (&raw mut f).cast()) == 0 }
}

/// Leaves what [`guarded`] runs.
pub(crate) fn leave(stack: u64) -> ! {
    // SAFETY: `stack` was stored by a `guarded` that is still active: single-threaded, and callers reset the slot.
    unsafe { guard_jump(stack) }
}

/// Forgets a [`catch`] that was left by other means.
pub(crate) fn reset_catch() {
    CATCH.store(0, Ordering::Relaxed);
}
