//! The table tree: lookup, set, remove.

use crate::entry::{Entry, Format, Kind, Npt, Slot};
use crate::{ORDER_1G, ORDER_2M, ORDER_4K};
use core::marker::PhantomData;
use core::ops::BitOr;
use core::sync::atomic::{AtomicU64, Ordering};
use radon_addr::{DomId, Gfn, Maddr, Mfn};
use radon_frames::{FrameAllocator, Kind as FrameKind, Request};
use radon_hw::mem;

/// Levels of a four-level tree, leaf level first.
pub(crate) const TOP: u32 = 3;
/// Entries in one table.
pub(crate) const ENTRIES: u64 = 512;
/// Widest guest-physical address four levels can translate.
const MAX_GPA_BITS: u8 = 48;
/// Frame numbers the entry format can hold.
const MFN_LIMIT: u64 = 1 << 40;

/// Did a change take rights away that CPUs may have cached?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "flush the domain's TLBs, then reclaim()"]
pub enum Flush {
    /// Nothing to do.
    None,
    /// Flush the domain's TLBs everywhere, then [`P2m::reclaim`].
    Needed,
}

impl BitOr for Flush {
    type Output = Flush;
    fn bitor(self, other: Flush) -> Flush {
        if self == Flush::None { other } else { Flush::Needed }
    }
}

/// Why a change was refused. Nothing visible to the guest changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum P2mError {
    /// The range reaches beyond the guest's physical address width (`EINVAL`).
    OutOfRange,
    /// An order other than 0, 9, 18, or one the CPU does not support (`EINVAL`).
    BadOrder,
    /// gfn or mfn not a multiple of the block size, or mfn too wide (`EINVAL`).
    Misaligned,
    /// No frame for a table, or the domain's table limit is reached (`ENOMEM`).
    NoMemory,
    /// The p2m is being torn down (`ESRCH`).
    Dying,
}

/// What [`P2m::set_page`] and [`P2m::remove_page`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "release the old frame after the flush"]
pub struct Replaced {
    /// The 4 KiB page that was mapped there before.
    pub old: Option<Entry>,
    /// What the TLBs need.
    pub flush: Flush,
}

/// One domain's nested page tables.
pub struct P2m<F: Format = Npt> {
    frames: &'static FrameAllocator,
    owner: DomId,
    /// `None` once torn down.
    pub(crate) root: Option<Mfn>,
    pub(crate) gfn_limit: u64,
    max_order: u8,
    tables: u32,
    table_limit: u32,
    max_gfn: u64,
    pub(crate) ram_pages: u64,
    /// Head of the list of tables that a CPU may still walk; linked by their first word.
    retired: Option<Mfn>,
    pub(crate) dying: bool,
    /// Where the teardown goes on.
    pub(crate) cursor: u64,
    format: PhantomData<F>,
}

/// log2 of the frames one entry of `level` covers.
pub(crate) const fn order_of(level: u32) -> u8 {
    (level * 9) as u8
}

/// The slot for `gfn` in a table whose entries are of `level`.
#[inline]
pub(crate) fn slot(table: Mfn, gfn: u64, level: u32) -> &'static AtomicU64 {
    let index = (gfn >> (9 * level)) & (ENTRIES - 1);
    mem::atomic_u64(Maddr::new(table.maddr().raw() | index << 3))
}

impl P2m<Npt> {
    /// An empty p2m in AMD's format, see [`P2m::with_format`].
    pub fn new(frames: &'static FrameAllocator, owner: DomId, gpa_bits: u8) -> Result<Self, P2mError> {
        Self::with_format(frames, owner, gpa_bits)
    }
}

