//! x86 structures of `arch-x86/xen.h` that only pass through an HVM-only hypervisor: registers and the PV context.

use crate::macros::{c_consts, c_struct};

c_consts! {
    /// Bits of [`VcpuGuestContext::flags`].
    VGCF_FLAGS: u64 {
        VGCF_I387_VALID = 0x1,
        VGCF_IN_KERNEL = 0x4,
        VGCF_FAILSAFE_DISABLES_EVENTS = 0x8,
        VGCF_SYSCALL_DISABLES_EVENTS = 0x10,
        VGCF_ONLINE = 0x20,
    }
}

c_consts! {
    /// Port of the HVM debug console.
    DEBUG_PORTS: u16 {
        XEN_HVM_DEBUGCONS_IOPORT = 0xe9,
    }
}

c_struct! {
    /// General registers as Xen saves them.
    pub struct CpuUserRegs = "struct cpu_user_regs", 200 {
        r15: u64,
        r14: u64,
        r13: u64,
        r12: u64,
        rbp: u64,
        rbx: u64,
        r11: u64,
        r10: u64,
        r9: u64,
        r8: u64,
        rax: u64,
        rcx: u64,
        rdx: u64,
        rsi: u64,
        rdi: u64,
        error_code: u32,
        entry_vector: u32,
        rip: u64,
        cs: u16,
        _pad0: u16,
        saved_upcall_mask: u8,
        _pad1: [u8; 3],
        rflags: u64,
        rsp: u64,
        ss: u16,
        _pad2: [u16; 3],
        es: u16,
        _pad3: [u16; 3],
        ds: u16,
        _pad4: [u16; 3],
        fs: u16,
        _pad5: [u16; 3],
        gs: u16,
        _pad6: [u16; 3],
    }

    /// A PV trap handler.
    pub struct TrapInfo = "struct trap_info", 16 {
        vector: u8,
        flags: u8,
        cs: u16,
        _pad: [u8; 4],
        address: u64,
    }

    /// A vCPU's state as `getvcpucontext` shows it to debugging tools (`xenctx`); of an HVM guest registers only.
    pub struct VcpuGuestContext = "struct vcpu_guest_context", 5168 {
        fpu_ctxt: [u8; 512],
        flags: u64,
        user_regs: CpuUserRegs,
        trap_ctxt: [TrapInfo; 256],
        ldt_base: u64,
        ldt_ents: u64,
        gdt_frames: [u64; 16],
        gdt_ents: u64,
        kernel_ss: u64,
        kernel_sp: u64,
        ctrlreg: [u64; 8],
        debugreg: [u64; 8],
        event_callback_eip: u64,
        failsafe_callback_eip: u64,
        syscall_callback_eip: u64,
        vm_assist: u64,
        fs_base: u64,
        gs_base_kernel: u64,
        gs_base_user: u64,
    }
}
