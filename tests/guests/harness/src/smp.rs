//! The second vCPU of a child domain.

use crate::{apic, cpu, memory, time, trap};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

static SEVERAL: AtomicBool = AtomicBool::new(false);
static MAIN: AtomicUsize = AtomicUsize::new(0);
static STARTED: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    static ap_start16: u8;
    static ap_end16: u8;
    static ap_stack: AtomicU64;
    fn ap_entry64();
    static page_pml4: u8;
}

/// Guest physical address of the start-up code of further CPUs.
pub const TRAMPOLINE: u64 = 0x8000;

/// Whether more than one vCPU has run.
pub fn several() -> bool {
    SEVERAL.load(Ordering::Relaxed)
}

/// Number of this vCPU, by Xen's CPUID leaf.
pub fn vcpu_id() -> u32 {
    cpu::cpuid(0x4000_0004, 0)[1]
}

/// How many further CPUs have come up so far.
pub fn started() -> u32 {
    STARTED.load(Ordering::SeqCst)
}

/// Prepares the start of a CPU that shall run `main` (with interrupts off, its own stack, x2APIC as it is after reset).
pub fn prepare(main: fn()) {
    let stack = memory::Page::new();
    for _ in 0..3 {
        // The pool gives pages in a row, so this is one stack.
        memory::Page::new();
    }
    SEVERAL.store(true, Ordering::SeqCst);
    MAIN.store(main as usize, Ordering::SeqCst);
    // SAFETY: the variable and the code are the boot code's.
    unsafe { ap_stack.store(stack.at(4 * memory::PAGE), Ordering::SeqCst) };
    let start = (&raw const ap_start16) as u64;
    memory::copy(TRAMPOLINE, start, (&raw const ap_end16) as u64 - start);
}

/// Entry and page table for a CPU that is started directly in 64-bit mode.
pub fn entry() -> (u64, u64) {
    (ap_entry64 as *const () as u64, (&raw const page_pml4) as u64)
}

/// Starts the CPU with that APIC id by INIT and start-up interrupts; whether it came up within a second.
pub fn start_by_apic(id: u32) -> bool {
    let before = started();
    apic::command(id, 0x4500);
    time::sleep_ms(10);
    apic::command(id, 0x4600 | (TRAMPOLINE >> 12) as u32);
    if !time::wait(200, || started() > before) {
        apic::command(id, 0x4600 | (TRAMPOLINE >> 12) as u32);
    }
    time::wait(2000, || started() > before)
}

#[unsafe(no_mangle)]
extern "C" fn harness_ap_start() -> ! {
    trap::load_idt();
    STARTED.fetch_add(1, Ordering::SeqCst);
    let main = MAIN.load(Ordering::SeqCst);
    if main != 0 {
        // SAFETY: only `prepare` stores here.
        let main = unsafe { core::mem::transmute::<usize, fn()>(main) };
        main();
    }
    loop {
        cpu::sti_halt();
    }
}
