//! Machine frames: who owns each, what it is used for, how many references it has, and which are free.
//!
//! One [`FrameAllocator`] (the global one is [`frames()`]) keeps a table of 8 bytes per machine frame in
//! machine memory. The table is the only record of a frame; free blocks are linked through their own first word.
//!
//! ```text
//!            alloc / alloc_exact                 get             put
//!   Free ------------------------> in use, 1 ----------> n+1 ----------> n ...
//!    ^   (scrubbed before use)     ALLOCATED
//!    |                                |  release_allocated: clears ALLOCATED and drops that reference, once
//!    +--------------------------------+  the last reference, whoever holds it, frees the frame (dirty)
//! ```
//!
//! Invariants: a free frame changes state only under the allocator's lock (rank 80); an in-use frame changes
//! by compare-and-exchange of one 64-bit word; a frame with count 0 that is not free is in transit and no
//! `get` succeeds on it. Only [`Kind::GuestRam`] counts against a domain's `max_pages` and its claim;
//! [`Kind::PageTable`] and [`Kind::XenShared`] count as its overhead.
#![no_std]
#![forbid(unsafe_code)]
#[cfg(test)]
extern crate std;

mod account;
mod alloc;
mod buddy;
mod reference;
mod state;
mod table;
#[cfg(test)]
mod tests;

pub use account::{ClaimError, Domain};
pub use alloc::{AllocError, Contents, FrameAllocator, FreeError, InitError, Request};
pub use reference::{BadPut, FrameRef, GetError, Put};
pub use state::{FrameInfo, Kind};
pub use table::Extent;

/// Largest block the allocator hands out: order 18, 1 GiB.
pub const MAX_ORDER: u8 = 18;

static FRAMES: FrameAllocator = FrameAllocator::new();

/// The machine's frames.
pub fn frames() -> &'static FrameAllocator {
    &FRAMES
}
