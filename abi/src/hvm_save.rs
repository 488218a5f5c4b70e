//! Records of a saved HVM context (`hvm/save.h`, `arch-x86/hvm/save.h`).
//!
//! The stream is a sequence of [`HvmSaveDescriptor`], each followed by `length` bytes: first the
//! [`HvmSaveHeader`], last an empty record of type `END`. All records are packed one after the other.

use crate::macros::{c_consts, c_struct};

c_consts! {
    /// Values of [`HvmSaveDescriptor::typecode`] (the `DECLARE_HVM_SAVE_TYPE` of each structure).
    HVM_SAVE_CODES: u16 {
        HVM_SAVE_CODE_END = 0,
        HVM_SAVE_CODE_HEADER = 1,
        HVM_SAVE_CODE_CPU = 2,
        HVM_SAVE_CODE_PIC = 3,
        HVM_SAVE_CODE_IOAPIC = 4,
        HVM_SAVE_CODE_LAPIC = 5,
        HVM_SAVE_CODE_LAPIC_REGS = 6,
        HVM_SAVE_CODE_PCI_IRQ = 7,
        HVM_SAVE_CODE_ISA_IRQ = 8,
        HVM_SAVE_CODE_PCI_LINK = 9,
        HVM_SAVE_CODE_PIT = 10,
        HVM_SAVE_CODE_RTC = 11,
        HVM_SAVE_CODE_HPET = 12,
        HVM_SAVE_CODE_PMTIMER = 13,
        HVM_SAVE_CODE_MTRR = 14,
        HVM_SAVE_CODE_VIRIDIAN_DOMAIN = 15,
        HVM_SAVE_CODE_VIRIDIAN_VCPU = 17,
        HVM_SAVE_CODE_VMCE_VCPU = 18,
        HVM_SAVE_CODE_TSC_ADJUST = 19,
        CPU_XSAVE_CODE = 16,
        CPU_MSR_CODE = 20,
        HVM_SAVE_CODE_MAX = 20,
    }
}

c_consts! {
    /// [`HvmSaveHeader::magic`] and `version`, bit of [`HvmHwCpu::flags`].
    HVM_SAVE_NUMBERS: u32 {
        HVM_FILE_MAGIC = 0x54381286,
        HVM_FILE_VERSION = 0x1,
        XEN_X86_FPU_INITIALISED = 0x1,
    }
}

c_consts! {
    /// Array sizes.
    HVM_SAVE_SIZES: usize {
        VIOAPIC_NUM_PINS = 48,
        MTRR_VCNT = 8,
        NUM_FIXED_MSR = 11,
    }
}

