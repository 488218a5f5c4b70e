//! Instructions of the processor, as safe functions. Where one may fault, [`crate::trap::catch`] tells.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether hypercalls are made with VMCALL (Intel) rather than VMMCALL (AMD, Hygon).
pub(crate) static INTEL: AtomicBool = AtomicBool::new(false);

pub(crate) fn init() {
    let vendor = cpuid(0, 0);
    INTEL.store(vendor[1] == u32::from_le_bytes(*b"Genu"), Ordering::Relaxed);
}

/// Whether hypercalls are made with VMCALL.
pub fn is_intel() -> bool {
    INTEL.load(Ordering::Relaxed)
}

/// CPUID: `[eax, ebx, ecx, edx]`.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let r = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    [r.eax, r.ebx, r.ecx, r.edx]
}

/// RDMSR.
pub fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading an MSR touches no memory.
    // Aligned as WRMSR is.
    unsafe { asm!(".p2align 4", "rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// WRMSR. The guest's own business if it breaks it.
pub fn wrmsr(msr: u32, value: u64) {
    // SAFETY: tests write MSRs of a virtual CPU whose meaning for this code they know, or whose loss they expect.
    // Aligned, so that a hypervisor that reads the instruction never has to read two pages for it: figures would depend on that.
    unsafe {
        asm!(".p2align 4", "wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32)
    };
}

/// RDTSC, after all earlier instructions.
#[inline(always)]
pub fn tsc() -> u64 {
    // SAFETY: no memory is touched.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        core::arch::x86_64::_rdtsc()
    }
}

/// IN, 8 bits.
pub fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: ports of a PVH guest lead nowhere or to dom0's devices, none of which touches this guest's memory.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack)) };
    value
}

/// IN, 16 bits.
pub fn in16(port: u16) -> u16 {
    let value;
    // SAFETY: as in `in8`.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nostack)) };
    value
}

/// IN, 32 bits.
pub fn in32(port: u16) -> u32 {
    let value;
    // SAFETY: as in `in8`.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack)) };
    value
}

/// OUT, 8 bits.
pub fn out8(port: u16, value: u8) {
    // SAFETY: as in `in8`.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack)) };
}

/// OUT, 16 bits.
pub fn out16(port: u16, value: u16) {
    // SAFETY: as in `in8`.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nostack)) };
}

/// OUT, 32 bits.
pub fn out32(port: u16, value: u32) {
    // SAFETY: as in `in8`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack)) };
}

/// `rep insb`: reads `buffer.len()` bytes from a port.
pub fn ins8(port: u16, buffer: &mut [u8]) {
    // SAFETY: the instruction writes exactly the buffer.
    unsafe {
        asm!("rep insb", in("dx") port, inout("rdi") buffer.as_mut_ptr() => _, inout("rcx") buffer.len() => _);
    }
}

/// Interrupts off.
pub fn cli() {
    // SAFETY: changes the interrupt flag only.
    unsafe { asm!("cli") };
}

/// Interrupts on; what is pending is taken before this returns.
pub fn sti() {
    // SAFETY: handlers touch only atomics and what a test's handler touches.
    unsafe { asm!("sti", "nop") };
}

/// Whether interrupts are on.
pub fn interrupts_on() -> bool {
    let flags: u64;
    // SAFETY: reads the flags by way of the stack.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags) };
    flags & 0x200 != 0
}

/// HLT with interrupts as they are.
pub fn halt() {
    // SAFETY: waits.
    unsafe { asm!("hlt") };
}

/// `sti; hlt; cli`: sleeps until an interrupt. One that is pending already is taken after the HLT began.
pub fn sti_halt() {
    // SAFETY: waits.
    unsafe { asm!("sti", "hlt", "cli") };
}

/// PAUSE.
pub fn pause() {
    core::hint::spin_loop();
}

/// Adds one, with a lock, to the word that begins two bytes before the end of the page's first cache line.
pub fn split_lock_add(page: crate::Page) {
    // SAFETY: the word lies within a page of this guest that nobody has a reference to.
    unsafe { asm!("lock add dword ptr [{}], 1", in(reg) page.at(62), options(nostack)) };
}

/// An undefined instruction.
pub fn undefined() {
    // SAFETY: raises #UD.
    unsafe { asm!("ud2") };
}

/// Drops all translations of this CPU.
pub fn flush_tlb() {
    // SAFETY: loads CR3 with itself.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _) };
}

/// CR0.
pub fn cr0() -> u64 {
    let value;
    // SAFETY: a read.
    unsafe { asm!("mov {}, cr0", out(reg) value) };
    value
}

/// CR4.
pub fn cr4() -> u64 {
    let value;
    // SAFETY: a read.
    unsafe { asm!("mov {}, cr4", out(reg) value) };
    value
}

/// Sets CR4.
pub fn set_cr4(value: u64) {
    // SAFETY: tests set feature bits on which no code of the guest depends.
    unsafe { asm!("mov cr4, {}", in(reg) value) };
}

/// Registers around [`call`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "registers under their own names")]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
}

