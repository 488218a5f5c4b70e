//! References to in-use frames.

use crate::alloc::FrameAllocator;
use crate::state::{Kind, MAX_COUNT, State};
use core::fmt;
use core::mem::ManuallyDrop;
use core::sync::atomic::Ordering;
use radon_addr::{DomId, Mfn};

/// Why a reference was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GetError {
    /// Not a frame of RAM that the allocator knows: MMIO, firmware, beyond the end.
    NotRam,
    /// Free, in transit, or of a kind no guest may refer to.
    NotMappable,
    /// Belongs to another domain.
    WrongOwner,
    /// Too many references.
    Overflow,
}

/// A reference was given back that nobody held: a bug of the caller's, the frame was left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadPut;

/// What dropping a reference did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// Others still hold the frame.
    Live,
    /// It was the last: the frame is free.
    Freed,
}

/// A counted reference to a guest-mappable frame; gives it back when dropped.
pub struct FrameRef {
    frames: &'static FrameAllocator,
    mfn: Mfn,
}

impl FrameRef {
    /// The frame.
    pub fn mfn(&self) -> Mfn {
        self.mfn
    }
    /// The frame's owner. Cannot change while this reference lives.
    pub fn owner(&self) -> DomId {
        self.frames.info(self.mfn).map_or(DomId::INVALID, |info| info.owner)
    }
    /// Keeps the reference without the guard, for a record (a p2m entry, a grant mapping) that will call
    /// [`FrameAllocator::put`] when it goes.
    pub fn into_raw(self) -> Mfn {
        ManuallyDrop::new(self).mfn
    }
}

impl Drop for FrameRef {
    fn drop(&mut self) {
        let put = self.frames.put(self.mfn);
        debug_assert!(put.is_ok(), "reference to {:?} lost while held", self.mfn);
    }
}

impl fmt::Debug for FrameRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameRef({:#x})", self.mfn)
    }
}

impl FrameAllocator {
    /// Does anybody hold a reference besides the allocation's own?
    pub fn is_referenced(&self, mfn: Mfn) -> bool {
        let table = self.table();
        let Some(frame) = table.index(mfn) else { return true };
        let state = State(table.state(frame).load(Ordering::Acquire));
        state.count() > u32::from(state.is_allocated())
    }

    /// Takes a reference if `mfn` is in use, mappable and owned by `owner`.
    #[inline]
    pub fn get(&'static self, mfn: Mfn, owner: DomId) -> Result<FrameRef, GetError> {
        self.get_raw(mfn, Some(owner))?;
        Ok(FrameRef { frames: self, mfn })
    }

    /// Takes a reference whoever owns the frame; see [`FrameRef::owner`]. Only for an mfn that comes from a
    /// p2m entry read under that p2m's lock, never from a guest.
    #[inline]
    pub fn get_any(&'static self, mfn: Mfn) -> Result<FrameRef, GetError> {
        self.get_raw(mfn, None)?;
        Ok(FrameRef { frames: self, mfn })
    }

    /// As [`FrameAllocator::get`] without a guard: each success must be paired with one
    /// [`FrameAllocator::put`]. `None` means any owner.
    #[inline]
    pub fn get_raw(&self, mfn: Mfn, owner: Option<DomId>) -> Result<(), GetError> {
        let table = self.table();
        let frame = table.index(mfn).ok_or(GetError::NotRam)?;
        let word = table.state(frame);
        let mut old = State(word.load(Ordering::Acquire));
        loop {
            match old.kind() {
                Kind::Reserved => return Err(GetError::NotRam),
                kind if !kind.mappable() || old.count() == 0 => return Err(GetError::NotMappable),
                _ => {}
            }
            if owner.is_some_and(|owner| owner != old.owner()) {
                return Err(GetError::WrongOwner);
            }
            if old.count() >= MAX_COUNT {
                return Err(GetError::Overflow);
            }
            match word.compare_exchange_weak(old.0, old.plus_one().0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(now) => old = State(now),
            }
        }
    }

    /// Gives back a reference of [`FrameAllocator::get_raw`] or [`FrameRef::into_raw`]. Never the
    /// allocation's own: that is [`FrameAllocator::release_allocated`]. May take the allocator's lock.
    #[inline]
    pub fn put(&self, mfn: Mfn) -> Result<Put, BadPut> {
        self.drop_reference(mfn, |old| {
            // While the allocation's reference is held, count 1 is that one: it is not ours to put.
            let ours = old.count() > u32::from(old.is_allocated());
            (old.kind().mappable() && ours).then(|| old.minus_one())
        })
    }

    /// Drops the allocation's own reference (Xen: `PGC_allocated`), exactly once: the owner gives the frame
    /// up. The frame is free when no other reference is left. Call it only after no CPU can reach the frame
    /// by a stale TLB entry.
    pub fn release_allocated(&self, mfn: Mfn, owner: DomId) -> Result<Put, BadPut> {
        self.drop_reference(mfn, |old| {
            let ours = old.is_allocated() && old.owner() == owner && old.count() != 0;
            (ours && old.kind().mappable()).then(|| old.without_allocated().minus_one())
        })
    }

    #[inline]
    fn drop_reference(&self, mfn: Mfn, next: impl Fn(State) -> Option<State>) -> Result<Put, BadPut> {
        let table = self.table();
        let frame = table.index(mfn).ok_or(BadPut)?;
        let word = table.state(frame);
        let mut old = State(word.load(Ordering::Acquire));
        loop {
            let new = next(old).ok_or(BadPut)?;
            match word.compare_exchange_weak(old.0, new.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) if new.count() != 0 => return Ok(Put::Live),
                Ok(_) => {
                    self.free_in_transit(frame, 0, new);
                    return Ok(Put::Freed);
                }
                Err(now) => old = State(now),
            }
        }
    }
}
