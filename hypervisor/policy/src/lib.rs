//! CPUID and MSR policy: what a domain believes about its processor.
//!
//! A [`Policy`] holds static leaves in arrays indexed by leaf number. [`Policy::cpuid`] reads one of them and folds in
//! what follows the vCPU's own state. Policies form a chain, each derived from the one before by taking features away:
//! raw (what the instruction says) → host (what we know) → guest max (what we can virtualise) → guest default.
//! A toolstack's policy is merged by [`Policy::update`], which never exceeds guest max.
//!
//! Layout, order and limits of the leaf lists are those of Xen 4.17's `struct cpu_policy` (lib/x86/cpuid.c),
//! because libxenguest has the same arrays compiled in.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod build;
mod exchange;
mod features;
mod leaves;
mod query;
mod system;
#[cfg(test)]
mod tests;
mod topology;
mod xen_leaves;

pub use build::Machine;
pub use exchange::{MAX_LEAVES, MAX_MSRS, Refusal};
pub use features::FeatureSet;
pub use leaves::{Policy, Vendor};
pub use query::VcpuState;
pub use system::{change, feature};
pub use xen_leaves::Tsc;
