//! The scheduler: which unit (vCPU) runs on which physical CPU, and for how long. Credit2's semantics, and cpupools.
//!
//! Pure: time comes in as arguments, pokes go out as results. The core keeps one [`Scheduler`] behind its lock.
//!
//! # How it chooses
//! Every unit has credit, in nanoseconds. Running burns it, faster the lighter the domain's weight. Each cpupool has one
//! run queue ordered by credit; a CPU takes the first unit that may run on it, slightly preferring those that ran there
//! before and those that like it (soft affinity). When the unit chosen has no credit left, all units of the pool are
//! given [`CREDIT_INIT`] anew. One queue per pool instead of one per socket keeps all CPUs of a pool balanced by itself.
//!
//! # The rule that keeps one unit on one CPU
//! A unit returned by [`Scheduler::schedule`] on CPU X is *current on X* until X's next `schedule`, even if it sleeps and
//! wakes in between; while it is current it is in no queue, so no other CPU can be given it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod cpupool;
mod cpuset;
mod domain;
mod error;
mod place;
mod scheduler;
#[cfg(test)]
mod tests;
mod unit;

pub use cpupool::PoolInfo;
pub use cpuset::{CpuSet, MAX_CPUS};
pub use domain::DEFAULT_WEIGHT;
pub use error::Error;
pub use scheduler::{Decision, Scheduler};

/// Nanoseconds in a microsecond.
const US: u64 = 1_000;
/// Nanoseconds in a millisecond.
const MS: u64 = 1_000_000;

/// Credit a unit starts with and is given at each reset (ns).
pub const CREDIT_INIT: i64 = 10 * MS as i64;
/// Unspent credit that survives a reset.
const CARRY_OVER: i64 = MIN_SLICE as i64;
/// Shortest and longest time slice.
const MIN_SLICE: u64 = 500 * US;
const MAX_SLICE: u64 = 10 * MS;
/// Credit by which a unit must be ahead to leave the CPU it ran on, and to run on one that it does not like.
const MIGRATE_RESIST: i64 = 500 * US as i64;
const SOFT_RESIST: i64 = 1000 * US as i64;
/// Period over which caps hold.
const CAP_PERIOD: u64 = 10 * MS;
/// Shortest slice that a nearly spent budget causes; what it overruns is taken from the next period.
const MIN_CAP_SLICE: u64 = 50 * US;
/// Default of [`Scheduler::ratelimit_us`].
pub const DEFAULT_RATELIMIT_US: u32 = 1000;
