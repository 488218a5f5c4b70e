//! Memory maps as XENMEM_memory_map reports them, and where an HVM guest's RAM below 4 GiB ends (`hvm/e820.h`).

use crate::macros::{c_consts, c_struct};

c_consts! {
    /// Layout of an HVM guest's physical address space.
    HVM_E820: u64 {
        HVM_E820_PAGE = 0x90000,
        HVM_E820_NR_OFFSET = 0x1e8,
        HVM_E820_OFFSET = 0x2d0,
        HVM_BELOW_4G_RAM_END = 0xf0000000,
        HVM_BELOW_4G_MMIO_START = HVM_BELOW_4G_RAM_END,
        HVM_BELOW_4G_MMIO_LENGTH = 0x10000000,
    }
}

c_consts! {
    /// Values of [`E820Entry::kind`] (ACPI specification, "Address Range Types").
    E820_TYPES: u32 {
        E820_RAM = 1,
        E820_RESERVED = 2,
        E820_ACPI = 3,
        E820_NVS = 4,
        E820_UNUSABLE = 5,
    }
}

c_struct! { @packed4
    /// One entry of a memory map: 20 bytes, so only 4-byte aligned.
    pub struct E820Entry = "", 20 {
        addr: u64,
        size: u64,
        kind: u32,
    }
}
