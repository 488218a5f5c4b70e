//! Domains of a Xen host, without libxl: PVH guests built, started, stopped and plugged from dom0.
//!
//! | module | the noun |
//! |---|---|
//! | [`config`], [`uuid`] | what a VM is to be, and which one it is |
//! | [`layout`] | where things lie in a guest's memory (pure) |
//! | [`image`] | what is loaded there: kernel, RAM disk, start info (pure) |
//! | [`acpi`] | the guest's ACPI tables (pure) |
//! | [`policy`], [`context`] | CPUID policy, first registers (pure) |
//! | [`nodes`] | the store's nodes of a domain and its devices (pure) |
//! | [`builder`], [`device`], [`teardown`] | makes a domain; its disks and interfaces; takes it all away |
//! | [`guest`], [`wait`] | what is asked of a running guest; waiting for others |
//! | [`machine`] | the state machine of a VM (pure) |
//! | [`suspend`], [`saved`] | a guest into a file and back; the file (pure) |
//! | [`record`], [`task`] | the record of VMs and tasks; steps of an operation |
//! | [`manager`], [`adjust`] | the operations |
//! | [`recover`], [`supervise`] | repairs after a kill; what follows when a guest ends |
#![forbid(unsafe_code)]

pub mod acpi;
pub mod adjust;
pub mod builder;
pub mod config;
pub mod context;
pub mod device;
pub mod error;
pub mod guest;
pub mod image;
pub mod layout;
pub mod machine;
pub mod manager;
pub mod nodes;
pub mod policy;
pub mod port;
pub mod record;
pub mod recover;
pub mod saved;
pub mod supervise;
pub mod suspend;
pub mod task;
pub mod teardown;
pub mod uuid;
pub mod wait;

pub use error::{Error, Result};
