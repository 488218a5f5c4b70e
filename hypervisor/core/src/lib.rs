//! The heart of the hypervisor: domains, vCPUs, exits, hypercalls and the loop of each pCPU. See `docs/architecture.md`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod apic;
pub mod clock;
pub mod console;
pub mod context;
pub mod create;
pub mod destroy;
pub mod dom0;
pub mod domain;
pub mod domains;
pub mod domctl;
pub mod events;
pub mod exits;
pub mod grants;
pub mod guest_access;
pub mod hardware;
pub mod hypercall;
pub mod hypercall_page;
pub mod inject;
pub mod layout;
pub mod log_dirty;
pub mod low_memory;
pub mod machine;
pub mod msr;
pub mod params;
pub mod physmap;
pub mod pod;
pub mod processor;
pub mod run;
pub mod runstate;
pub mod shutdown;
pub mod sysctl;
pub mod timers;
pub mod vcpu;
pub mod vcpu_state;
pub mod watchdog;

mod start;

pub use start::{Handover, start, start_secondary};