impl<F: Format> P2m<F> {
    /// An empty p2m for guest-physical addresses of `gpa_bits` bits (clamped to 48). Tables come from
    /// `frames` and are charged to `owner` as overhead.
    pub fn with_format(
        frames: &'static FrameAllocator,
        owner: DomId,
        gpa_bits: u8,
    ) -> Result<Self, P2mError> {
        let bits = gpa_bits.clamp(13, MAX_GPA_BITS) - 12;
        let mut p2m = P2m {
            frames,
            owner,
            root: None,
            gfn_limit: 1 << bits,
            max_order: ORDER_1G,
            tables: 0,
            table_limit: u32::MAX,
            max_gfn: 0,
            ram_pages: 0,
            retired: None,
            dying: false,
            cursor: 0,
            format: PhantomData,
        };
        p2m.root = Some(p2m.new_table()?);
        Ok(p2m)
    }

    /// The root table's frame, for the VMCB's nested CR3. `None` after the teardown.
    pub fn root(&self) -> Option<Mfn> {
        self.root
    }
    /// Largest leaf the CPU supports: 9 without 1 GiB pages (CPUID 8000_0001 EDX 26), else 18, the default.
    pub fn set_max_order(&mut self, order: u8) {
        self.max_order = order;
    }
    /// Most table frames this p2m may hold (Xen's paging pool).
    pub fn set_table_limit(&mut self, tables: u32) {
        self.table_limit = tables;
    }
    /// Table frames held now, including those waiting for [`P2m::reclaim`].
    pub fn tables(&self) -> u32 {
        self.tables
    }
    /// Most table frames this p2m may hold.
    pub fn table_limit(&self) -> u32 {
        self.table_limit
    }
    /// Highest gfn ever mapped (`XENMEM_maximum_gpfn`).
    pub fn max_gfn(&self) -> Gfn {
        Gfn::new(self.max_gfn)
    }
    /// Frames of the domain's own RAM mapped now.
    pub fn ram_pages(&self) -> u64 {
        self.ram_pages
    }

    fn new_table(&mut self) -> Result<Mfn, P2mError> {
        if self.tables >= self.table_limit {
            return Err(P2mError::NoMemory);
        }
        let request = Request::new(0, self.owner, FrameKind::PageTable);
        let mfn = self.frames.alloc(request).map_err(|_| P2mError::NoMemory)?;
        self.tables += 1;
        Ok(mfn)
    }

    /// Frees a table no CPU can reach.
    pub(crate) fn free_table(&mut self, table: Mfn) {
        let freed = self.frames.free(table, 0);
        debug_assert!(freed.is_ok(), "p2m table {table:?} was not ours");
        self.tables = self.tables.saturating_sub(1);
    }

    /// What `gfn` maps to, if present.
    #[inline]
    pub fn lookup(&self, gfn: Gfn) -> Option<Entry> {
        match self.resolve(gfn) {
            (Slot::Leaf(mfn, kind), level) => {
                let within = gfn.raw() & ((1 << order_of(level)) - 1);
                Some(Entry { mfn: Mfn::new(mfn.raw() | within), kind, order: order_of(level) })
            }
            _ => None,
        }
    }

    /// What `gfn` is, present or not.
    pub fn kind(&self, gfn: Gfn) -> Kind {
        match self.resolve(gfn).0 {
            Slot::Leaf(_, kind) | Slot::Empty(kind) => kind,
            Slot::Table(_) => Kind::None,
        }
    }

    #[inline]
    fn resolve(&self, gfn: Gfn) -> (Slot, u32) {
        let raw = gfn.raw();
        let Some(mut table) = self.root.filter(|_| raw < self.gfn_limit) else {
            return (Slot::Empty(Kind::None), 0);
        };
        let mut level = TOP;
        loop {
            match F::decode(slot(table, raw, level).load(Ordering::Relaxed), level) {
                Slot::Table(next) if level > 0 => {
                    table = next;
                    level -= 1;
                }
                found => return (found, level),
            }
        }
    }

