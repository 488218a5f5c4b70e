//! Numbers, error codes and structures of the Xen 4.17 public ABI, x86-64.
//!
//! One file per header (or noun) of Xen's MIT-licensed `xen/include/public`. Names are the C names: constants in
//! upper case, structures in camel case without the `xen_` prefix. Layouts are those a 64-bit caller uses;
//! [`compat`] has the 32-bit ones that differ. Values a guest supplies are plain integers (an unknown one is data,
//! not undefined behaviour), with named constants beside them. C unions are byte arrays with typed
//! `payload`/`set_payload`.
//!
//! `tests/headers.rs` compares every constant, size and offset with the installed C headers.
#![no_std]
#![forbid(unsafe_code)]

mod macros;

pub mod arch_x86;
pub mod blkif;
pub mod callback;
pub mod compat;
pub mod console;
pub mod cpuid;
pub mod domctl;
pub mod e820;
pub mod elfnote;
pub mod errno;
pub mod event_channel;
pub mod features;
pub mod featureset;
pub mod grant_table;
pub mod handle;
pub mod hvm_op;
pub mod hvm_save;
pub mod hypercall;
pub mod memory;
pub mod physdev;
pub mod platform;
pub mod sched;
pub mod start_info;
pub mod sysctl;
pub mod vcpu;
pub mod version;
pub mod xen;
pub mod xs_wire;
pub mod xsm;

pub use errno::Errno;
pub use handle::Handle;

/// What a structure is called in the C headers and where its fields lie there; implemented for every ABI structure.
pub trait CLayout: Sized {
    /// The C type, as written in a declaration (`struct vcpu_info`); empty if the public headers do not name it.
    const C_NAME: &'static str;
    /// Every field, in order.
    const FIELDS: &'static [CField];
}

/// Where a field of an ABI structure lies.
#[derive(Clone, Copy, Debug)]
pub struct CField {
    /// The field's name in the C structure, dotted if nested; starts with `_` if it is padding.
    pub c_path: &'static str,
    /// Offset in bytes.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
}
