//! The end: a bug of ours or of the machine. Report it on the console, stop the other CPUs, restart or halt.
#![allow(unsafe_code)] // reads raw stacks, stops CPUs

use crate::symbols;
use crate::traps::{self, TrapFrame};
use core::arch::asm;
use core::panic::PanicInfo;
use core::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};
use radon_cmdline::RebootMethod;
use radon_hw::{console, cpu, cr, heartbeat, ipi, machine_check, port, reset};

/// 1 + the id of the CPU that reports the crash.
static REPORTER: AtomicU32 = AtomicU32::new(0);
/// `noreboot`: stay halted.
static HALT_AFTER: AtomicBool = AtomicBool::new(false);
/// `reboot=`: the method to begin with (a [`RebootMethod`]).
static METHOD: AtomicU8 = AtomicU8::new(RebootMethod::Default as u8);
/// `radon-selftest`: leave the emulator instead.
static SELFTEST: AtomicBool = AtomicBool::new(false);

/// QEMU's `isa-debug-exit` device; the emulator's exit status becomes `value * 2 + 1`.
const DEBUG_EXIT_PORT: u16 = 0xf4;

macro_rules! say {
    ($($arg:tt)*) => { console::print(format_args!("{}\n", format_args!($($arg)*))) };
}

/// What to do after a crash.
pub fn configure(noreboot: bool, method: RebootMethod, selftest: bool) {
    METHOD.store(method as u8, Relaxed);
    HALT_AFTER.store(noreboot, Relaxed);
    SELFTEST.store(selftest, Relaxed);
}

/// Leaves the emulator, when there is one and it listens.
pub fn exit_emulator(ok: bool) {
    port::out32(DEBUG_EXIT_PORT, if ok { 0x10 } else { 0x11 });
}

/// Become the CPU that reports; others wait for ever. A second crash of the same CPU gives up.
fn begin() {
    // SAFETY: masking interrupts is always allowed.
    unsafe { asm!("cli", options(nomem, nostack)) };
    let me = cpu::this().raw() + 1;
    match REPORTER.compare_exchange(0, me, AcqRel, Acquire) {
        Ok(_) => {}
        Err(first) if first == me => {
            console::print(format_args!("\nCrash while reporting a crash; stopped.\n"));
            end();
        }
        Err(_) => cpu::halt_forever(),
    }
    console::force_unlock();
    ipi::nmi_others();
}

fn end() -> ! {
    if SELFTEST.load(Relaxed) {
        exit_emulator(false);
    }
    if HALT_AFTER.load(Relaxed) {
        say!("\nManual reset required ('noreboot' specified)");
        cpu::halt_forever();
    }
    say!("\nReboot in five seconds...");
    let until = radon_hw::time::now().saturating_add(5_000 * radon_addr::Ns::MS);
    while radon_hw::time::now() < until {
        cpu::pause();
    }
    reboot()
}

/// Restarts the machine. The ACPI register, whose place only the tables say, is left to an orderly restart.
pub fn reboot() -> ! {
    let method = METHOD.load(Relaxed);
    let is = |m: RebootMethod| method == m as u8;
    let wait = || (0..1_000_000).for_each(|_| cpu::pause());
    if is(RebootMethod::Keyboard) {
        reset::keyboard();
        wait();
    }
    if !is(RebootMethod::Triple) {
        reset::pci(is(RebootMethod::Power));
        wait();
        reset::keyboard();
        wait();
    }
    reset::triple_fault()
}

/// An NMI: another CPU is crashing, or the hardware complains.
pub fn on_nmi(frame: &TrapFrame) {
    let reporter = REPORTER.load(Acquire);
    if reporter != 0 && reporter != cpu::this().raw() + 1 {
        cpu::halt_forever();
    }
    if reporter == 0 && heartbeat::accuses_me() {
        begin();
        say!("\n----[ Radon {} ]----", env!("CARGO_PKG_VERSION"));
        report(frame, 0);
        say!("\n****************************************");
        say!("Panic on CPU {}:", cpu::this().raw());
        say!("FATAL TRAP: vector = 2 (nmi): the watchdog found that this CPU hangs");
        say!("****************************************");
        end();
    }
    // A crash may have happened with the console locked by the interrupted code: a report must not wait for it.
    if reporter == 0 && port::in8(0x61) & 0xc0 != 0 {
        begin();
        say!("NMI - memory or I/O error (port 0x61 = {:#x})", port::in8(0x61));
        report(frame, 0);
        end();
    }
}