    /// Maps `2^order` frames from `gfn` on to those from `mfn` on as `kind`; larger leaves there are split,
    /// smaller ones replaced. `removed` is told of every present leaf that this takes away (a leaf may have
    /// any order up to `order`). Not-present kinds (`Broken`) leave a mark; for [`Kind::None`] use
    /// [`P2m::remove`]. Not preemptible: up to `2^order` leaves may be reported.
    pub fn set(
        &mut self,
        gfn: Gfn,
        mfn: Mfn,
        order: u8,
        kind: Kind,
        mut removed: impl FnMut(Gfn, Entry),
    ) -> Result<Flush, P2mError> {
        if self.dying {
            return Err(P2mError::Dying);
        }
        let level = self.check(gfn, order)?;
        let pages = 1_u64 << order;
        if kind.present() {
            if mfn.raw() & (pages - 1) != 0 || mfn.raw() >= MFN_LIMIT {
                return Err(P2mError::Misaligned);
            }
            if order > self.max_order {
                return Err(P2mError::BadOrder);
            }
        }
        let Some(at) = self.descend(gfn.raw(), level, Missing::Create)? else {
            return Err(P2mError::Dying);
        };
        if kind.is_own_ram() {
            self.ram_pages = self.ram_pages.saturating_add(pages);
        }
        if kind.present() {
            self.max_gfn = self.max_gfn.max(gfn.raw() + (pages - 1));
        }
        Ok(self.replace(at, gfn.raw(), level, F::leaf(mfn, kind, level), &mut removed))
    }

    /// Unmaps `2^order` frames from `gfn` on; `removed` as for [`P2m::set`]. Splitting a larger leaf may
    /// need memory.
    pub fn remove(
        &mut self,
        gfn: Gfn,
        order: u8,
        mut removed: impl FnMut(Gfn, Entry),
    ) -> Result<Flush, P2mError> {
        let level = self.check(gfn, order)?;
        match self.descend(gfn.raw(), level, Missing::Stop)? {
            Some(at) => Ok(self.replace(at, gfn.raw(), level, 0, &mut removed)),
            None => Ok(Flush::None),
        }
    }

    /// [`P2m::set`] of one 4 KiB page.
    pub fn set_page(&mut self, gfn: Gfn, mfn: Mfn, kind: Kind) -> Result<Replaced, P2mError> {
        let mut old = None;
        let flush = self.set(gfn, mfn, ORDER_4K, kind, |_, entry| old = Some(entry))?;
        Ok(Replaced { old, flush })
    }

    /// [`P2m::remove`] of one 4 KiB page.
    pub fn remove_page(&mut self, gfn: Gfn) -> Result<Replaced, P2mError> {
        let mut old = None;
        let flush = self.remove(gfn, ORDER_4K, |_, entry| old = Some(entry))?;
        Ok(Replaced { old, flush })
    }

    /// Maps `n` frames with the largest leaves that fit. For start-up: not preemptible, and on an error a
    /// part may be mapped.
    pub fn set_range(
        &mut self,
        gfn: Gfn,
        mfn: Mfn,
        n: u64,
        kind: Kind,
        mut removed: impl FnMut(Gfn, Entry),
    ) -> Result<Flush, P2mError> {
        let mut flush = Flush::None;
        let mut done = 0;
        while done < n {
            let at = gfn.checked_add(done).ok_or(P2mError::OutOfRange)?;
            let to = mfn.checked_add(done).ok_or(P2mError::Misaligned)?;
            let fits = |order: &u8| {
                let pages = 1 << order;
                (at.raw() | to.raw()) & (pages - 1) == 0 && pages <= n - done && *order <= self.max_order
            };
            let order = [ORDER_1G, ORDER_2M].into_iter().find(fits).unwrap_or(ORDER_4K);
            flush = flush | self.set(at, to, order, kind, &mut removed)?;
            done += 1 << order;
        }
        Ok(flush)
    }

    /// Frees the tables that were replaced. Only after the TLB flush that [`Flush::Needed`] asked for.
    pub fn reclaim(&mut self) {
        while let Some(table) = self.retired {
            let link = slot(table, 0, 0).load(Ordering::Relaxed) >> 12;
            self.retired = link.checked_sub(1).map(Mfn::new);
            self.free_table(table);
        }
    }

