//! The allocator: free lists and counters under one lock, frame states without it.

use crate::MAX_ORDER;
use crate::account::Counters;
use crate::buddy::{Buddy, Prefer, size};
use crate::state::{CLEAN, FrameInfo, Kind, State};
use crate::table::{Extent, Table};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use radon_addr::{DomId, Maddr, Mfn};
use radon_hw::lock::{Guard, SpinLock, rank};
use radon_hw::mem;

/// What the caller wants to find in a frame it is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contents {
    /// Zeroes.
    Zeroed,
    /// Anything: the caller overwrites every byte before anyone else can read it.
    Overwritten,
}

/// One allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// log2 of the number of frames, at most [`MAX_ORDER`].
    pub order: u8,
    /// Who will own the frames.
    pub owner: DomId,
    /// What they are for: `Heap`, `PageTable`, `GuestRam` or `XenShared`.
    pub kind: Kind,
    /// Every byte must lie below `2^max_addr_bits`; 64 for no limit.
    pub max_addr_bits: u8,
    /// What the caller wants to find in them.
    pub contents: Contents,
}

impl Request {
    /// `2^order` zeroed frames anywhere.
    pub const fn new(order: u8, owner: DomId, kind: Kind) -> Request {
        Request { order, owner, kind, max_addr_bits: 64, contents: Contents::Zeroed }
    }
    /// Below `2^bits` bytes.
    pub const fn below(self, bits: u8) -> Request {
        Request { max_addr_bits: bits, ..self }
    }
    /// With any content; see [`Contents::Overwritten`].
    pub const fn overwritten(self) -> Request {
        Request { contents: Contents::Overwritten, ..self }
    }
}

/// Why an allocation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AllocError {
    /// No free block that fits, or all free memory is claimed by other domains (`ENOMEM`).
    NoMemory,
    /// The owner would exceed its `max_pages`.
    OverMax,
    /// Some frame of the wanted range is not free.
    InUse,
    /// Order, kind or owner make no sense.
    BadRequest,
}

/// [`FrameAllocator::free`] was given a block that was not allocated as such: a bug, nothing was freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FreeError;

/// Why [`FrameAllocator::init`] refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InitError {
    /// Already initialised.
    Twice,
    /// More frames than a table can index (2^32 - 1), or none, or a misaligned table.
    BadTable,
}

/// What the lock protects.
pub(crate) struct Inner {
    pub(crate) buddy: Buddy,
    pub(crate) free: u64,
    pub(crate) total: u64,
    pub(crate) claims: u64,
    pub(crate) dirty: u64,
}

impl Inner {
    /// Free frames that guests' RAM leaves to the hypervisor (page tables, shared pages, heap): what one guest takes must not
    /// keep another from running.
    pub(crate) fn floor(&self) -> u64 {
        (self.total / 256).min(FLOOR_MAX)
    }
}

/// 4 MiB.
const FLOOR_MAX: u64 = 1024;

/// The frames of one machine.
pub struct FrameAllocator {
    table_base: AtomicU64,
    /// The table's packed [`Extent`]. Written last by `init`: until then no frame exists.
    extent: AtomicU64,
    inner: SpinLock<Inner>,
    free: AtomicU64,
    total: AtomicU64,
    claims: AtomicU64,
    dirty: AtomicU64,
}

impl Default for FrameAllocator {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameAllocator {
    /// An allocator that owns nothing until [`FrameAllocator::init`].
    pub const fn new() -> FrameAllocator {
        let inner = Inner { buddy: Buddy::new(), free: 0, total: 0, claims: 0, dirty: 0 };
        FrameAllocator {
            table_base: AtomicU64::new(0),
            extent: AtomicU64::new(0),
            inner: SpinLock::new(rank::FRAMES, inner),
            free: AtomicU64::new(0),
            total: AtomicU64::new(0),
            claims: AtomicU64::new(0),
            dirty: AtomicU64::new(0),
        }
    }

    /// Bytes of machine memory that [`FrameAllocator::init`] needs for the frames of `extent`.
    pub fn table_bytes(extent: impl Into<Extent>) -> u64 {
        extent.into().bytes()
    }

