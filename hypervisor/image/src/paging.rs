//! The hypervisor's own page tables: the image with its protections, the direct map, CPU stacks.
#![allow(unsafe_code)] // switches to the new tables

use crate::layout;
use alloc::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use radon_addr::{CpuId, Maddr, PAGE_SIZE};
use radon_hw::mem::{DIRECTMAP_BASE, IMAGE_BASE, atomic_u64, image_maddr};
use radon_hw::{cpu, cr};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
/// Accessed and dirty, so that the processor never writes to the tables.
const TOUCHED: u64 = 1 << 5 | 1 << 6;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const CODE: u64 = PRESENT | TOUCHED | GLOBAL;
const CONSTANTS: u64 = CODE | NO_EXECUTE;
const DATA: u64 = CONSTANTS | WRITABLE;

/// Bytes of a CPU's stack.
pub const STACK_BYTES: u64 = 32 << 10;
/// Stacks lie in the last GiB, each in a slot of its own with unmapped pages around.
const STACKS_BASE: u64 = 0xffff_ffff_c000_0000;
const STACK_SLOT: u64 = 64 << 10;

static ROOT: AtomicU64 = AtomicU64::new(0);

/// The tables all CPUs share; the PML4's machine address.
pub fn root() -> Maddr {
    Maddr::new(ROOT.load(Relaxed))
}

/// Builds the tables with `directmap` (page-aligned start and end) in the direct map and switches to them.
pub fn init(directmap: &[(Maddr, Maddr)]) {
    let root = new_table();
    ROOT.store(root.raw(), Relaxed);
    let one_gib = cpu::features().page_1g;
    for &(start, end) in directmap {
        let bytes = end.raw().saturating_sub(start.raw());
        map(root, DIRECTMAP_BASE.wrapping_add(start.raw()), start, bytes, DATA, one_gib);
    }
    let guard = layout::stack_guard();
    let after_guard = Maddr::new(guard.raw() + PAGE_SIZE as u64);
    for (from, to, flags) in [
        (layout::start(), layout::rodata(), CODE),
        (layout::rodata(), layout::data(), CONSTANTS),
        (layout::data(), guard, DATA),
        (after_guard, layout::end(), DATA),
    ] {
        map(root, IMAGE_BASE + from.raw(), from, to.raw() - from.raw(), flags, false);
    }
    // Shared by all CPUs from the start, so that later entries need not be copied: the last GiB's table.
    table_at(root, STACKS_BASE, 2);
    // SAFETY: the new tables map the running code, its data and stack where the old ones do.
    unsafe { cr::write_cr3(root.raw()) };
}

/// Bytes of page tables that the direct map of these ranges needs at most.
pub fn table_bytes(directmap: &[(Maddr, Maddr)]) -> u64 {
    crate::memory::table_pages(directmap, cpu::features().page_1g) * PAGE_SIZE as u64
}

/// Maps a fresh stack for a CPU and returns its top.
pub fn map_stack(cpu: CpuId) -> u64 {
    let base = STACKS_BASE + u64::from(cpu.raw()) * STACK_SLOT + PAGE_SIZE as u64;
    for offset in (0..STACK_BYTES).step_by(PAGE_SIZE) {
        map(root(), base + offset, new_table(), PAGE_SIZE as u64, DATA, false);
    }
    base + STACK_BYTES
}

/// A zeroed page for a table (or a stack).
fn new_table() -> Maddr {
    let layout = Layout::new::<Page>();
    // SAFETY: the layout is not empty.
    let page = unsafe { alloc_zeroed(layout) };
    if page.is_null() {
        handle_alloc_error(layout);
    }
    image_maddr(page)
}

#[repr(align(4096))]
struct Page(#[allow(dead_code)] [u8; PAGE_SIZE]);

fn entry(table: Maddr, va: u64, level: u32) -> &'static AtomicU64 {
    let index = va >> (12 + 9 * level) & 511;
    atomic_u64(Maddr::new(table.raw() + index * 8))
}

/// The table of `level` (0 = 4 KiB entries) that covers `va`, made if there is none.
fn table_at(root: Maddr, va: u64, level: u32) -> Maddr {
    let mut table = root;
    for above in (level + 1..=3).rev() {
        let slot = entry(table, va, above);
        if slot.load(Relaxed) & PRESENT == 0 {
            slot.store(new_table().raw() | PRESENT | WRITABLE | TOUCHED & !(1 << 6), Relaxed);
        }
        table = Maddr::new(slot.load(Relaxed) & ADDRESS);
    }
    table
}

/// Maps page-aligned `bytes` with the largest pages that fit. Only fills entries that were not present.
fn map(root: Maddr, va: u64, at: Maddr, bytes: u64, flags: u64, one_gib: bool) {
    let mut done = 0;
    while done < bytes {
        let (to, from, left) = (va + done, at.raw() + done, bytes - done);
        let fits = |size: u64| (to | from) & (size - 1) == 0 && left >= size;
        let level = if one_gib && fits(1 << 30) {
            2
        } else if fits(2 << 20) {
            1
        } else {
            0
        };
        let large = if level > 0 { LARGE } else { 0 };
        entry(table_at(root, to, level), to, level).store(from | flags | large, Relaxed);
        done += 1 << (12 + 9 * level);
    }
}
