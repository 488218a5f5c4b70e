//! Kernel images: unpack them, plan how to load them, write the PVH start info, and lay out dom0's memory.
//!
//! Pure logic on byte slices: nothing here touches a domain. Images and memory maps are input from outside, so garbage is
//! an error, never a panic.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod dom0_memory;
pub mod elf;
pub mod start_info;
#[cfg(test)]
mod tests;
pub mod unpack;

pub use dom0_memory::{Dom0Memory, Dom0Request, MemType, Placement, RamRange, Region, dom0_memory_layout};
pub use elf::{LoadPlan, Note, Segment};
pub use start_info::{Module, SIF_INITDOMAIN, SIF_PRIVILEGED, StartInfo, StartInfoParams};
pub use unpack::{Packed, unpack, unpack_into, unpacked_len};