    /// Builds the frame table at `storage` (RAM, 16-byte aligned, [`FrameAllocator::table_bytes`] long, not
    /// part of `ram`) for the frames of `extent` and frees the ranges of `ram`. Everything else is
    /// [`Kind::Reserved`]. `Overwritten` as the content of RAM means unknown: it will be scrubbed.
    pub fn init(
        &self,
        ram: &[Range<Mfn>],
        extent: impl Into<Extent>,
        storage: Maddr,
        contents: Contents,
    ) -> Result<(), InitError> {
        let extent = extent.into().pack().ok_or(InitError::BadTable)?;
        if !storage.raw().is_multiple_of(16) {
            return Err(InitError::BadTable);
        }
        let mut inner = self.inner.lock();
        if self.extent.load(Ordering::Acquire) != 0 {
            return Err(InitError::Twice);
        }
        let t = Table::new(storage.raw(), extent);
        t.clear();
        self.table_base.store(t.base, Ordering::Release);
        self.extent.store(extent, Ordering::Release);
        // Ranges that overlap, or that the extent does not describe, are looked at frame by frame.
        let sorted = ram.is_sorted_by(|a, b| a.end <= b.start);
        for range in ram {
            let fresh = sorted && t.covers(range);
            Self::add_ram(&mut inner, t, range, contents, fresh);
        }
        self.publish(&inner);
        Ok(())
    }

    /// Frees a range that `init` left reserved (start-up memory no longer needed). Its content is unknown.
    pub fn add_range(&self, ram: Range<Mfn>) {
        let mut inner = self.lock();
        Self::add_ram(&mut inner, self.table(), &ram, Contents::Overwritten, false);
        self.publish(&inner);
    }

    /// `fresh`: the table has nothing but reserved frames there, and the range touches no hole.
    fn add_ram(inner: &mut Inner, t: Table, ram: &Range<Mfn>, contents: Contents, fresh: bool) {
        let dirty = contents == Contents::Overwritten;
        let end = ram.end.raw().min(u64::from(t.frames)) as u32;
        let mut frame = ram.start.raw().min(u64::from(end)) as u32;
        while frame < end {
            // The largest aligned block that starts here, fits, and is still reserved throughout.
            let mut order = frame.trailing_zeros().min(u32::from(MAX_ORDER)) as u8;
            while size(order) > end - frame {
                order -= 1;
            }
            let reserved = |f| t.contains(f) && t.load(f).kind() == Kind::Reserved;
            // What was just cleared need not be looked at: on a machine with many TiB that would be the most of the start.
            if !fresh && !(frame..frame + size(order)).all(reserved) {
                order = 0;
                if !reserved(frame) {
                    frame += 1;
                    continue;
                }
            }
            t.fill(frame, size(order), State::free(dirty));
            inner.buddy.give(t, frame, order, if dirty { 0 } else { CLEAN });
            let n = u64::from(size(order));
            inner.total += n;
            inner.free += n;
            inner.dirty += if dirty { n } else { 0 };
            frame += size(order);
        }
    }

    #[inline]
    pub(crate) fn table(&self) -> Table {
        let extent = self.extent.load(Ordering::Acquire);
        Table::new(self.table_base.load(Ordering::Relaxed), extent)
    }
    pub(crate) fn lock(&self) -> Guard<'_, Inner> {
        self.inner.lock()
    }
    /// Copies the counters to where they can be read without the lock.
    pub(crate) fn publish(&self, inner: &Inner) {
        self.free.store(inner.free, Ordering::Relaxed);
        self.total.store(inner.total, Ordering::Relaxed);
        self.claims.store(inner.claims, Ordering::Relaxed);
        self.dirty.store(inner.dirty, Ordering::Relaxed);
    }

