//! ELF kernels (32- and 64-bit, little-endian x86): loadable segments and Xen's notes (xen/include/public/elfnote.h).

use alloc::vec::Vec;
use core::ops::Range;
use radon_addr::Gpa;

/// Note types of owner `Xen` (xen/include/public/elfnote.h).
pub mod note {
    /// `XEN_ELFNOTE_ENTRY`.
    pub const ENTRY: u32 = 1;
    /// `XEN_ELFNOTE_VIRT_BASE`.
    pub const VIRT_BASE: u32 = 3;
    /// `XEN_ELFNOTE_PADDR_OFFSET`.
    pub const PADDR_OFFSET: u32 = 4;
    /// `XEN_ELFNOTE_XEN_VERSION`.
    pub const XEN_VERSION: u32 = 5;
    /// `XEN_ELFNOTE_GUEST_OS`.
    pub const GUEST_OS: u32 = 6;
    /// `XEN_ELFNOTE_GUEST_VERSION`.
    pub const GUEST_VERSION: u32 = 7;
    /// `XEN_ELFNOTE_LOADER`.
    pub const LOADER: u32 = 8;
    /// `XEN_ELFNOTE_FEATURES`.
    pub const FEATURES: u32 = 10;
    /// `XEN_ELFNOTE_SUPPORTED_FEATURES`.
    pub const SUPPORTED_FEATURES: u32 = 17;
    /// `XEN_ELFNOTE_PHYS32_ENTRY`.
    pub const PHYS32_ENTRY: u32 = 18;
}

/// More program or section headers than any kernel has.
const MAX_HEADERS: u64 = 4096;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const SHT_NOTE: u32 = 7;
const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;

/// Why an ELF cannot be started as a PVH kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No ELF magic.
    NotElf,
    /// Big-endian, not x86, or neither executable nor shared object.
    WrongMachine,
    /// Headers or segment data lie outside the file.
    Truncated,
    /// Two segments load to the same place, or one wraps around, or is larger in the file than in memory.
    BadSegments,
    /// No loadable segment.
    NothingToLoad,
    /// No `XEN_ELFNOTE_PHYS32_ENTRY`: not a PVH kernel (Linux needs `CONFIG_PVH`).
    NotPvh,
    /// The entry point is in no segment.
    BadEntry,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Error::NotElf => "kernel is not an ELF file",
            Error::WrongMachine => "kernel is not an x86 executable",
            Error::Truncated => "kernel ELF is truncated",
            Error::BadSegments => "kernel ELF segments overlap or wrap",
            Error::NothingToLoad => "kernel ELF has no loadable segment",
            Error::NotPvh => "kernel has no PHYS32_ENTRY note: it is not a PVH kernel (CONFIG_PVH)",
            Error::BadEntry => "kernel entry point is outside its segments",
        })
    }
}

impl core::error::Error for Error {}

/// One piece to copy: `image[file]` to `gpa`, then zeros up to `mem_len`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Byte range in the ELF file, checked to lie within it.
    pub file: Range<usize>,
    /// Where it goes.
    pub gpa: Gpa,
    /// Bytes in memory, at least as many as in the file; `gpa + mem_len` does not wrap.
    pub mem_len: u64,
}

impl Segment {
    /// First byte after the segment.
    pub fn end(&self) -> u64 {
        self.gpa.raw().saturating_add(self.mem_len)
    }
}

/// A note of owner `Xen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    /// Type, see [`note`].
    pub kind: u32,
    /// Contents.
    pub desc: &'a [u8],
}

impl<'a> Note<'a> {
    /// As a number, if it is 4 or 8 bytes long.
    pub fn number(&self) -> Option<u64> {
        match self.desc.len() {
            4 => u32_at(self.desc, 0).map(u64::from),
            8 => u64_at(self.desc, 0),
            _ => None,
        }
    }

    /// As text, without its terminating zero.
    pub fn text(&self) -> Option<&'a str> {
        let end = self.desc.iter().position(|&b| b == 0).unwrap_or(self.desc.len());
        self.desc.get(..end).and_then(|b| core::str::from_utf8(b).ok())
    }
}

