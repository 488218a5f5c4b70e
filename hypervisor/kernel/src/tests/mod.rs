//! Tests of everything but unpacking.

mod dom0_memory;
mod elf;
mod start_info;
