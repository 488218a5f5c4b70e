//! Where the link script put the image.
#![allow(unsafe_code)] // symbols of the link script and the entry code

use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64};
use radon_addr::Maddr;
use radon_hw::mem::image_maddr;

unsafe extern "C" {
    static image_start: u8;
    static image_rodata: u8;
    static image_data: u8;
    static image_end: u8;
    static boot_stack_guard: u8;
    static ap_trampoline: u8;
    static ap_trampoline_end: u8;
    safe static ap_page_tables: AtomicU64;
    safe static ap_stack: AtomicU64;
    safe static ap_cpu: AtomicU32;
}

macro_rules! machine_addresses {
    ($($(#[$m:meta])* $name:ident = $symbol:ident;)*) => {$(
        $(#[$m])*
        pub fn $name() -> Maddr {
            image_maddr(&raw const $symbol)
        }
    )*};
}
machine_addresses! {
    /// First byte of the image (and of its code).
    start = image_start;
    /// First byte of constants.
    rodata = image_rodata;
    /// First byte of writable data.
    data = image_data;
    /// One past the image, zeroed data included.
    end = image_end;
    /// The page below the boot CPU's stack.
    stack_guard = boot_stack_guard;
}

/// Machine addresses of the start-up code that is copied below 1 MiB.
pub fn trampoline() -> Range<Maddr> {
    image_maddr(&raw const ap_trampoline)..image_maddr(&raw const ap_trampoline_end)
}

/// What a starting CPU picks up in the entry code: page tables, top of its stack, its id.
pub fn ap_mailbox() -> (&'static AtomicU64, &'static AtomicU64, &'static AtomicU32) {
    (&ap_page_tables, &ap_stack, &ap_cpu)
}

/// True for an address within the image's code.
pub fn is_code(address: u64) -> bool {
    (&raw const image_start as u64..&raw const image_rodata as u64).contains(&address)
}