/// Everything needed to put a kernel into a domain and start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadPlan<'a> {
    /// 32-bit protected-mode entry point (`XEN_ELFNOTE_PHYS32_ENTRY`).
    pub entry: Gpa,
    /// Non-empty, sorted by address, disjoint.
    pub segments: Vec<Segment>,
    /// All Xen notes.
    pub notes: Vec<Note<'a>>,
    /// The file is ELF64.
    pub is_64bit: bool,
}

impl<'a> LoadPlan<'a> {
    /// Parses and checks an (unpacked) ELF.
    pub fn parse(image: &'a [u8]) -> Result<LoadPlan<'a>, Error> {
        let elf = Elf::parse(image)?;
        let segments = elf.segments()?;
        let notes = elf.notes()?;
        let entry = notes
            .iter()
            .find(|n| n.kind == note::PHYS32_ENTRY)
            .and_then(Note::number)
            .ok_or(Error::NotPvh)?;
        let inside = |s: &Segment| (s.gpa.raw()..s.end()).contains(&entry);
        if entry > u32::MAX.into() || !segments.iter().any(inside) {
            return Err(Error::BadEntry);
        }
        Ok(LoadPlan { entry: Gpa::new(entry), segments, notes, is_64bit: elf.wide })
    }

    /// The first note of that type.
    pub fn note(&self, kind: u32) -> Option<&Note<'a>> {
        self.notes.iter().find(|n| n.kind == kind)
    }

    /// Lowest address loaded and first address after the highest.
    pub fn extent(&self) -> (Gpa, Gpa) {
        let start = self.segments.first().map_or(0, |s| s.gpa.raw());
        let end = self.segments.iter().map(Segment::end).max().unwrap_or(0);
        (Gpa::new(start), Gpa::new(end))
    }
}

/// Where the header tables are.
struct Elf<'a> {
    image: &'a [u8],
    wide: bool,
    ph: Table,
    sh: Table,
}

#[derive(Clone, Copy)]
struct Table {
    offset: u64,
    entry_len: u64,
    count: u64,
}

/// The fields of a program header we use.
struct ProgramHeader {
    kind: u32,
    offset: u64,
    paddr: u64,
    file_len: u64,
    mem_len: u64,
    align: u64,
}

impl<'a> Elf<'a> {
    fn parse(image: &'a [u8]) -> Result<Self, Error> {
        if !image.starts_with(b"\x7fELF") {
            return Err(Error::NotElf);
        }
        let wide = match image.get(4..6) {
            Some([1, 1]) => false,
            Some([2, 1]) => true,
            _ => return Err(Error::WrongMachine),
        };
        let half = |at| u16_at(image, at).ok_or(Error::Truncated);
        if !matches!(half(16)?, 2 | 3) || !matches!(half(18)?, EM_386 | EM_X86_64) {
            return Err(Error::WrongMachine);
        }
        let word = |at64, at32| if wide { u64_at(image, at64) } else { u32_at(image, at32).map(u64::from) };
        let table = |offset: Option<u64>, at: usize| -> Result<Table, Error> {
            let (entry_len, count) = (half(at)?.into(), u64::from(half(at + 2)?));
            Ok(Table { offset: offset.ok_or(Error::Truncated)?, entry_len, count: count.min(MAX_HEADERS) })
        };
        let (ph_at, sh_at) = if wide { (54, 58) } else { (42, 46) };
        Ok(Self { image, wide, ph: table(word(32, 28), ph_at)?, sh: table(word(40, 32), sh_at)? })
    }

