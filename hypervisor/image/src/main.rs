//! The image: from the boot loader to `core`. See [`start::boot_main`] for the order of things.
#![cfg_attr(target_os = "none", no_std, no_main)]
// On a host build only the logic that can be tested there is compiled.
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

extern crate alloc;

mod heap;
mod memory;

#[cfg(target_os = "none")]
mod crash;
#[cfg(target_os = "none")]
mod layout;
#[cfg(target_os = "none")]
mod pages;
#[cfg(target_os = "none")]
mod paging;
#[cfg(target_os = "none")]
mod segments;
#[cfg(target_os = "none")]
mod selftest;
#[cfg(target_os = "none")]
mod smp;
#[cfg(target_os = "none")]
mod start;
#[cfg(target_os = "none")]
mod symbols;
#[cfg(target_os = "none")]
mod traps;

#[cfg(target_os = "none")]
use start::run_cpu;

#[cfg(not(target_os = "none"))]
fn main() {
    println!("This is the hypervisor: build it with --release --target x86_64-unknown-none.");
}
