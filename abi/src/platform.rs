//! Operations of dom0 on the machine (`platform.h`).

use crate::{
    handle::Handle,
    macros::{c_consts, c_struct, c_union},
};

c_consts! {
    /// Operations ([`PlatformOp::cmd`]), and the interface version (the only one that is not an operation).
    XENPFS: u32 {
        XENPF_INTERFACE_VERSION = 0x3000001,
        XENPF_SETTIME32 = 17,
        XENPF_SETTIME64 = 62,
        XENPF_ADD_MEMTYPE = 31,
        XENPF_DEL_MEMTYPE = 32,
        XENPF_READ_MEMTYPE = 33,
        XENPF_MICROCODE_UPDATE = 35,
        XENPF_PLATFORM_QUIRK = 39,
        XENPF_EFI_RUNTIME_CALL = 49,
        XENPF_FIRMWARE_INFO = 50,
        XENPF_ENTER_ACPI_SLEEP = 51,
        XENPF_CHANGE_FREQ = 52,
        XENPF_GETIDLETIME = 53,
        XENPF_SET_PROCESSOR_PMINFO = 54,
        XENPF_GET_CPUINFO = 55,
        XENPF_GET_CPU_VERSION = 48,
        XENPF_CPU_ONLINE = 56,
        XENPF_CPU_OFFLINE = 57,
        XENPF_CPU_HOTADD = 58,
        XENPF_MEM_HOTADD = 59,
        XENPF_CORE_PARKING = 60,
        XENPF_RESOURCE_OP = 61,
        XENPF_GET_SYMBOL = 63,
        XENPF_GET_DOM0_CONSOLE = 64,
    }
}

c_consts! {
    /// Values of [`XenpfFirmwareInfo::kind`] and, for `XEN_FW_EFI_INFO`, `index`.
    XEN_FWS: u32 {
        XEN_FW_DISK_INFO = 1,
        XEN_FW_DISK_MBR_SIGNATURE = 2,
        XEN_FW_VBEDDC_INFO = 3,
        XEN_FW_EFI_INFO = 4,
        XEN_FW_EFI_VERSION = 0,
        XEN_FW_EFI_CONFIG_TABLE = 1,
        XEN_FW_EFI_VENDOR = 2,
        XEN_FW_EFI_MEM_INFO = 3,
        XEN_FW_EFI_RT_VERSION = 4,
        XEN_FW_EFI_PCI_ROM = 5,
        XEN_FW_EFI_APPLE_PROPERTIES = 6,
        XEN_FW_KBD_SHIFT_FLAGS = 5,
    }
}

c_consts! {
    /// Functions of [`XenpfEfiRuntimeCall`].
    XEN_EFIS: u32 {
        XEN_EFI_GET_TIME = 1,
        XEN_EFI_SET_TIME = 2,
        XEN_EFI_GET_WAKEUP_TIME = 3,
        XEN_EFI_SET_WAKEUP_TIME = 4,
        XEN_EFI_GET_NEXT_HIGH_MONOTONIC_COUNT = 5,
        XEN_EFI_GET_VARIABLE = 6,
        XEN_EFI_SET_VARIABLE = 7,
        XEN_EFI_GET_NEXT_VARIABLE_NAME = 8,
        XEN_EFI_QUERY_VARIABLE_INFO = 9,
        XEN_EFI_QUERY_CAPSULE_CAPABILITIES = 10,
        XEN_EFI_UPDATE_CAPSULE = 11,
    }
}

c_consts! {
    /// Flags and types of other operations.
    XENPF_FLAGS: u32 {
        XENPF_ACPI_SLEEP_EXTENDED = 0x1,
        XEN_PROCESSOR_PM_CX = 1,
        XEN_PROCESSOR_PM_PX = 2,
        XEN_PROCESSOR_PM_TX = 4,
        XEN_PM_CX = 0,
        XEN_PM_PX = 1,
        XEN_PM_TX = 2,
        XEN_PM_PDC = 3,
        XEN_PX_PCT = 1,
        XEN_PX_PSS = 2,
        XEN_PX_PPC = 4,
        XEN_PX_PSD = 8,
        XEN_PCPU_FLAGS_ONLINE = 1,
        XEN_PCPU_FLAGS_INVALID = 2,
        XEN_CORE_PARKING_SET = 1,
        XEN_CORE_PARKING_GET = 2,
        XEN_RESOURCE_OP_MSR_READ = 0,
        XEN_RESOURCE_OP_MSR_WRITE = 1,
    }
}