/// Calls code at an address, with these registers; it ends with RET and changes no others but rsi and rdi.
pub fn call(address: u64, regs: Registers) -> Registers {
    let Registers { mut rax, mut rbx, mut rcx, mut rdx } = regs;
    // SAFETY: tests call code that they wrote and that keeps the stated contract. rbx is the compiler's: it is swapped.
    unsafe {
        asm!(
            "xchg r9, rbx",
            "call r8",
            "xchg r9, rbx",
            in("r8") address,
            inout("r9") rbx,
            inout("rax") rax,
            inout("rcx") rcx,
            inout("rdx") rdx,
            out("rsi") _,
            out("rdi") _,
        );
    }
    Registers { rax, rbx, rcx, rdx }
}

/// Whether a hypercall made in user mode by VMMCALL (or VMCALL, if `intel`) came back, and with what.
pub fn user_hypercall(intel: bool) -> i64 {
    unsafe extern "C" {
        fn user_call(f: unsafe extern "C" fn(), save: *mut u64) -> i64;
        fn user_vmmcall();
        fn user_vmcall();
        static mut user_saved_stack: u64;
    }
    // SAFETY: single-threaded; the user code ends in the software interrupt that returns here.
    unsafe { user_call(if intel { user_vmcall } else { user_vmmcall }, &raw mut user_saved_stack) }
}

/// Sets DR0 to DR3 (no breakpoint is armed).
pub fn set_breakpoint_addresses(a: [u64; 4]) {
    // SAFETY: DR7 is as after reset, so the addresses mean nothing.
    unsafe {
        asm!("mov {0}, %dr0", "mov {1}, %dr1", "mov {2}, %dr2", "mov {3}, %dr3",
            in(reg) a[0], in(reg) a[1], in(reg) a[2], in(reg) a[3], options(att_syntax, nomem, nostack));
    }
}

/// DR0 to DR3.
pub fn breakpoint_addresses() -> [u64; 4] {
    let [a, b, c, d]: [u64; 4];
    // SAFETY: reads registers.
    unsafe {
        asm!("mov %dr0, {0}", "mov %dr1, {1}", "mov %dr2, {2}", "mov %dr3, {3}",
            out(reg) a, out(reg) b, out(reg) c, out(reg) d, options(att_syntax, nomem, nostack));
    }
    [a, b, c, d]
}

/// Fills XMM0 to XMM15 with a pattern, MXCSR and the x87 control word with roundings that follow from it. Code of this target
/// uses none of them, so they stay until the next call, if the hypervisor keeps them.
pub fn fill_extended(pattern: u64) {
    let rounding = (pattern & 3) as u32;
    let (mxcsr, control) = (0x1f80 | rounding << 13, 0x37f | (rounding as u16) << 10);
    // SAFETY: the boot code enabled SSE; nobody else uses the registers.
    unsafe {
        asm!("ldmxcsr ({0})", "fninit", "fldcw ({1})", in(reg) &raw const mxcsr, in(reg) &raw const control,
            options(att_syntax, nostack));
        asm!(
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            "movq {0}, %xmm\\n",
            "movlhps %xmm\\n, %xmm\\n",
            "inc {0}",
            ".endr",
            inout(reg) pattern => _, options(att_syntax, nomem, nostack)
        );
    }
}

/// Whether the registers are as [`fill_extended`] left them.
pub fn extended_holds(pattern: u64) -> bool {
    let (mut mxcsr, mut control) = (0_u32, 0_u16);
    let mut wrong: u64 = 0;
    // SAFETY: reads registers, writes two variables of ours and XMM registers that hold what they held.
    unsafe {
        asm!("stmxcsr ({0})", "fnstcw ({1})", in(reg) &raw mut mxcsr, in(reg) &raw mut control,
            options(att_syntax, nostack));
        asm!(
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            "movq %xmm\\n, {t}",
            "xor {p}, {t}",
            "or {t}, {w}",
            "shufpd $1, %xmm\\n, %xmm\\n",
            "movq %xmm\\n, {t}",
            "xor {p}, {t}",
            "or {t}, {w}",
            "inc {p}",
            ".endr",
            p = inout(reg) pattern => _, t = out(reg) _, w = inout(reg) wrong,
            options(att_syntax, nomem, nostack)
        );
    }
    let rounding = pattern & 3;
    wrong == 0 && u64::from(mxcsr) >> 13 & 3 == rounding && u64::from(control) >> 10 & 3 == rounding
}

/// Enables the x87 and SSE units, executes `fninit`, and round-trips a pattern through XMM0 with a function in between.
pub fn sse_survives(between: fn()) -> bool {
    let pattern: u64 = 0x0123_4567_89ab_cdef;
    let (mut back, mut back_high): (u64, u64);
    // SAFETY: clears CR0.TS and CR0.EM; no other code of the guest uses the units (the target is soft-float).
    unsafe {
        asm!("mov {0}, cr0", "and {0}, ~12", "mov cr0, {0}", "fninit", out(reg) _);
        asm!("movq {0}, %xmm7", "movlhps %xmm7, %xmm7", in(reg) pattern, options(att_syntax));
    }
    between();
    // SAFETY: as above.
    unsafe {
        asm!(
            "movq %xmm7, {0}",
            "movhlps %xmm7, %xmm7",
            "movq %xmm7, {1}",
            out(reg) back,
            out(reg) back_high,
            options(att_syntax)
        );
    }
    back == pattern && back_high == pattern
}
