//! AMD's secure virtual machine instructions. What a VMCB contains is the business of crate `radon-svm`.
#![allow(unsafe_code)] // VMRUN and its relatives

use radon_addr::{Maddr, Mfn};

/// The guest registers that a VMCB does not hold (RAX, RSP, RIP and RFLAGS are in it). The assembly below knows the layout.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable,
)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub struct GuestRegs {
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

/// Why a CPU cannot run guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SvmError {
    /// The processor has no SVM.
    Absent,
    /// The firmware has switched SVM off (VM_CR.SVMDIS).
    Disabled,
}

#[cfg(target_os = "none")]
const VM_CR_SVMDIS: u64 = 1 << 4;
#[cfg(target_os = "none")]
const EFER_SVME: u64 = 1 << 12;
/// Keeps guests from steering the hypervisor's indirect branches, without a cost per exit.
#[cfg(target_os = "none")]
const EFER_AUTOMATIC_IBRS: u64 = 1 << 21;

/// This CPU's host state for VMLOAD after each exit; 0 until `enable_this_cpu`.
#[cfg(target_os = "none")]
static HOST_VMCB: crate::percpu::PerCpu<core::sync::atomic::AtomicU64> =
    crate::per_cpu!(core::sync::atomic::AtomicU64::new(0));