/// An exception that nobody expected.
pub fn fatal_trap(frame: &TrapFrame, cr2: u64) -> ! {
    begin();
    say!("\n----[ Radon {} ]----", env!("CARGO_PKG_VERSION"));
    report(frame, cr2);
    if frame.vector == 18 {
        // The processor is stopped in any case: what it interrupted is the hypervisor.
        machine_check::collect(|line| say!("{line}"));
    }
    say!("\n****************************************");
    say!("Panic on CPU {}:", cpu::this().raw());
    say!(
        "FATAL TRAP: vector = {} {}, error code {:#06x}",
        frame.vector,
        traps::name(frame.vector),
        frame.error
    );
    if frame.vector == 14 {
        say!("Faulting linear address: {cr2:016x}");
    }
    say!("****************************************");
    end()
}

fn report(f: &TrapFrame, cr2: u64) {
    say!("CPU:    {}", cpu::this().raw());
    say!("RIP:    {:04x}:[<{:016x}>] {}", f.cs, f.rip, symbols::Symbol(f.rip));
    say!("RFLAGS: {:016x}   error {:x}", f.rflags, f.error);
    say!("rax: {:016x}   rbx: {:016x}   rcx: {:016x}", f.rax, f.rbx, f.rcx);
    say!("rdx: {:016x}   rsi: {:016x}   rdi: {:016x}", f.rdx, f.rsi, f.rdi);
    say!("rbp: {:016x}   rsp: {:016x}   r8:  {:016x}", f.rbp, f.rsp, f.r8);
    say!("r9:  {:016x}   r10: {:016x}   r11: {:016x}", f.r9, f.r10, f.r11);
    say!("r12: {:016x}   r13: {:016x}   r14: {:016x}", f.r12, f.r13, f.r14);
    say!("r15: {:016x}   cr0: {:016x}   cr4: {:016x}", f.r15, cr::read_cr0(), cr::read_cr4());
    say!("cr3: {:016x}   cr2: {cr2:016x}", cr::read_cr3());
    say!("Call trace:");
    say!("   [<{:016x}>] {}", f.rip, symbols::Symbol(f.rip));
    backtrace(f.rbp, f.rsp);
}

/// Follows the chain of frame pointers up the stack.
fn backtrace(mut rbp: u64, rsp: u64) {
    let mut low = rsp;
    for _ in 0..40 {
        // A frame lies above the last one, on the same stack, aligned.
        if rbp < low || rbp - low > crate::paging::STACK_BYTES || !rbp.is_multiple_of(8) {
            return;
        }
        // SAFETY: a little above memory of the running stack; in the worst case a nested fault ends the report.
        let (next, ret) = unsafe { ((rbp as *const u64).read(), (rbp as *const u64).add(1).read()) };
        if !crate::layout::is_code(ret) {
            return;
        }
        say!("   [<{ret:016x}>] {}", symbols::Symbol(ret.wrapping_sub(1)));
        (low, rbp) = (rbp + 16, next);
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    begin();
    let (rbp, rsp): (u64, u64);
    // SAFETY: reads two registers.
    unsafe { asm!("mov {}, rbp", "mov {}, rsp", out(reg) rbp, out(reg) rsp, options(nomem, nostack)) };
    say!("\n****************************************");
    say!("Panic on CPU {}:", cpu::this().raw());
    say!("{}", info.message());
    if let Some(at) = info.location() {
        say!("at {}:{}", at.file(), at.line());
    }
    say!("Call trace:");
    backtrace(rbp, rsp);
    say!("****************************************");
    end()
}
