//! What a PVH kernel is started with (`arch-x86/hvm/start_info.h`): `ebx` points to an [`HvmStartInfo`].

use crate::macros::{c_consts, c_struct};

c_consts! {
    /// [`HvmStartInfo::magic`] ("xEn3" with the top bit of the "E") and values of [`HvmMemmapTableEntry::kind`].
    HVM_START_INFO: u32 {
        XEN_HVM_START_MAGIC_VALUE = 0x336ec578,
        XEN_HVM_MEMMAP_TYPE_RAM = 1,
        XEN_HVM_MEMMAP_TYPE_RESERVED = 2,
        XEN_HVM_MEMMAP_TYPE_ACPI = 3,
        XEN_HVM_MEMMAP_TYPE_NVS = 4,
        XEN_HVM_MEMMAP_TYPE_UNUSABLE = 5,
        XEN_HVM_MEMMAP_TYPE_DISABLED = 6,
        XEN_HVM_MEMMAP_TYPE_PMEM = 7,
    }
}

c_consts! {
    /// Bits of [`HvmStartInfo::flags`] (`xen.h`).
    SIF_FLAGS: u32 {
        SIF_PRIVILEGED = 1 << 0,
        SIF_INITDOMAIN = 1 << 1,
        SIF_MULTIBOOT_MOD = 1 << 2,
        SIF_MOD_START_PFN = 1 << 3,
        SIF_VIRT_P2M_4TOOLS = 1 << 4,
        SIF_PM_MASK = 0xff00,
    }
}

c_struct! {
    /// The start information, version 1 (version 0 ends before `memmap_paddr`).
    pub struct HvmStartInfo = "struct hvm_start_info", 56 {
        magic: u32,
        version: u32,
        flags: u32,
        nr_modules: u32,
        modlist_paddr: u64,
        cmdline_paddr: u64,
        rsdp_paddr: u64,
        memmap_paddr: u64,
        memmap_entries: u32,
        _reserved: u32,
    }

    /// A module (the initial RAM disk is the first).
    pub struct HvmModlistEntry = "struct hvm_modlist_entry", 32 {
        paddr: u64,
        size: u64,
        cmdline_paddr: u64,
        _reserved: u64,
    }

    /// A range of the guest's physical memory map.
    pub struct HvmMemmapTableEntry = "struct hvm_memmap_table_entry", 24 {
        addr: u64,
        size: u64,
        kind ("type"): u32,
        _reserved: u32,
    }
}