c_struct! {
    /// The argument of `HYPERVISOR_platform_op`; which member of the union counts depends on `cmd`.
    pub struct PlatformOp = "struct xen_platform_op", 136 {
        cmd: u32,
        interface_version: u32,
        u: [u8; 128],
    }

    /// `settime32`.
    pub struct XenpfSettime32 = "struct xenpf_settime32", 16 {
        secs: u32,
        nsecs: u32,
        system_time: u64,
    }

    /// `settime64`: wall-clock time at a system time.
    pub struct XenpfSettime64 = "struct xenpf_settime64", 24 {
        secs: u64,
        nsecs: u32,
        mbz: u32,
        system_time: u64,
    }

    /// `add_memtype`.
    pub struct XenpfAddMemtype = "struct xenpf_add_memtype", 32 {
        mfn: u64,
        nr_mfns: u64,
        kind ("type"): u32,
        handle: u32,
        reg: u32,
        _pad: [u8; 4],
    }

    /// `del_memtype`.
    pub struct XenpfDelMemtype = "struct xenpf_del_memtype", 8 {
        handle: u32,
        reg: u32,
    }

    /// `read_memtype`.
    pub struct XenpfReadMemtype = "struct xenpf_read_memtype", 32 {
        reg: u32,
        _pad0: [u8; 4],
        mfn: u64,
        nr_mfns: u64,
        kind ("type"): u32,
        _pad1: [u8; 4],
    }

    /// `microcode_update`.
    pub struct XenpfMicrocodeUpdate = "struct xenpf_microcode_update", 16 {
        data: Handle<u8>,
        length: u32,
        _pad: [u8; 4],
    }

    /// `platform_quirk`.
    pub struct XenpfPlatformQuirk = "struct xenpf_platform_quirk", 4 {
        quirk_id: u32,
    }

    /// `efi_runtime_call`.
    pub struct XenpfEfiRuntimeCall = "struct xenpf_efi_runtime_call", 56 {
        function: u32,
        misc: u32,
        status: u64,
        u: [u8; 40],
    }

    /// `firmware_info`.
    pub struct XenpfFirmwareInfo = "struct xenpf_firmware_info", 40 {
        kind ("type"): u32,
        index: u32,
        u: [u8; 32],
    }

    /// `enter_acpi_sleep`: values for the PM1 control registers.
    pub struct XenpfEnterAcpiSleep = "struct xenpf_enter_acpi_sleep", 12 {
        val_a: u16,
        val_b: u16,
        sleep_state: u32,
        flags: u32,
    }

    /// `change_freq`.
    pub struct XenpfChangeFreq = "struct xenpf_change_freq", 16 {
        flags: u32,
        cpu: u32,
        freq: u64,
    }

    /// `getidletime`.
    pub struct XenpfGetidletime = "struct xenpf_getidletime", 32 {
        cpumap_bitmap: Handle<u8>,
        cpumap_nr_cpus: u32,
        _pad: [u8; 4],
        idletime: Handle<u64>,
        now: u64,
    }

    /// `set_processor_pminfo`.
    pub struct XenpfSetProcessorPminfo = "struct xenpf_set_processor_pminfo", 112 {
        id: u32,
        kind ("type"): u32,
        u: [u8; 104],
    }

    /// `get_cpuinfo`. Out: `max_present`, and of CPU `xen_cpuid` the rest.
    pub struct XenpfPcpuinfo = "struct xenpf_pcpuinfo", 20 {
        xen_cpuid: u32,
        max_present: u32,
        flags: u32,
        apic_id: u32,
        acpi_id: u32,
    }

    /// `get_cpu_version`.
    pub struct XenpfPcpuVersion = "struct xenpf_pcpu_version", 32 {
        xen_cpuid: u32,
        max_present: u32,
        vendor_id: [u8; 12],
        family: u32,
        model: u32,
        stepping: u32,
    }

    /// `cpu_online`, `cpu_offline`.
    pub struct XenpfCpuOl = "struct xenpf_cpu_ol", 4 {
        cpuid: u32,
    }

    /// `cpu_hotadd`.
    pub struct XenpfCpuHotadd = "struct xenpf_cpu_hotadd", 12 {
        apic_id: u32,
        acpi_id: u32,
        pxm: u32,
    }

    /// `mem_hotadd`.
    pub struct XenpfMemHotadd = "struct xenpf_mem_hotadd", 24 {
        spfn: u64,
        epfn: u64,
        pxm: u32,
        flags: u32,
    }

    /// `core_parking`.
    pub struct XenpfCoreParking = "struct xenpf_core_parking", 8 {
        kind ("type"): u32,
        idle_nums: u32,
    }

    /// One access of a `resource_op`; `u` is the command in, the result out.
    pub struct XenpfResourceEntry = "struct xenpf_resource_entry", 24 {
        u: u32,
        _rsvd: u32,
        idx: u64,
        val: u64,
    }

    /// `resource_op`.
    pub struct XenpfResourceOp = "struct xenpf_resource_op", 16 {
        nr_entries: u32,
        cpu: u32,
        entries: Handle<XenpfResourceEntry>,
    }

    /// `get_symbol`.
    pub struct XenpfSymdata = "struct xenpf_symdata", 32 {
        namelen: u32,
        symnum: u32,
        name: Handle<u8>,
        address: u64,
        kind ("type"): u8,
        _pad: [u8; 7],
    }
}

c_union!(PlatformOp, 128);
c_union!(XenpfEfiRuntimeCall, 40);
c_union!(XenpfFirmwareInfo, 32);
c_union!(XenpfSetProcessorPminfo, 104);
