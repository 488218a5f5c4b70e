//! The simulated machine: knobs and records for tests.
//!
//! RAM is shared by the whole process (use [`fresh_ram`] for frames that no other test touches). Everything else (clock,
//! kicks, armed timer, console capture, MSRs, CPU identity) belongs to the calling host thread, which counts as one CPU, so
//! tests that run in parallel do not disturb each other.

pub(crate) mod ram;
pub(crate) mod thread;

use crate::cpu::MAX_CPUS;
use radon_addr::{CpuId, Maddr, Mfn, Ns};
use std::sync::atomic::{AtomicBool, Ordering};

/// Makes `[base, base + len)` RAM (whole pages, zeroed when first touched). RAM that is already there stays.
pub fn add_ram(base: Maddr, len: u64) {
    ram::add(base, len);
}

/// First of `pages` contiguous RAM frames that nobody else uses (at and above 1 TiB).
pub fn fresh_ram(pages: u64) -> Mfn {
    ram::fresh(pages)
}

/// Sets this thread's clock.
pub fn set_now(now: Ns) {
    thread::with(|t| t.now.set(now.raw()));
}

/// Makes this thread's time that of a clock that goes by itself, within hypercalls too.
pub fn follow(clock: fn() -> Ns) {
    thread::with(|t| t.clock.set(Some(clock)));
}

/// Moves this thread's clock forward.
pub fn advance(ns: u64) {
    thread::with(|t| t.now.set(t.now.get().saturating_add(ns)));
}

/// The deadline this thread armed last.
pub fn armed() -> Option<Ns> {
    thread::with(|t| t.armed.get())
}

/// CPUs kicked by this thread since the last call.
pub fn take_kicks() -> Vec<CpuId> {
    thread::with(|t| t.kicks.take())
}

/// Kicks that wait to be noticed by the thread that is this CPU.
static KICKED: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

pub(crate) fn kick(cpu: CpuId) {
    thread::with(|t| t.kicks.borrow_mut().push(cpu));
    if let Some(kicked) = KICKED.get(cpu.index()) {
        kicked.store(true, Ordering::SeqCst);
    }
}

/// Has any thread kicked this CPU since the last call? What would make a guest exit.
pub fn kicked() -> bool {
    let me = thread::with(|t| t.cpu.get());
    KICKED.get(me as usize).is_some_and(|k| k.swap(false, Ordering::SeqCst))
}

/// What this thread wrote to the console since the last call.
pub fn take_console() -> Vec<u8> {
    thread::with(|t| t.console.take())
}

/// Queues a byte for this thread's `console::read`.
pub fn type_console(bytes: &[u8]) {
    thread::with(|t| t.input.borrow_mut().extend(bytes));
}

/// Makes an interrupt pending on this CPU; `irq::window()` delivers it.
pub fn raise(vector: u8) {
    thread::with(|t| t.pending.borrow_mut().push_back(vector));
}

/// Makes the calling thread be this CPU.
pub fn set_this(cpu: CpuId) {
    thread::with(|t| t.cpu.set(cpu.raw()));
}

/// Gives an MSR a value on this thread (others do not exist).
pub fn set_msr(index: u32, value: u64) {
    thread::with(|t| t.msrs.borrow_mut().insert(index, value));
}

/// Sets what reading a port gives on this thread (default: all ones).
pub fn set_port(port: u16, value: u32) {
    thread::with(|t| t.ports.borrow_mut().insert(port, value));
}

/// Port writes `(port, bytes, value)` of this thread since the last call.
pub fn take_port_writes() -> Vec<(u16, u8, u32)> {
    thread::with(|t| t.port_writes.take())
}
