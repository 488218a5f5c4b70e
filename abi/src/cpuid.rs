//! Xen's own CPUID leaves (`arch-x86/cpuid.h`), from 0x40000000.
//!
//! Leaf 0: highest leaf, signature "XenVMMXenVMM". 1: version. 2: hypercall page (pages, MSR base, features).
//! 3: time (TSC mode, offset, scale). 4: HVM features, vCPU id, domain id. 5: PV only.

use crate::macros::c_consts;

c_consts! {
    /// Leaf numbers, signature, feature bits.
    XEN_CPUID: u32 {
        XEN_CPUID_FIRST_LEAF = 0x40000000,
        XEN_CPUID_SIGNATURE_EBX = 0x566e6558,
        XEN_CPUID_SIGNATURE_ECX = 0x65584d4d,
        XEN_CPUID_SIGNATURE_EDX = 0x4d4d566e,
        XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD = 1 << 0,
        XEN_HVM_CPUID_APIC_ACCESS_VIRT = 1 << 0,
        XEN_HVM_CPUID_X2APIC_VIRT = 1 << 1,
        XEN_HVM_CPUID_IOMMU_MAPPINGS = 1 << 2,
        XEN_HVM_CPUID_VCPU_ID_PRESENT = 1 << 3,
        XEN_HVM_CPUID_DOMID_PRESENT = 1 << 4,
        XEN_HVM_CPUID_EXT_DEST_ID = 1 << 5,
        XEN_HVM_CPUID_UPCALL_VECTOR = 1 << 6,
        XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK = 0xff,
        XEN_CPUID_MAX_NUM_LEAVES = 5,
    }
}

c_consts! {
    /// The MSR through which a guest asks for its hypercall page, as Xen reports it in leaf 2 `ebx`.
    XEN_CPUID_MSRS: u32 {
        XEN_HYPERCALL_MSR = 0x40000000,
    }
}
