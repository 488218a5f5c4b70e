//! What one entry says, and how the hardware wants it written.

use radon_addr::Mfn;

/// What a guest frame is (Xen's `p2m_type_t`). Kept in the entry's software bits, also when not present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Nothing there.
    None = 0,
    /// The domain's own RAM.
    Ram = 1,
    /// Its own RAM, writes are dropped.
    RamRo = 2,
    /// Its own RAM, write-protected to learn of the first write.
    RamLogdirty = 3,
    /// Device memory, uncached.
    MmioDirect = 4,
    /// Another domain's frame (`XENMAPSPACE_gmfn_foreign`); holds a reference.
    Foreign = 5,
    /// A granted frame, writable; holds a reference.
    GrantRw = 6,
    /// A granted frame, read-only; holds a reference.
    GrantRo = 7,
    /// Shared info or a grant-table frame.
    XenShared = 8,
    /// RAM lost to a machine check: not present.
    Broken = 9,
}

impl Kind {
    /// Is such an entry present in the hardware's eyes?
    pub const fn present(self) -> bool {
        !matches!(self, Kind::None | Kind::Broken)
    }
    /// The domain's own RAM?
    pub const fn is_own_ram(self) -> bool {
        matches!(self, Kind::Ram | Kind::RamRo | Kind::RamLogdirty)
    }
    /// RAM, whoever owns it, that may be read on the guest's behalf?
    pub const fn is_ram(self) -> bool {
        self.present() && !matches!(self, Kind::MmioDirect)
    }
    /// RAM, whoever owns it, that may be written on the guest's behalf?
    pub const fn is_writable_ram(self) -> bool {
        self.is_ram() && self.writable()
    }
    /// May the guest write?
    pub const fn writable(self) -> bool {
        matches!(self, Kind::Ram | Kind::MmioDirect | Kind::Foreign | Kind::GrantRw | Kind::XenShared)
    }
    /// May the guest fetch instructions? Not from other people's pages.
    pub const fn executable(self) -> bool {
        self.is_own_ram() || matches!(self, Kind::MmioDirect)
    }
    const fn from_bits(bits: u64) -> Kind {
        match bits & 0xf {
            1 => Kind::Ram,
            2 => Kind::RamRo,
            3 => Kind::RamLogdirty,
            4 => Kind::MmioDirect,
            5 => Kind::Foreign,
            6 => Kind::GrantRw,
            7 => Kind::GrantRo,
            8 => Kind::XenShared,
            9 => Kind::Broken,
            _ => Kind::None,
        }
    }
}

/// A present leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// From [`crate::P2m::lookup`]: the frame of exactly that gfn. When a leaf is reported: its first frame.
    pub mfn: Mfn,
    /// What it is.
    pub kind: Kind,
    /// The leaf's order: 0, 9 or 18.
    pub order: u8,
}

/// One decoded table slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// Not present; the kind says why.
    Empty(Kind),
    /// Points to a table of the next level down.
    Table(Mfn),
    /// Maps memory.
    Leaf(Mfn, Kind),
}

/// The hardware's format of a nested page-table entry. Level 0 entries map 4 KiB, level 1 2 MiB, level 2 1 GiB.
/// The word 0 means "not present, [`Kind::None`]" in every format.
pub trait Format {
    /// Encodes a leaf, or a not-present entry if the kind is one.
    fn leaf(mfn: Mfn, kind: Kind, level: u32) -> u64;
    /// Encodes a pointer to a table.
    fn table(mfn: Mfn) -> u64;
    /// What an entry found at `level` means.
    fn decode(raw: u64, level: u32) -> Slot;
    /// May a CPU that cached leaf `old` do what `new` forbids, or reach another frame?
    fn loses_rights(old: u64, new: u64) -> bool;
}

/// AMD nested paging: x86-64 long-mode format (APM volume 2, 15.25 and 5.3).
#[derive(Clone, Copy, Debug)]
pub struct Npt;

const P: u64 = 1;
const RW: u64 = 1 << 1;
/// Nested walks are user accesses (APM 15.25.5): every entry has it.
const US: u64 = 1 << 2;
const PCD: u64 = 1 << 4;
/// Accessed and dirty are set from the start so that the CPU never writes to a table.
const AD: u64 = 1 << 5 | 1 << 6;
const PS: u64 = 1 << 7;
const NX: u64 = 1 << 63;
const ADDR: u64 = 0x000f_ffff_ffff_f000;
const KIND_SHIFT: u32 = 52;

impl Format for Npt {
    #[inline]
    fn leaf(mfn: Mfn, kind: Kind, level: u32) -> u64 {
        let tag = (kind as u64) << KIND_SHIFT;
        if !kind.present() {
            return tag;
        }
        let mut raw = tag | (mfn.raw() << 12 & ADDR) | P | US | AD;
        if kind.writable() {
            raw |= RW;
        }
        if !kind.executable() {
            raw |= NX;
        }
        if matches!(kind, Kind::MmioDirect) {
            raw |= PCD;
        }
        if level > 0 {
            raw |= PS;
        }
        raw
    }
    #[inline]
    fn table(mfn: Mfn) -> u64 {
        (mfn.raw() << 12 & ADDR) | P | RW | US | AD
    }
    #[inline]
    fn decode(raw: u64, level: u32) -> Slot {
        let mfn = Mfn::new((raw & ADDR) >> 12);
        if raw & P == 0 {
            Slot::Empty(Kind::from_bits(raw >> KIND_SHIFT))
        } else if level > 0 && raw & PS == 0 {
            Slot::Table(mfn)
        } else {
            Slot::Leaf(mfn, Kind::from_bits(raw >> KIND_SHIFT))
        }
    }
    #[inline]
    fn loses_rights(old: u64, new: u64) -> bool {
        if old & P == 0 {
            return false;
        }
        new & P == 0
            || (old ^ new) & (ADDR | PCD | PS) != 0
            || (old & RW != 0 && new & RW == 0)
            || (old & NX == 0 && new & NX != 0)
    }
}
