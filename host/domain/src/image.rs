//! What goes into a new guest's memory: kernel, initial RAM disk, start info, ACPI tables. Pure: files in, pieces out.

use crate::acpi;
use crate::layout::{ACPI_START, Kib, LEGACY_RSDP, Layout, PAGE};
use radon_addr::Gpa;
use radon_kernel::elf::note;
use radon_kernel::{LoadPlan, Module, StartInfo, StartInfoParams};
use std::borrow::Cow;

/// Alignment of what follows the kernel.
const ALIGN: u64 = 2 << 20;
/// Bit of `XEN_ELFNOTE_SUPPORTED_FEATURES`: takes the ACPI root pointer from the start info.
const LINUX_RSDP_UNRESTRICTED: u64 = 1 << xen_abi::features::XENFEAT_LINUX_RSDP_UNRESTRICTED;

/// Why a guest cannot be made of these files.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a kernel in a known packing.
    #[error("{0}")]
    Unpack(radon_kernel::unpack::Error),
    /// Not a PVH kernel.
    #[error("{0}")]
    Elf(radon_kernel::elf::Error),
    /// It does not fit.
    #[error("kernel and RAM disk need {need} KiB below 4 GiB; the guest has {has} KiB there")]
    TooSmall {
        /// KiB up to the end of what is loaded.
        need: u64,
        /// KiB of low memory.
        has: u64,
    },
}

/// Bytes to be put at an address, and zeros after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Where in the guest.
    pub at: u64,
    /// What.
    pub bytes: Cow<'a, [u8]>,
    /// Zeros that follow.
    pub zeros: u64,
}

/// A guest's memory before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// Its memory.
    pub layout: Layout,
    /// What is in it; disjoint.
    pub pieces: Vec<Piece<'a>>,
    /// Where the first vCPU starts.
    pub entry: u64,
    /// Address of the start info.
    pub start_info: u64,
}

/// Unpacks a kernel.
pub fn unpack(file: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    radon_kernel::unpack(file).map_err(Error::Unpack)
}

/// Lays out a guest that starts this (unpacked) kernel.
pub fn plan<'a>(
    elf: &'a [u8],
    initrd: Option<&'a [u8]>,
    command_line: &str,
    memory: Kib,
    vcpus: u32,
) -> Result<Image<'a>, Error> {
    let plan = LoadPlan::parse(elf).map_err(Error::Elf)?;
    let tables = acpi::tables(ACPI_START, vcpus);
    let layout = Layout::new(memory, (tables.bytes.len() as u64).div_ceil(PAGE), needs_legacy_rsdp(&plan));

    let end = plan.extent().1.raw();
    let initrd_at = end.checked_next_multiple_of(ALIGN).unwrap_or(u64::MAX);
    let initrd_len = initrd.map_or(0, |i| i.len() as u64);
    let module = Module { gpa: Gpa::new(initrd_at), len: initrd_len, cmdline: b"" };
    let map = layout.map();
    let params = StartInfoParams {
        flags: 0,
        cmdline: command_line.as_bytes(),
        modules: if initrd.is_some() { std::slice::from_ref(&module) } else { &[] },
        memmap: &map,
        rsdp: Some(Gpa::new(if layout.legacy_rsdp { LEGACY_RSDP } else { ACPI_START })),
    };
    let info_at = initrd_at.saturating_add(initrd_len).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
    let need = info_at.saturating_add(StartInfo::len(&params) as u64);
    if need > layout.low_end {
        return Err(Error::TooSmall { need: need.div_ceil(1024), has: layout.low_end / 1024 });
    }

    let piece = |at, bytes, zeros| Piece { at, bytes, zeros };
    let mut pieces: Vec<Piece<'a>> = Vec::new();
    for segment in &plan.segments {
        // The plan has checked that the range lies within the file, and is no longer than the memory.
        let bytes = elf.get(segment.file.clone()).unwrap_or_default();
        pieces.push(piece(
            segment.gpa.raw(),
            bytes.into(),
            segment.mem_len.saturating_sub(bytes.len() as u64),
        ));
    }
    pieces.extend(initrd.map(|bytes| piece(initrd_at, bytes.into(), 0)));
    pieces.push(piece(info_at, StartInfo::build(&params, Gpa::new(info_at)).into(), 0));
    let rest = layout.acpi_pages * PAGE - tables.bytes.len() as u64;
    pieces.push(piece(ACPI_START, tables.bytes.into(), rest));
    if layout.legacy_rsdp {
        pieces.push(piece(LEGACY_RSDP, tables.rsdp.into(), 0));
    }
    Ok(Image { layout, pieces, entry: plan.entry.raw(), start_info: info_at })
}

