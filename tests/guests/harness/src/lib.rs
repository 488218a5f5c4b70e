//! What a verdict guest stands on: a PVH guest that starts on stock Xen and on Radon, as dom0 or as a child domain that
//! a guest in dom0's place makes of its own image.
//!
//! All unsafe code of the guests is here. A hypercall may write any of the guest's memory that its arguments name, so
//! tests name only [`Page`]s and structures passed by `&mut`; what a wrong test breaks is this guest alone.
#![no_std]

extern crate alloc;

pub mod apic;
pub mod boot;
pub mod console;
pub mod cpu;
pub mod domain;
pub mod event;
pub mod grant;
pub mod hypercall;
pub mod mailbox;
pub mod memory;
pub mod random;
pub mod smp;
pub mod time;
pub mod trap;
pub mod verdict;

pub use memory::Page;
pub use verdict::{Outcome, Test, Verdict};