    /// Bytes `offset..offset + len` of the file.
    fn bytes(&self, offset: u64, len: u64) -> Result<&'a [u8], Error> {
        file_range(self.image, offset, len).and_then(|r| self.image.get(r)).ok_or(Error::Truncated)
    }

    fn entries(&self, t: Table, min32: u64, min64: u64) -> impl Iterator<Item = Result<&'a [u8], Error>> {
        let min = if self.wide { min64 } else { min32 };
        (0..t.count).map(move |i| {
            let at =
                i.checked_mul(t.entry_len).and_then(|o| o.checked_add(t.offset)).ok_or(Error::Truncated)?;
            self.bytes(at, t.entry_len.max(min))
        })
    }

    fn program_headers(&self) -> impl Iterator<Item = Result<ProgramHeader, Error>> {
        self.entries(self.ph, 32, 56).map(|h| {
            let h = h?;
            let word = |at64, at32| if self.wide { u64_at(h, at64) } else { u32_at(h, at32).map(u64::from) };
            let header = || {
                Some(ProgramHeader {
                    kind: u32_at(h, 0)?,
                    offset: word(8, 4)?,
                    paddr: word(24, 12)?,
                    file_len: word(32, 16)?,
                    mem_len: word(40, 20)?,
                    align: word(48, 28)?,
                })
            };
            header().ok_or(Error::Truncated)
        })
    }

    fn segments(&self) -> Result<Vec<Segment>, Error> {
        let mut list = Vec::new();
        for h in self.program_headers() {
            let h = h?;
            if h.kind != PT_LOAD || h.mem_len == 0 {
                continue;
            }
            if h.file_len > h.mem_len || h.paddr.checked_add(h.mem_len).is_none() {
                return Err(Error::BadSegments);
            }
            let file = file_range(self.image, h.offset, h.file_len).ok_or(Error::Truncated)?;
            list.push(Segment { file, gpa: Gpa::new(h.paddr), mem_len: h.mem_len });
        }
        list.sort_by_key(|s| s.gpa);
        if list.windows(2).any(|w| matches!(w, [a, b] if a.end() > b.gpa.raw())) {
            return Err(Error::BadSegments);
        }
        if list.is_empty() { Err(Error::NothingToLoad) } else { Ok(list) }
    }

    /// From PT_NOTE; from SHT_NOTE sections only when there are no Xen notes in any segment (as Xen does).
    fn notes(&self) -> Result<Vec<Note<'a>>, Error> {
        let mut list = Vec::new();
        for h in self.program_headers() {
            let h = h?;
            if h.kind == PT_NOTE {
                collect_notes(self.bytes(h.offset, h.file_len)?, h.align, &mut list);
            }
        }
        if !list.is_empty() || self.sh.offset == 0 {
            return Ok(list);
        }
        for h in self.entries(self.sh, 40, 64) {
            let h = h?;
            let word = |at64, at32| if self.wide { u64_at(h, at64) } else { u32_at(h, at32).map(u64::from) };
            let fields = (u32_at(h, 4), word(24, 16), word(32, 20), word(48, 32));
            let (Some(kind), Some(offset), Some(len), Some(align)) = fields else {
                return Err(Error::Truncated);
            };
            if kind == SHT_NOTE {
                collect_notes(self.bytes(offset, len)?, align, &mut list);
            }
        }
        Ok(list)
    }
}

/// Appends the Xen notes of one note segment; stops quietly at a malformed one. `align` is 8 for notes padded to 8 bytes
/// (a GNU property segment), anything else means 4.
fn collect_notes<'a>(mut b: &'a [u8], align: u64, list: &mut Vec<Note<'a>>) {
    let align = if align == 8 { 8 } else { 4 };
    let mut next = || {
        let (name_len, desc_len, kind) = (u32_at(b, 0)? as usize, u32_at(b, 4)? as usize, u32_at(b, 8)?);
        let name = b.get(12..12usize.checked_add(name_len)?)?;
        let desc_at = 12usize.checked_add(name_len)?.checked_next_multiple_of(align)?;
        let desc_end = desc_at.checked_add(desc_len)?;
        let desc = b.get(desc_at..desc_end)?;
        b = desc_end.checked_next_multiple_of(align).and_then(|n| b.get(n..)).unwrap_or_default();
        Some((name, Note { kind, desc }))
    };
    while let Some((name, note)) = next() {
        if name == b"Xen\0" {
            list.push(note);
        }
    }
}

fn file_range(image: &[u8], offset: u64, len: u64) -> Option<Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    (end <= image.len()).then_some(start..end)
}

fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    b.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    b.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    b.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}