/// Whether this kernel looks for the ACPI root pointer in low memory only: an old Linux.
fn needs_legacy_rsdp(plan: &LoadPlan<'_>) -> bool {
    let linux = plan.note(note::GUEST_OS).and_then(|n| n.text()) == Some("linux");
    let features = plan.note(note::SUPPORTED_FEATURES).and_then(|n| n.number()).unwrap_or(0);
    linux && features & LINUX_RSDP_UNRESTRICTED == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A 64-bit ELF with one segment of `mem` bytes at 16 MiB, of which `code` are in the file, and the notes of a PVH kernel.
    fn kernel(code: &[u8], mem: u64, os: &str, features: u32) -> Vec<u8> {
        let mut notes = Vec::new();
        let mut note = |kind: u32, desc: &[u8]| {
            for v in [4, desc.len() as u32, kind] {
                notes.extend_from_slice(&v.to_le_bytes());
            }
            notes.extend_from_slice(b"Xen\0");
            notes.extend_from_slice(desc);
            notes.resize(notes.len().next_multiple_of(4), 0);
        };
        note(note::PHYS32_ENTRY, &0x100_0000u32.to_le_bytes());
        note(note::GUEST_OS, format!("{os}\0").as_bytes());
        note(note::SUPPORTED_FEATURES, &features.to_le_bytes());
        let mut out = vec![0; 64];
        out[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        out[16..20].copy_from_slice(&[2, 0, 62, 0]);
        out[32] = 64;
        (out[54], out[56]) = (56, 2);
        let data = 64 + 2 * 56;
        for (kind, at, gpa, len, mem) in [
            (1u32, data + notes.len(), 0x100_0000u64, code.len(), mem),
            (4, data, 0, notes.len(), notes.len() as u64),
        ] {
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(&[0; 4]);
            for v in [at as u64, gpa, gpa, len as u64, mem, 4] {
                out.extend_from_slice(&v.to_le_bytes());
            }
        }
        out.extend_from_slice(&notes);
        out.extend_from_slice(code);
        out
    }

    proptest! {
        #[test]
        fn pieces_are_disjoint_and_in_the_guests_memory(
            code in proptest::collection::vec(any::<u8>(), 1..5000), bss in 0u64..1 << 20, initrd in 0usize..9000,
            kib in 20 * 1024u64..8 << 20, vcpus in 1u32..=128, old: bool, line in "[a-z =]{0,600}",
        ) {
            let elf = kernel(&code, code.len() as u64 + bss, "linux", if old { 0 } else { 1 << 15 });
            let disk = vec![7; initrd];
            let image = plan(&elf, Some(&disk), &line, Kib::new(kib).unwrap(), vcpus).unwrap();
            prop_assert_eq!(image.layout.legacy_rsdp, old);
            let mut ranges: Vec<(u64, u64)> =
                image.pieces.iter().map(|p| (p.at, p.at + p.bytes.len() as u64 + p.zeros)).collect();
            ranges.sort_unstable();
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].1 <= pair[1].0);
            }
            for (start, end) in ranges {
                let frames: Vec<u64> = image.layout.extra_frames();
                let in_ram = end <= image.layout.low_end;
                let in_extra = (start / PAGE..end.div_ceil(PAGE)).all(|f| frames.contains(&f));
                prop_assert!(in_ram || in_extra, "{:#x}..{:#x}", start, end);
            }
            prop_assert_eq!(image.entry, 0x100_0000);
            prop_assert!(image.pieces.iter().any(|p| p.at == image.start_info));
        }

        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(plan(&bytes, None, "", Kib::new(65536).unwrap(), 1).is_err());
            prop_assert!(unpack(&bytes).is_err());
        }
    }

    #[test]
    fn a_guest_too_small_is_told_how_much_it_needs() {
        let elf = kernel(&[1; 10], 64 << 20, "linux", 1 << 15);
        let error = plan(&elf, None, "", Kib::new(65536).unwrap(), 1).unwrap_err();
        assert!(matches!(error, Error::TooSmall { need: 81921, has: 65536 }), "{error}");
    }
}
