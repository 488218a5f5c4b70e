//! Xen's device nodes on Linux: small, and safe outside.
//!
//! | module | device node | the noun |
//! |---|---|---|
//! | [`privcmd`] | `/dev/xen/privcmd`, `/dev/xen/hypercall` | hypercalls |
//! | [`domain`] | `/dev/xen/privcmd` | domains: making, ending, describing them |
//! | [`memory`] | `/dev/xen/privcmd` | other domains' memory, parameters, first event channels and grants |
//! | [`foreign`] | `/dev/xen/privcmd` | another domain's memory |
//! | [`evtchn`] | `/dev/xen/evtchn` | event channels |
//! | [`gntdev`] | `/dev/xen/gntdev` | pages that others grant |
//! | [`guest`] | one of the two | a guest's pages, however they were mapped |
//! | [`state`] | | the states of a device's two ends |
//! | [`xenbus`] | `/dev/xen/xenbus`, `/dev/xen/xenbus_backend` | the kernel's end of the store |
//! | [`page`] | | memory that another domain changes at any time |
//! | [`inherit`] | | file descriptors that an `exec` left open |
//!
//! The ioctl numbers and structures are those of the kernel's `include/uapi/xen`; hypercall numbers and structures
//! come from `xen-abi`. Shared memory is never a Rust reference to plain bytes: [`page::SharedPages`] reads and
//! writes it through atomics, so whatever the other side does there is no undefined behaviour on this one.

pub mod domain;
pub mod evtchn;
pub mod foreign;
pub mod gntdev;
pub mod guest;
pub mod inherit;
mod ioctl;
pub mod memory;
pub mod page;
pub mod privcmd;
pub mod state;
pub mod xenbus;

/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;