c_struct! {
    /// What every record starts with; `instance` is the vCPU number in per-vCPU records.
    pub struct HvmSaveDescriptor = "struct hvm_save_descriptor", 8 {
        typecode: u16,
        instance: u16,
        length: u32,
    }

    /// The first record: `cpuid` is leaf 1 eax of the saving machine.
    pub struct HvmSaveHeader = "struct hvm_save_header", 24 {
        magic: u32,
        version: u32,
        changeset: u64,
        cpuid: u32,
        gtsc_khz: u32,
    }

    /// `CPU`: registers of a vCPU. `*_arbytes` are segment attributes as VMX has them, unusable in bit 16.
    pub struct HvmHwCpu = "struct hvm_hw_cpu", 1032 {
        fpu_regs: [u8; 512],
        rax: u64,
        rbx: u64,
        rcx: u64,
        rdx: u64,
        rbp: u64,
        rsi: u64,
        rdi: u64,
        rsp: u64,
        r8: u64,
        r9: u64,
        r10: u64,
        r11: u64,
        r12: u64,
        r13: u64,
        r14: u64,
        r15: u64,
        rip: u64,
        rflags: u64,
        cr0: u64,
        cr2: u64,
        cr3: u64,
        cr4: u64,
        dr0: u64,
        dr1: u64,
        dr2: u64,
        dr3: u64,
        dr6: u64,
        dr7: u64,
        cs_sel: u32,
        ds_sel: u32,
        es_sel: u32,
        fs_sel: u32,
        gs_sel: u32,
        ss_sel: u32,
        tr_sel: u32,
        ldtr_sel: u32,
        cs_limit: u32,
        ds_limit: u32,
        es_limit: u32,
        fs_limit: u32,
        gs_limit: u32,
        ss_limit: u32,
        tr_limit: u32,
        ldtr_limit: u32,
        idtr_limit: u32,
        gdtr_limit: u32,
        cs_base: u64,
        ds_base: u64,
        es_base: u64,
        fs_base: u64,
        gs_base: u64,
        ss_base: u64,
        tr_base: u64,
        ldtr_base: u64,
        idtr_base: u64,
        gdtr_base: u64,
        cs_arbytes: u32,
        ds_arbytes: u32,
        es_arbytes: u32,
        fs_arbytes: u32,
        gs_arbytes: u32,
        ss_arbytes: u32,
        tr_arbytes: u32,
        ldtr_arbytes: u32,
        sysenter_cs: u64,
        sysenter_esp: u64,
        sysenter_eip: u64,
        shadow_gs: u64,
        msr_flags: u64,
        msr_lstar: u64,
        msr_star: u64,
        msr_cstar: u64,
        msr_syscall_mask: u64,
        msr_efer: u64,
        msr_tsc_aux: u64,
        tsc: u64,
        pending_event: u32,
        error_code: u32,
        flags: u32,
        _pad0: u32,
    }

    /// `IOAPIC`.
    pub struct HvmHwVioapic = "struct hvm_hw_vioapic", 400 {
        base_address: u64,
        ioregsel: u32,
        id: u32,
        redirtbl: [u64; VIOAPIC_NUM_PINS],
    }

    /// `LAPIC`: what is not in its register page.
    pub struct HvmHwLapic = "struct hvm_hw_lapic", 24 {
        apic_base_msr: u64,
        disabled: u32,
        timer_divisor: u32,
        tdt_msr: u64,
    }

    /// `LAPIC_REGS`: the first KiB of the register page.
    pub struct HvmHwLapicRegs = "struct hvm_hw_lapic_regs", 1024 {
        data: [u8; 1024],
    }

    /// `PCI_IRQ`: a bit per PCI INTx line.
    pub struct HvmHwPciIrqs = "struct hvm_hw_pci_irqs", 16 {
        pad: [u64; 2],
    }

    /// `ISA_IRQ`: a bit per ISA line.
    pub struct HvmHwIsaIrqs = "struct hvm_hw_isa_irqs", 8 {
        pad: [u64; 1],
    }

    /// `PCI_LINK`.
    pub struct HvmHwPciLink = "struct hvm_hw_pci_link", 8 {
        route: [u8; 4],
        _pad0: [u8; 4],
    }

    /// `PMTIMER`.
    pub struct HvmHwPmtimer = "struct hvm_hw_pmtimer", 8 {
        tmr_val: u32,
        pm1a_sts: u16,
        pm1a_en: u16,
    }

    /// `MTRR`: variable ranges as base, mask pairs.
    pub struct HvmHwMtrr = "struct hvm_hw_mtrr", 240 {
        msr_pat_cr: u64,
        msr_mtrr_var: [u64; MTRR_VCNT * 2],
        msr_mtrr_fixed: [u64; NUM_FIXED_MSR],
        msr_mtrr_cap: u64,
        msr_mtrr_def_type: u64,
    }

    /// `CPU_XSAVE`: the fixed part; the record may be longer, the XSAVE area running on.
    pub struct HvmHwCpuXsave = "struct hvm_hw_cpu_xsave", 600 {
        xfeature_mask: u64,
        xcr0: u64,
        xcr0_accum: u64,
        fpu_sse ("save_area.fpu_sse"): [u8; 512],
        xstate_bv ("save_area.xsave_hdr.xstate_bv"): u64,
        xcomp_bv ("save_area.xsave_hdr.xcomp_bv"): u64,
        reserved ("save_area.xsave_hdr.reserved"): [u64; 6],
    }

    /// `VMCE_VCPU`.
    pub struct HvmVmceVcpu = "struct hvm_vmce_vcpu", 32 {
        caps: u64,
        mci_ctl2_bank0: u64,
        mci_ctl2_bank1: u64,
        mcg_ext_ctl: u64,
    }

    /// `TSC_ADJUST`.
    pub struct HvmTscAdjust = "struct hvm_tsc_adjust", 8 {
        tsc_adjust: u64,
    }

    /// `CPU_MSR`: followed by `count` [`HvmOneMsr`].
    pub struct HvmMsr = "struct hvm_msr", 8 {
        count: u32,
        _pad: [u8; 4],
    }

    /// An MSR in a `CPU_MSR` record.
    pub struct HvmOneMsr = "struct hvm_one_msr", 16 {
        index: u32,
        _rsvd: u32,
        val: u64,
    }
}
