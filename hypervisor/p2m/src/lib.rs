//! Physical-to-machine: the nested page tables that turn a guest frame number into a machine frame number,
//! and [`guest_walk`], which turns a guest-virtual address into a guest-physical one.
//!
//! A [`P2m`] belongs to one domain and lives behind that domain's p2m lock (rank 70). It owns its table
//! frames; the frames it maps are the caller's business: a RAM frame stays alive by its allocation's own
//! reference, a foreign, granted or shared frame by a reference the caller took before [`P2m::set`] and drops
//! after the entry is reported removed **and** the TLBs are flushed.
//!
//! Rules for the core:
//! * [`Flush::Needed`]: flush the domain's TLBs on every CPU, then call [`P2m::reclaim`], and only then let go
//!   of the frames reported removed. Tables that a CPU may still walk wait on a list until then.
//! * Gaining rights needs no flush: a nested page fault on an access that the p2m allows is retried after
//!   flushing the faulting vCPU's own entries.
#![no_std]
#![forbid(unsafe_code)]
#[cfg(test)]
extern crate std;

mod entry;
pub mod guest_walk;
#[cfg(test)]
mod guest_walk_tests;
mod p2m;
mod reader;
#[cfg(test)]
mod tests;
mod walk;

pub use entry::{Entry, Format, Kind, Npt, Slot};
pub use p2m::{Flush, P2m, P2mError, Replaced};
pub use reader::Reader;
pub use walk::Walk;

/// Order of a 4 KiB leaf.
pub const ORDER_4K: u8 = 0;
/// Order of a 2 MiB leaf.
pub const ORDER_2M: u8 = 9;
/// Order of a 1 GiB leaf.
pub const ORDER_1G: u8 = 18;
