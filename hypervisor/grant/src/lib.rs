//! Grant tables: what one domain lets others map, copy or transfer (Xen's grant_table.h, versions 1 and 2).
//!
//! # Protocol with the core
//! A [`GrantTable`] belongs to the granter, a [`MapTrack`] to the mapper; each is plain data in a lock of
//! rank GRANT. A *pin* is one use of a grant entry: while an entry is pinned its frame, range and grantee are
//! fixed in the active entry, whatever the guest does to the shared entry, and the guest sees
//! `GTF_reading`/`GTF_writing`. **Each pin goes with exactly one reference on the granted frame**, taken by
//! the `acquire` function passed to [`GrantTable::pin`] (called under the granter's lock; the p2m and frame
//! locks rank higher).
//!
//! - *Map*: [`map_access`] checks flags; [`MapTrack::reserve`] a handle; [`GrantTable::pin`] for [`Purpose::Map`];
//!   put the frame into the mapper's p2m; [`MapTrack::commit`]. Failing half-way: [`GrantTable::unpin`], drop the frame
//!   reference it returns, [`MapTrack::cancel`].
//! - *Unmap*: [`MapTrack::take`] (a handle can be taken only once); remove from the mapper's p2m; flush TLBs;
//!   [`GrantTable::unpin`]; drop the frame reference.
//! - *Copy*: pin both sides for [`Purpose::Copy`], [`Pinned::check_range`], copy, unpin both. One table lock at a time is
//!   enough.
//! - *Death of a mapper*: [`MapTrack::next_mapped`] in bounded steps, each as an unmap. *Death of a granter*: its
//!   table and frames stay until [`GrantTable::pinned_entries`] is 0.
//!
//! Stricter than Xen in one respect: making a pinned entry writable checks type, grantee and frame of the
//! shared entry again, so that a guest that rewrites an entry in use is never taken to grant writes to the
//! old frame. Transitive grants are refused (`GNTST_general_error`), as Xen does with `gnttab=no-transitive`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod active;
mod frames;
mod maptrack;
mod pin;
mod shared;
mod status;
mod table;
mod transfer;
mod version;

pub use active::{Access, Mode, Via};
pub use frames::FrameKind;
pub use maptrack::{Handle, MapTrack, Mapping, map_access};
pub use pin::{FrameRequest, Pinned, Purpose};
pub use status::GntStatus;
pub use table::{GrantTable, check_cache_flush};
pub use transfer::Transfer;
