//! The state word of one frame.
//!
//! ```text
//!  0..32  reference count; in the head of a free block: index of its first dirty frame, or `CLEAN`
//! 32..48  owner            48..52  kind
//!    52   ALLOCATED: the allocation's own reference is still held (Xen's PGC_allocated)
//!    53   DIRTY: content unknown, must be zeroed before anyone else sees it
//!    54   HEAD of a free block      56..61  order of that block
//! ```

use radon_addr::DomId;

/// What a frame is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Not RAM the allocator may hand out: firmware, MMIO, the hypervisor's image.
    Reserved = 0,
    /// On the free lists.
    Free = 1,
    /// The hypervisor's own: nobody may map it.
    Heap = 2,
    /// A nested page table of the owner.
    PageTable = 3,
    /// The owner's RAM.
    GuestRam = 4,
    /// The hypervisor's page which the owner may map: shared info, grant frames.
    XenShared = 5,
}

impl Kind {
    /// May a guest hold references to such a frame?
    pub const fn mappable(self) -> bool {
        matches!(self, Kind::GuestRam | Kind::XenShared)
    }
}

/// A snapshot of one frame's table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameInfo {
    /// What the frame is used for.
    pub kind: Kind,
    /// Owner; meaningless for [`Kind::Free`] and [`Kind::Reserved`].
    pub owner: DomId,
    /// References, 0 when free, reserved or in transit.
    pub count: u32,
    /// Is the allocation's own reference among them?
    pub allocated: bool,
}

const ALLOCATED: u64 = 1 << 52;
const DIRTY: u64 = 1 << 53;
const HEAD: u64 = 1 << 54;

/// "No dirty frame in this block."
pub(crate) const CLEAN: u32 = u32::MAX;
/// References beyond this are refused.
pub(crate) const MAX_COUNT: u32 = 1 << 30;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct State(pub(crate) u64);

impl State {
    pub(crate) const RESERVED: State = State(0);

    const fn base(kind: Kind, owner: DomId) -> u64 {
        ((kind as u64) << 48) | ((owner.raw() as u64) << 32)
    }
    /// A free frame inside a block.
    pub(crate) const fn free(dirty: bool) -> State {
        State(Self::base(Kind::Free, DomId::new(0)) | if dirty { DIRTY } else { 0 })
    }
    /// This free frame, as the head of a block.
    pub(crate) const fn as_head(self, order: u8, first_dirty: u32) -> State {
        State(Self::free(self.dirty()).0 | HEAD | ((order as u64) << 56) | first_dirty as u64)
    }
    /// Taken off the free lists, not yet usable: count 0.
    pub(crate) const fn in_transit(kind: Kind, owner: DomId, dirty: bool) -> State {
        State(Self::base(kind, owner) | if dirty { DIRTY } else { 0 })
    }
    /// Freshly allocated: one reference, the allocation's own.
    pub(crate) const fn allocated(kind: Kind, owner: DomId) -> State {
        State(Self::base(kind, owner) | ALLOCATED | 1)
    }
    pub(crate) const fn kind(self) -> Kind {
        match (self.0 >> 48) & 0xf {
            1 => Kind::Free,
            2 => Kind::Heap,
            3 => Kind::PageTable,
            4 => Kind::GuestRam,
            5 => Kind::XenShared,
            _ => Kind::Reserved,
        }
    }
    pub(crate) const fn owner(self) -> DomId {
        DomId::new((self.0 >> 32) as u16)
    }
    /// References of an in-use frame.
    pub(crate) const fn count(self) -> u32 {
        self.0 as u32
    }
    /// First dirty frame of the block this frame is the head of.
    pub(crate) const fn first_dirty(self) -> u32 {
        self.0 as u32
    }
    pub(crate) const fn is_allocated(self) -> bool {
        self.0 & ALLOCATED != 0
    }
    pub(crate) const fn dirty(self) -> bool {
        self.0 & DIRTY != 0
    }
    pub(crate) const fn scrubbed(self) -> State {
        State(self.0 & !DIRTY)
    }
    pub(crate) const fn is_free(self) -> bool {
        matches!(self.kind(), Kind::Free)
    }
    /// Order of the free block this frame is the head of.
    pub(crate) const fn head_order(self) -> Option<u8> {
        if self.is_free() && self.0 & HEAD != 0 { Some(((self.0 >> 56) & 31) as u8) } else { None }
    }
    /// One reference more; the caller has checked [`MAX_COUNT`].
    pub(crate) const fn plus_one(self) -> State {
        State(self.0.wrapping_add(1))
    }
    /// One reference fewer; the caller has checked that there is one.
    pub(crate) const fn minus_one(self) -> State {
        State(self.0.wrapping_sub(1))
    }
    pub(crate) const fn without_allocated(self) -> State {
        State(self.0 & !ALLOCATED)
    }
    pub(crate) const fn info(self) -> FrameInfo {
        let counted = !matches!(self.kind(), Kind::Free | Kind::Reserved);
        FrameInfo {
            kind: self.kind(),
            owner: self.owner(),
            count: if counted { self.count() } else { 0 },
            allocated: self.is_allocated(),
        }
    }
}
