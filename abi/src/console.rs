//! The emergency console (`xen.h`) and the shared ring of a domain's console (`io/console.h`).

use crate::macros::{c_consts, c_struct};

c_consts! {
    /// Sub-operations of `HYPERVISOR_console_io`.
    CONSOLEIOS: u32 {
        CONSOLEIO_WRITE = 0,
        CONSOLEIO_READ = 1,
    }
}

c_struct! {
    /// The console ring page: `in` towards the guest, `out` from it; indices run freely.
    pub struct XenconsInterface = "struct xencons_interface", 3088 {
        input ("in"): [u8; 1024],
        out: [u8; 2048],
        in_cons: u32,
        in_prod: u32,
        out_cons: u32,
        out_prod: u32,
    }
}
