//! What the boot loader says, whichever protocol it speaks, as one [`BootInfo`].
//!
//! ```text
//! (magic, address) -> parse() -> multiboot1 | multiboot2 | pvh -> BootInfo { memory, modules, cmdline, ... }
//! ```
//! Loader structures are read through a [`ReadMem`] callback, so nothing here touches memory by itself. Loaders are
//! trusted to be honest but not to be correct: every length is bounded and an unreadable address is an [`Error`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod memory;
mod multiboot1;
mod multiboot2;
mod pvh;
mod reader;

use alloc::string::String;
use alloc::vec::Vec;
use radon_addr::Maddr;

pub use memory::{MemKind, MemRegion, normalise};
pub use reader::ReadMem;

/// `eax` at entry under Multiboot 1 (Multiboot Specification 0.6.96, 3.2).
pub const MULTIBOOT1_MAGIC: u32 = 0x2bad_b002;
/// `eax` at entry under Multiboot 2 (Multiboot2 Specification 2.0, 3.3).
pub const MULTIBOOT2_MAGIC: u32 = 0x36d7_6289;
/// First word of the PVH start info (`XEN_HVM_START_MAGIC_VALUE`, arch-x86/hvm/start_info.h).
pub const PVH_MAGIC: u32 = 0x336e_c578;

/// Most modules looked at; a loader that claims more is wrong.
pub const MAX_MODULES: usize = 64;
/// Most entries of a memory map looked at.
pub const MAX_REGIONS: usize = 1024;

/// A file the loader placed in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// First byte.
    pub start: Maddr,
    /// Bytes.
    pub len: u64,
    /// Its arguments, without the file's name when the loader passes one.
    pub cmdline: String,
}

/// What an EFI loader leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EfiInfo {
    /// The EFI system table.
    pub system_table: Maddr,
    /// The EFI memory map, raw descriptors.
    pub memory_map: Vec<u8>,
    /// Bytes of one descriptor in `memory_map`.
    pub descriptor_size: u32,
    /// Version of the descriptors.
    pub descriptor_version: u32,
    /// Boot services were not terminated by the loader.
    pub boot_services: bool,
}

/// The machine as the boot loader describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootInfo {
    /// The memory map: sorted, without overlaps, neighbours of equal kind merged.
    pub memory: Vec<MemRegion>,
    /// Modules in the order given (0 is dom0's kernel, 1 its initrd).
    pub modules: Vec<Module>,
    /// The hypervisor's options, without the image's name.
    pub cmdline: String,
    /// The loader's name, as it gives it.
    pub loader: String,
    /// ACPI root pointer, when the loader knows it. May lie inside `loader_data`.
    pub rsdp: Option<Maddr>,
    /// Set when an EFI system table was passed.
    pub efi: Option<EfiInfo>,
    /// Ranges (start, bytes) of loader structures that `rsdp` may point into: keep until ACPI was read.
    pub loader_data: Vec<(Maddr, u64)>,
}

/// Why the loader's data cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// `eax` carried no known magic value.
    UnknownProtocol(u32),
    /// The structure at this address cannot be read.
    Unreadable(Maddr),
    /// The PVH start info does not begin with its magic value.
    BadMagic(u32),
    /// No usable RAM is described.
    NoMemory,
}

/// Reads what loader protocol `magic` left at `info`.
///
/// # Errors
/// See [`Error`].
pub fn parse(magic: u32, info: Maddr, read: ReadMem<'_>) -> Result<BootInfo, Error> {
    let reader = reader::Reader::new(read);
    let mut boot = match magic {
        MULTIBOOT1_MAGIC => multiboot1::parse(info, &reader)?,
        MULTIBOOT2_MAGIC => multiboot2::parse(info, &reader)?,
        PVH_MAGIC => pvh::parse(info, &reader)?,
        other => return Err(Error::UnknownProtocol(other)),
    };
    boot.memory = normalise(&boot.memory);
    if !boot.memory.iter().any(|r| r.kind == MemKind::Ram) {
        return Err(Error::NoMemory);
    }
    // GRUB 2 and PVH loaders pass arguments alone; everything else puts the file's name first.
    if magic != PVH_MAGIC && !is_grub2(&boot.loader) {
        boot.cmdline = strip_first_word(&boot.cmdline);
        for module in &mut boot.modules {
            module.cmdline = strip_first_word(&module.cmdline);
        }
    }
    Ok(boot)
}

/// GRUB 2 names itself "GRUB 2.x"; GRUB legacy "GNU GRUB 0.9x".
fn is_grub2(loader: &str) -> bool {
    loader.split_once("GRUB ").is_some_and(|(_, version)| !version.starts_with('0'))
}

fn strip_first_word(line: &str) -> String {
    let line = line.trim_start_matches(' ');
    match line.split_once(' ') {
        Some((_, rest)) => String::from(rest.trim_start_matches(' ')),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