    /// Free frames, exact.
    pub fn free_pages(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }
    /// Frames under the allocator's control, free or not.
    pub fn total_pages(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
    /// Frames claimed by domains and not yet allocated.
    pub fn outstanding_claims(&self) -> u64 {
        self.claims.load(Ordering::Relaxed)
    }
    /// Free frames that are still to be zeroed.
    pub fn scrub_pending(&self) -> u64 {
        self.dirty.load(Ordering::Relaxed)
    }
    /// One more than the highest frame the table describes.
    pub fn max_mfn(&self) -> Mfn {
        Mfn::new(u64::from(self.table().frames))
    }
    /// Number of free blocks of each order, from 4 KiB up. Walks every list under the lock: diagnostics.
    pub fn free_blocks(&self) -> [u32; MAX_ORDER as usize + 1] {
        self.lock().buddy.blocks(self.table())
    }

    /// The table entry of `mfn`; `None` beyond the table (MMIO).
    pub fn info(&self, mfn: Mfn) -> Option<FrameInfo> {
        let t = self.table();
        t.index(mfn).map(|frame| t.load(frame).info())
    }

    /// Allocates `2^order` contiguous, naturally aligned frames, each with one reference: the allocation's own.
    pub fn alloc(&self, request: Request) -> Result<Mfn, AllocError> {
        let Request { order, owner, kind, max_addr_bits, contents } = request;
        if order > MAX_ORDER {
            return Err(AllocError::BadRequest);
        }
        let t = self.table();
        let mut inner = self.lock();
        Self::admit(&inner, t, owner, kind, size(order))?;
        let prefer = if contents == Contents::Zeroed { Prefer::Clean } else { Prefer::Dirty };
        let top = Buddy::top_zone(max_addr_bits);
        let frame = inner.buddy.take(t, order, top, prefer).ok_or(AllocError::NoMemory)?;
        let dirty = Self::mark(&mut inner, t, frame, order, owner, kind);
        Self::charge(&mut inner, t, owner, kind, size(order));
        self.publish(&inner);
        drop(inner);
        Self::hand_out(t, frame, order, dirty, request);
        Ok(Mfn::new(u64::from(frame)))
    }

    /// Allocates exactly the `n` frames from `start` on, all or nothing: dom0's 1:1 RAM.
    pub fn alloc_range_exact(
        &self,
        start: Mfn,
        n: u64,
        owner: DomId,
        kind: Kind,
        contents: Contents,
    ) -> Result<(), AllocError> {
        let t = self.table();
        let count = u32::try_from(n).map_err(|_| AllocError::InUse)?;
        let first = t.index(start).ok_or(AllocError::InUse)?;
        let end = first.checked_add(count).filter(|end| *end <= t.frames).ok_or(AllocError::InUse)?;
        let mut inner = self.lock();
        Self::admit(&inner, t, owner, kind, count)?;
        if (first..end).any(|frame| !t.contains(frame) || !t.load(frame).is_free()) {
            return Err(AllocError::InUse);
        }
        let mut frame = first;
        while frame < end {
            let order = block_order(frame, end);
            if !carve_any(&mut inner.buddy, t, frame, order) {
                // Cannot happen: every frame is free, so each lies in a listed block.
                debug_assert!(false, "free frame {frame:#x} in no block");
                return Err(AllocError::InUse);
            }
            Self::mark(&mut inner, t, frame, order, owner, kind);
            frame += size(order);
        }
        Self::charge(&mut inner, t, owner, kind, count);
        self.publish(&inner);
        drop(inner);
        let mut frame = first;
        while frame < end {
            let order = block_order(frame, end);
            let request = Request { contents, ..Request::new(order, owner, kind) };
            Self::hand_out(t, frame, order, true, request);
            frame += size(order);
        }
        Ok(())
    }

    /// May `owner` have `n` more frames? Claimed memory is for the claimers: the rule of Xen's
    /// `alloc_heap_pages`.
    fn admit(inner: &Inner, t: Table, owner: DomId, kind: Kind, n: u32) -> Result<(), AllocError> {
        if matches!(kind, Kind::Free | Kind::Reserved) {
            return Err(AllocError::BadRequest);
        }
        let domain = Counters { table: t, dom: owner }.snapshot();
        let is_ram = kind == Kind::GuestRam;
        if is_ram && domain.tot_pages.checked_add(n).is_none_or(|tot| tot > domain.max_pages) {
            return Err(AllocError::OverMax);
        }
        let from_claim = is_ram && domain.outstanding >= n;
        let floor = if is_ram { inner.floor() } else { 0 };
        if inner.claims + u64::from(n) + floor > inner.free && !from_claim {
            return Err(AllocError::NoMemory);
        }
        Ok(())
    }

    /// Marks a block taken off the lists as in transit to its new owner. Returns whether any frame is dirty.
    fn mark(inner: &mut Inner, t: Table, frame: u32, order: u8, owner: DomId, kind: Kind) -> bool {
        let mut dirty = 0;
        for f in frame..frame + size(order) {
            let state = t.load(f);
            debug_assert!(state.is_free(), "allocating {f:#x}: {state:?}");
            dirty += u64::from(state.dirty());
            t.store(f, State::in_transit(kind, owner, state.dirty()));
        }
        inner.dirty = inner.dirty.saturating_sub(dirty);
        dirty != 0
    }

    fn charge(inner: &mut Inner, t: Table, owner: DomId, kind: Kind, n: u32) {
        let counters = Counters { table: t, dom: owner };
        inner.free = inner.free.saturating_sub(u64::from(n));
        match kind {
            Kind::GuestRam => inner.claims = inner.claims.saturating_sub(u64::from(counters.add_ram(n))),
            Kind::PageTable | Kind::XenShared => counters.add_overhead(n),
            _ => {}
        }
    }

    /// Outside the lock: zeroes what is dirty, then lets references be taken.
    fn hand_out(t: Table, frame: u32, order: u8, maybe_dirty: bool, request: Request) {
        let scrub = maybe_dirty && request.contents == Contents::Zeroed;
        for f in frame..frame + size(order) {
            if scrub && t.load(f).dirty() {
                mem::zero_frame(Mfn::new(u64::from(f)));
            }
            t.store(f, State::allocated(request.kind, request.owner));
        }
    }

    /// Frees a block of the hypervisor's own ([`Kind::Heap`], [`Kind::PageTable`]) with the order it was
    /// allocated with. Guest-mappable frames go by [`FrameAllocator::release_allocated`].
    pub fn free(&self, mfn: Mfn, order: u8) -> Result<(), FreeError> {
        let t = self.table();
        let frame = t.index(mfn).ok_or(FreeError)?;
        let end = frame.checked_add(size(order)).ok_or(FreeError)?;
        if order > MAX_ORDER || frame % size(order) != 0 || end > t.frames {
            return Err(FreeError);
        }
        let state = t.load(frame);
        let private = matches!(state.kind(), Kind::Heap | Kind::PageTable);
        let whole = State::allocated(state.kind(), state.owner());
        if !private || (frame..end).any(|f| t.load(f) != whole) {
            return Err(FreeError);
        }
        // The head is the ticket: of two racing frees of one block only one wins it.
        let transit = State::in_transit(state.kind(), state.owner(), true);
        t.state(frame)
            .compare_exchange(whole.0, transit.0, Ordering::AcqRel, Ordering::Relaxed)
            .map_err(|_| FreeError)?;
        self.free_in_transit(frame, order, transit);
        Ok(())
    }

    /// Puts a block nobody can reach any more on the free lists, dirty. `state`: its owner and kind.
    pub(crate) fn free_in_transit(&self, frame: u32, order: u8, state: State) {
        let t = self.table();
        let counters = Counters { table: t, dom: state.owner() };
        let n = size(order);
        let mut inner = self.lock();
        for f in frame..frame + n {
            t.store(f, State::free(true));
        }
        inner.buddy.give(t, frame, order, 0);
        inner.free += u64::from(n);
        inner.dirty += u64::from(n);
        match state.kind() {
            Kind::GuestRam => inner.claims += u64::from(counters.sub_ram(n)),
            Kind::PageTable | Kind::XenShared => counters.sub_overhead(n),
            _ => {}
        }
        self.publish(&inner);
    }

    /// Idle work: zeroes up to `max` dirty free frames, a few at a time under the lock. Returns whether more
    /// is left to do.
    pub fn scrub_some(&self, max: u32) -> bool {
        const BATCH: u32 = 8;
        if self.scrub_pending() == 0 {
            return false;
        }
        let t = self.table();
        let mut left = max;
        while left != 0 {
            let mut inner = self.lock();
            let Some(zeroed) = inner.buddy.scrub(t, left.min(BATCH)) else { return false };
            inner.dirty = inner.dirty.saturating_sub(u64::from(zeroed));
            self.publish(&inner);
            // Looking at clean frames costs too.
            left = left.saturating_sub(zeroed.max(1));
        }
        self.scrub_pending() != 0
    }

    /// The first frame at or after `from` that `owner` holds by the allocation's reference, looking at no
    /// more than `budget` frames: the teardown's search for frames that are in no p2m.
    /// `Err(next)`: none so far, go on from `next`; `Ok(None)`: none up to the end.
    pub fn find_allocated(&self, owner: DomId, from: Mfn, budget: u32) -> Result<Option<Mfn>, Mfn> {
        let t = self.table();
        let Some(first) = t.index(from) else { return Ok(None) };
        let end = first.saturating_add(budget).min(t.frames);
        for frame in (first..end).filter(|frame| t.contains(*frame)) {
            let state = t.load(frame);
            if state.kind().mappable() && state.is_allocated() && state.owner() == owner {
                return Ok(Some(Mfn::new(u64::from(frame))));
            }
        }
        if end == t.frames { Ok(None) } else { Err(Mfn::new(u64::from(end))) }
    }
}

/// Order of the largest aligned block that starts at `frame` and ends by `end`.
fn block_order(frame: u32, end: u32) -> u8 {
    let mut order = frame.trailing_zeros().min(u32::from(MAX_ORDER)) as u8;
    while order > 0 && size(order) > end.saturating_sub(frame) {
        order -= 1;
    }
    order
}

/// Takes a wholly free block that may lie in one larger free block or consist of several smaller ones.
fn carve_any(buddy: &mut Buddy, t: Table, frame: u32, order: u8) -> bool {
    if buddy.carve(t, frame, order) {
        return true;
    }
    let Some(half) = order.checked_sub(1) else { return false };
    carve_any(buddy, t, frame, half) && carve_any(buddy, t, frame + size(half), half)
}
