//! The image: from the boot loader to `core`. See [`start::boot_main`] for the order of things.
//!
//! ```text
//! cargo build --release -p radon --target x86_64-unknown-none     (or `cargo xtask build`: with names in crash reports)
//! qemu-system-x86_64 -machine q35 -cpu EPYC,+svm,+npt,-rdtscp,-monitor,-xsave -m 2048 -smp 2 -nographic \
//!     -kernel radon -append "console=com1 com1=115200,8n1 dom0_mem=1024M" -initrd "vmlinuz args,initrd.gz"
//! ```
//! Loaders: Multiboot 1 (QEMU, GRUB), Multiboot 2 (GRUB, BIOS and UEFI), PVH. With `radon-selftest` on the command line and
//! `-device isa-debug-exit,iobase=0xf4,iosize=4` the emulator ends with status 33 if all is well, 35 after a crash.
#![cfg_attr(target_os = "none", no_std, no_main)]
// On a host build only the logic that can be tested there is compiled.
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

extern crate alloc;

mod heap;
mod memory;
mod reserve;

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
