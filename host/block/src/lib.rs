//! The block back end: guests' disks, served by a process of dom0 from files and block devices (`docs/block.md`).
//!
//! | module | the noun |
//! |---|---|
//! | [`request`] | requests: bytes decoded and checked (pure) |
//! | [`ring`] | the ring that a guest shares (pure, over shared memory) |
//! | [`table`] | requests under way, where a kill leaves them (pure, over shared memory) |
//! | [`buffers`] | dom0's own pages for data (pure) |
//! | [`map`] | which parts of a disk are read where (pure) |
//! | [`state`] | the two ends' states, and what comes next (pure) |
//! | [`disk`] | a file or block device |
//! | [`share`] | what clones have in common is read once |
//! | [`queue`] | one ring being served |
//! | [`connection`] | a front end's rings, one thread each |
//! | [`device`] | one disk in the store |
//! | [`server`] | all of them |
//! | [`load`] | a load for a disk, to measure with |
#![forbid(unsafe_code)]

pub mod buffers;
pub mod connection;
pub mod device;
pub mod disk;
pub mod load;
pub mod map;
pub mod queue;
pub mod request;
pub mod ring;
pub mod server;
pub mod share;
pub mod state;
pub mod table;
