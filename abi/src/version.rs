//! Xen's version, capabilities and features (`version.h`).

use crate::macros::{c_consts, c_struct};

c_consts! {
    /// Sub-operations of `HYPERVISOR_xen_version`.
    XENVERS: u32 {
        XENVER_VERSION = 0,
        XENVER_EXTRAVERSION = 1,
        XENVER_COMPILE_INFO = 2,
        XENVER_CAPABILITIES = 3,
        XENVER_CHANGESET = 4,
        XENVER_PLATFORM_PARAMETERS = 5,
        XENVER_GET_FEATURES = 6,
        XENVER_PAGESIZE = 7,
        XENVER_GUEST_HANDLE = 8,
        XENVER_COMMANDLINE = 9,
        XENVER_BUILD_ID = 10,
    }
}

c_consts! {
    /// Sizes in bytes of the NUL-terminated strings that sub-operations write.
    XENVER_LENGTHS: usize {
        XEN_EXTRAVERSION_LEN = 16,
        XEN_CAPABILITIES_INFO_LEN = 1024,
        XEN_CHANGESET_INFO_LEN = 64,
        XEN_COMMANDLINE_LEN = 1024,
    }
}

c_struct! {
    /// `XENVER_compile_info`.
    pub struct CompileInfo = "struct xen_compile_info", 144 {
        compiler: [u8; 64],
        compile_by: [u8; 16],
        compile_domain: [u8; 32],
        compile_date: [u8; 32],
    }

    /// `XENVER_platform_parameters`.
    pub struct PlatformParameters = "struct xen_platform_parameters", 8 {
        virt_start: u64,
    }

    /// `XENVER_get_features`: `submap` bits are the `XENFEAT_*` of [`features`](crate::features).
    pub struct FeatureInfo = "struct xen_feature_info", 8 {
        submap_idx: u32,
        submap: u32,
    }

    /// `XENVER_build_id`: followed by `len` bytes.
    pub struct BuildId = "struct xen_build_id", 4 {
        len: u32,
    }
}