    fn check(&self, gfn: Gfn, order: u8) -> Result<u32, P2mError> {
        let level = match order {
            ORDER_4K => 0,
            ORDER_2M => 1,
            ORDER_1G => 2,
            _ => return Err(P2mError::BadOrder),
        };
        let pages = 1_u64 << order;
        if gfn.raw() & (pages - 1) != 0 {
            return Err(P2mError::Misaligned);
        }
        match gfn.raw().checked_add(pages) {
            Some(end) if end <= self.gfn_limit => Ok(level),
            _ => Err(P2mError::OutOfRange),
        }
    }

    /// The slot of `level` for `gfn`, splitting leaves on the way.
    fn descend(
        &mut self,
        gfn: u64,
        level: u32,
        missing: Missing,
    ) -> Result<Option<&'static AtomicU64>, P2mError> {
        let Some(mut table) = self.root else { return Ok(None) };
        for l in (level + 1..=TOP).rev() {
            let at = slot(table, gfn, l);
            table = match F::decode(at.load(Ordering::Relaxed), l) {
                Slot::Table(next) => next,
                Slot::Empty(Kind::None) if missing == Missing::Stop => return Ok(None),
                Slot::Empty(kind) => self.split(at, Mfn::new(0), kind, l)?,
                Slot::Leaf(mfn, kind) => self.split(at, mfn, kind, l)?,
            };
        }
        Ok(Some(slot(table, gfn, level)))
    }

    /// Replaces an entry of `level` by a table that says the same.
    fn split(&mut self, at: &AtomicU64, mfn: Mfn, kind: Kind, level: u32) -> Result<Mfn, P2mError> {
        let table = self.new_table()?;
        if kind != Kind::None {
            let below = level.saturating_sub(1);
            for index in 0..ENTRIES {
                let piece = Mfn::new(mfn.raw() + (index << order_of(below)));
                slot(table, index, 0).store(F::leaf(piece, kind, below), Ordering::Relaxed);
            }
        }
        // Release: a CPU that walks to the table must find it filled.
        at.store(F::table(table), Ordering::Release);
        Ok(table)
    }

    /// Writes `new` to a slot and accounts for what was there.
    fn replace(
        &mut self,
        at: &AtomicU64,
        gfn: u64,
        level: u32,
        new: u64,
        removed: &mut dyn FnMut(Gfn, Entry),
    ) -> Flush {
        let old = at.swap(new, Ordering::AcqRel);
        match F::decode(old, level) {
            Slot::Empty(_) => Flush::None,
            Slot::Leaf(mfn, kind) => {
                self.report(gfn, Entry { mfn, kind, order: order_of(level) }, removed);
                if F::loses_rights(old, new) { Flush::Needed } else { Flush::None }
            }
            Slot::Table(table) => {
                self.retire(table, gfn, level.saturating_sub(1), removed);
                Flush::Needed
            }
        }
    }

    pub(crate) fn report(&mut self, gfn: u64, entry: Entry, removed: &mut dyn FnMut(Gfn, Entry)) {
        if entry.kind.is_own_ram() {
            self.ram_pages = self.ram_pages.saturating_sub(1 << entry.order);
        }
        removed(Gfn::new(gfn), entry);
    }

    /// Reports the leaves of an unlinked table and sets it and its tables aside until the flush.
    fn retire(&mut self, table: Mfn, gfn: u64, level: u32, removed: &mut dyn FnMut(Gfn, Entry)) {
        for index in 0..ENTRIES {
            let at = gfn + (index << order_of(level));
            match F::decode(slot(table, index, 0).load(Ordering::Relaxed), level) {
                Slot::Empty(_) => {}
                Slot::Leaf(mfn, kind) => {
                    self.report(at, Entry { mfn, kind, order: order_of(level) }, removed);
                }
                Slot::Table(next) => self.retire(next, at, level.saturating_sub(1), removed),
            }
        }
        // A CPU with a stale pointer to this table may still read the link: it must look not present.
        let next = self.retired.map_or(0, |mfn| mfn.raw() + 1);
        slot(table, 0, 0).store(next << 12, Ordering::Release);
        self.retired = Some(table);
    }
}

impl<F: Format> Drop for P2m<F> {
    fn drop(&mut self) {
        self.free_tables();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Create,
    Stop,
}
