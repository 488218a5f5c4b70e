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
//! | [`xenstore`] | a client of the store |
//! | [`builder`] | makes a domain |
//! | [`task`] | steps of an operation |
#![forbid(unsafe_code)]

pub mod acpi;
pub mod builder;
pub mod config;
pub mod context;
pub mod error;
pub mod image;
pub mod layout;
pub mod nodes;
pub mod policy;
pub mod task;
pub mod uuid;
pub mod xenstore;

pub use error::{Error, Result};
