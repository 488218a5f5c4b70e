//! The frames that hold the shared entries and status words, and their growth.

use alloc::vec::Vec;

use radon_addr::Mfn;
use radon_hw::mem;
use xen_abi::Errno;

use crate::active::Active;
use crate::shared::{STATUS_PER_FRAME, V1_PER_FRAME, V2_PER_FRAME};
use crate::table::{GrantTable, Version};

/// Flag in the index of `XENMAPSPACE_grant_table` that means status frames (`XENMAPIDX_grant_table_status`).
const MAP_INDEX_STATUS: u64 = 1 << 31;
/// Shared frames (version 2) for which one status frame suffices.
const SHARED_PER_STATUS: u32 = (STATUS_PER_FRAME / V2_PER_FRAME) as u32;

/// Which part of the table a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Entries.
    Shared,
    /// Status words (version 2).
    Status,
}

impl GrantTable {
    /// Frames with entries (`GNTTABOP_query_size`).
    pub fn nr_frames(&self) -> u32 {
        count(&self.shared)
    }

    /// Limit of [`Self::nr_frames`].
    pub fn max_frames(&self) -> u32 {
        self.max_frames
    }

    /// Frames with status words; 0 in version 1.
    pub fn nr_status_frames(&self) -> u32 {
        match self.version {
            Version::V1 => 0,
            Version::V2 => count(&self.status),
        }
    }

    /// Most frames of a kind there can ever be (size of the acquirable resource).
    pub fn resource_max_frames(&self, kind: FrameKind) -> u32 {
        match kind {
            FrameKind::Shared => self.max_frames,
            FrameKind::Status => self.max_frames.div_ceil(SHARED_PER_STATUS),
        }
    }

    /// Grows the table to at least `frames` shared frames; `alloc` hands in one frame at a time, owned by the
    /// granter and mappable by it (its contents are cleared here). Errors: `EINVAL` beyond the limit,
    /// `ENOMEM`; frames added before the failure stay.
    pub fn grow(&mut self, frames: u32, mut alloc: impl FnMut() -> Option<Mfn>) -> Result<(), Errno> {
        if frames > self.max_frames {
            return Err(Errno::EINVAL);
        }
        while self.nr_frames() < frames {
            if self.version == Version::V2 {
                let needed = self.nr_frames().saturating_add(1).div_ceil(SHARED_PER_STATUS);
                self.grow_status(needed, &mut alloc)?;
            }
            let mut active = Vec::new();
            active.try_reserve_exact(V1_PER_FRAME).map_err(|_| Errno::ENOMEM)?;
            active.resize(V1_PER_FRAME, Active::default());
            self.active.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            add(&mut self.shared, &mut alloc)?;
            self.active.push(active);
        }
        Ok(())
    }

    /// Has at least the status frames that the present shared frames need in version 2.
    pub(crate) fn populate_status(&mut self, mut alloc: impl FnMut() -> Option<Mfn>) -> Result<(), Errno> {
        self.grow_status(self.nr_frames().div_ceil(SHARED_PER_STATUS), &mut alloc)
    }

    fn grow_status(&mut self, frames: u32, alloc: &mut impl FnMut() -> Option<Mfn>) -> Result<(), Errno> {
        while count(&self.status) < frames {
            add(&mut self.status, alloc)?;
        }
        Ok(())
    }

    /// Frame `index` of the table, growing it when needed: for `XENMEM_acquire_resource` and
    /// `add_to_physmap`. Error: `EINVAL` beyond the limits, status frames in version 1, or no memory (as in
    /// Xen).
    pub fn frame(
        &mut self,
        kind: FrameKind,
        index: u32,
        alloc: impl FnMut() -> Option<Mfn>,
    ) -> Result<Mfn, Errno> {
        let wanted = index.checked_add(1).ok_or(Errno::EINVAL)?;
        match kind {
            FrameKind::Shared if self.nr_frames() < wanted => {
                self.grow(wanted, alloc).map_err(|_| Errno::EINVAL)?;
            }
            FrameKind::Status if self.version == Version::V1 => return Err(Errno::EINVAL),
            FrameKind::Status if self.nr_status_frames() < wanted => {
                // The fewest shared frames that need this many status frames, rounded up as Xen does.
                let shared = wanted.checked_mul(SHARED_PER_STATUS).ok_or(Errno::EINVAL)?;
                self.grow(shared, alloc).map_err(|_| Errno::EINVAL)?;
            }
            _ => {}
        }
        self.list(kind).get(index as usize).copied().ok_or(Errno::EINVAL)
    }

    /// Splits the index of `XENMAPSPACE_grant_table` into kind and frame index. Error: `EINVAL` too large.
    pub fn map_index(&self, index: u64) -> Result<(FrameKind, u32), Errno> {
        let (kind, index) = if self.version == Version::V2 && index & MAP_INDEX_STATUS != 0 {
            (FrameKind::Status, index & !MAP_INDEX_STATUS)
        } else {
            (FrameKind::Shared, index)
        };
        Ok((kind, u32::try_from(index).map_err(|_| Errno::EINVAL)?))
    }

    /// Destroys the table: all its frames, which the core frees. Only when nothing is pinned any more.
    pub fn take_frames(&mut self) -> Vec<Mfn> {
        self.active = Vec::new();
        let mut frames = core::mem::take(&mut self.shared);
        frames.append(&mut self.status);
        frames
    }

    fn list(&self, kind: FrameKind) -> &[Mfn] {
        match (kind, self.version) {
            (FrameKind::Shared, _) => &self.shared,
            (FrameKind::Status, Version::V2) => &self.status,
            (FrameKind::Status, Version::V1) => &[],
        }
    }
}

fn count(frames: &[Mfn]) -> u32 {
    u32::try_from(frames.len()).unwrap_or(u32::MAX)
}

/// Appends a cleared frame.
fn add(frames: &mut Vec<Mfn>, alloc: &mut impl FnMut() -> Option<Mfn>) -> Result<(), Errno> {
    frames.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    let mfn = alloc().ok_or(Errno::ENOMEM)?;
    mem::zero_frame(mfn);
    frames.push(mfn);
    Ok(())
}