/// Switches SVM on. The processor and [`run`] keep host state in the two frames, which nobody may touch afterwards.
/// Once per CPU, after its descriptor tables are final.
pub fn enable_this_cpu(hsave: Mfn, host_vmcb: Mfn) -> Result<(), SvmError> {
    #[cfg(target_os = "none")]
    {
        use crate::msr;
        let features = crate::cpu::features();
        if !features.svm {
            return Err(SvmError::Absent);
        }
        if msr::read(msr::VM_CR) & VM_CR_SVMDIS != 0 {
            return Err(SvmError::Disabled);
        }
        let ibrs = if features.automatic_ibrs { EFER_AUTOMATIC_IBRS } else { 0 };
        msr::write(msr::EFER, msr::read(msr::EFER) | EFER_SVME | ibrs);
        msr::write(msr::VM_HSAVE_PA, hsave.maddr().raw());
        let host_vmcb = host_vmcb.maddr().raw();
        // SAFETY: stores FS, GS, TR, LDTR and the system-call MSRs into the caller's frame and nothing else.
        unsafe {
            core::arch::asm!("vmsave rax", in("rax") host_vmcb, options(nostack, preserves_flags));
        }
        HOST_VMCB.this().store(host_vmcb, core::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
    #[cfg(not(target_os = "none"))]
    {
        let _ = (hsave, host_vmcb);
        Err(SvmError::Absent)
    }
}

/// Runs the guest described by `vmcb` until it exits. A pending external interrupt makes it exit at once (the VMCB must
/// intercept INTR, NMI and SHUTDOWN, and use V_INTR_MASKING); the interrupt is still pending afterwards.
///
/// The VMCB must be a valid one made by `radon-svm`: nested paging on, this CPU's only user.
#[inline]
pub fn run(vmcb: Maddr, regs: &mut GuestRegs) {
    #[cfg(target_os = "none")]
    let host_vmcb = HOST_VMCB.this().load(core::sync::atomic::Ordering::Relaxed);
    #[cfg(target_os = "none")]
    assert_ne!(host_vmcb, 0, "SVM is not enabled on this CPU");
    #[cfg(target_os = "none")]
    // SAFETY: the callee saves and restores everything that the calling convention and the hypervisor rely on; the guest
    // can reach only what its nested page table maps.
    unsafe {
        asm::radon_svm_run(vmcb.raw(), host_vmcb, regs);
    }
    #[cfg(not(target_os = "none"))]
    {
        let _ = (vmcb, regs);
        panic!("the simulated machine cannot run guests");
    }
}

/// Where the hypervisor goes on after an exit: as a guest's RIP, together with the hypervisor's CR3, it shows that the processor
/// has put its own state into the control block.
#[inline]
pub fn after_vmrun() -> u64 {
    #[cfg(target_os = "none")]
    {
        asm::radon_svm_after_vmrun as *const () as u64
    }
    #[cfg(not(target_os = "none"))]
    {
        u64::MAX
    }
}

#[cfg(target_os = "none")]
mod asm {
    use super::GuestRegs;
    use core::mem::offset_of;

    unsafe extern "C" {
        pub fn radon_svm_after_vmrun();
        pub fn radon_svm_run(vmcb: u64, host_vmcb: u64, regs: *mut GuestRegs);
    }

    // System V: rdi = VMCB, rsi = host VMCB, rdx = registers.
    //
    // From CLGI to STGI nothing can interrupt, not even an NMI: FS, GS, TR and the system-call MSRs are the guest's there.
    // IF is set across VMRUN because with V_INTR_MASKING the host's IF decides whether a physical interrupt makes the guest
    // exit; while GIF is clear it stays pending, and CLI comes before STGI so that it is taken only in `irq::window`.
    // VMRUN keeps the host's RAX (here: the VMCB's address), RSP, RIP, RFLAGS, segments and control registers.
    core::arch::global_asm!(
        ".pushsection .text.radon_svm_run, \"ax\"",
        ".global radon_svm_run",
        ".balign 64",
        "radon_svm_run:",
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rsi",
        "push rdx",
        "mov rax, rdi",
        "clgi",
        "vmload rax",
        "mov rbx, [rdx + {RBX}]",
        "mov rcx, [rdx + {RCX}]",
        "mov rsi, [rdx + {RSI}]",
        "mov rdi, [rdx + {RDI}]",
        "mov rbp, [rdx + {RBP}]",
        "mov r8, [rdx + {R8}]",
        "mov r9, [rdx + {R9}]",
        "mov r10, [rdx + {R10}]",
        "mov r11, [rdx + {R11}]",
        "mov r12, [rdx + {R12}]",
        "mov r13, [rdx + {R13}]",
        "mov r14, [rdx + {R14}]",
        "mov r15, [rdx + {R15}]",
        "mov rdx, [rdx + {RDX}]",
        "sti",
        "vmrun rax",
        ".global radon_svm_after_vmrun",
        "radon_svm_after_vmrun:",
        "cli",
        "vmsave rax",
        "mov rax, [rsp]",
        "mov [rax + {RBX}], rbx",
        "mov [rax + {RCX}], rcx",
        "mov [rax + {RDX}], rdx",
        "mov [rax + {RSI}], rsi",
        "mov [rax + {RDI}], rdi",
        "mov [rax + {RBP}], rbp",
        "mov [rax + {R8}], r8",
        "mov [rax + {R9}], r9",
        "mov [rax + {R10}], r10",
        "mov [rax + {R11}], r11",
        "mov [rax + {R12}], r12",
        "mov [rax + {R13}], r13",
        "mov [rax + {R14}], r14",
        "mov [rax + {R15}], r15",
        "mov rax, [rsp + 8]",
        "vmload rax",
        "stgi",
        "add rsp, 16",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        ".popsection",
        RBX = const offset_of!(GuestRegs, rbx),
        RCX = const offset_of!(GuestRegs, rcx),
        RDX = const offset_of!(GuestRegs, rdx),
        RSI = const offset_of!(GuestRegs, rsi),
        RDI = const offset_of!(GuestRegs, rdi),
        RBP = const offset_of!(GuestRegs, rbp),
        R8 = const offset_of!(GuestRegs, r8),
        R9 = const offset_of!(GuestRegs, r9),
        R10 = const offset_of!(GuestRegs, r10),
        R11 = const offset_of!(GuestRegs, r11),
        R12 = const offset_of!(GuestRegs, r12),
        R13 = const offset_of!(GuestRegs, r13),
        R14 = const offset_of!(GuestRegs, r14),
        R15 = const offset_of!(GuestRegs, r15),
    );
}
