//! Callbacks (`callback.h`) and NMI operations (`nmi.h`).

use crate::macros::{c_consts, c_struct};

c_consts! {
    /// Sub-operations of `HYPERVISOR_callback_op`.
    CALLBACKOPS: u32 {
        CALLBACKOP_REGISTER = 0,
        CALLBACKOP_UNREGISTER = 1,
    }
}

c_consts! {
    /// Callback types and flags.
    CALLBACKS: u16 {
        CALLBACKTYPE_EVENT = 0,
        CALLBACKTYPE_FAILSAFE = 1,
        CALLBACKTYPE_SYSCALL = 2,
        CALLBACKTYPE_SYSENTER_DEPRECATED = 3,
        CALLBACKTYPE_NMI = 4,
        CALLBACKTYPE_SYSENTER = 5,
        CALLBACKTYPE_SYSCALL32 = 7,
        CALLBACKF_MASK_EVENTS = 0x1,
    }
}

c_consts! {
    /// Sub-operations of `HYPERVISOR_nmi_op`, and bits of `nmi_reason` in the shared-info page.
    XENNMIS: u64 {
        XEN_NMIREASON_IO_ERROR = 0x1,
        XEN_NMIREASON_PCI_SERR = 0x2,
        XEN_NMIREASON_UNKNOWN = 0x4,
        XENNMI_REGISTER_CALLBACK = 0,
        XENNMI_UNREGISTER_CALLBACK = 1,
    }
}

c_struct! {
    /// `CALLBACKOP_register`.
    pub struct CallbackRegister = "struct callback_register", 16 {
        kind ("type"): u16,
        flags: u16,
        _pad: [u8; 4],
        address: u64,
    }

    /// `CALLBACKOP_unregister`.
    pub struct CallbackUnregister = "struct callback_unregister", 4 {
        kind ("type"): u16,
        _unused: u16,
    }
}
