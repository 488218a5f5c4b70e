//! The grant table of one domain.

use alloc::vec::Vec;

use radon_addr::{DomId, GrantRef, Mfn, PAGE_SIZE};
use xen_abi::Errno;
use xen_abi::grant_table::{GNTTAB_CACHE_CLEAN, GNTTAB_CACHE_INVAL};

use crate::active::Active;
use crate::shared::{V1_PER_FRAME, V2_PER_FRAME};
use crate::status::GntStatus;

/// Layout of the shared entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// 8-byte entries.
    V1,
    /// 16-byte entries and separate status words.
    V2,
}

/// What one domain grants to others. See the crate's documentation for the protocol.
pub struct GrantTable {
    dom: DomId,
    pub(crate) version: Version,
    pub(crate) max_version: u32,
    pub(crate) max_frames: u32,
    /// Frames with the entries.
    pub(crate) shared: Vec<Mfn>,
    /// Frames with the status words; in version 1 spares from a switch that failed, not visible to anyone.
    pub(crate) status: Vec<Mfn>,
    /// Active entries, one chunk of [`V1_PER_FRAME`] for each shared frame (version 2 uses half of them).
    pub(crate) active: Vec<Vec<Active>>,
    /// Entries with at least one pin.
    pub(crate) pinned: u32,
}

impl GrantTable {
    /// An empty table of `dom` in version 1; call [`Self::grow`] for the first frame. `max_version` and
    /// `max_frames` come from `XEN_DOMCTL_createdomain`. Error: `EINVAL` version other than 1 or 2, or no
    /// frame allowed.
    pub fn new(dom: DomId, max_version: u32, max_frames: u32) -> Result<GrantTable, Errno> {
        if !(1..=2).contains(&max_version) || max_frames == 0 {
            return Err(Errno::EINVAL);
        }
        Ok(GrantTable {
            dom,
            version: Version::V1,
            max_version,
            max_frames,
            shared: Vec::new(),
            status: Vec::new(),
            active: Vec::new(),
            pinned: 0,
        })
    }

    /// The granter.
    pub fn dom(&self) -> DomId {
        self.dom
    }

    /// `GNTTABOP_get_version`.
    pub fn version(&self) -> u32 {
        match self.version {
            Version::V1 => 1,
            Version::V2 => 2,
        }
    }

    /// Entries in use by others at this moment.
    pub fn pinned_entries(&self) -> u32 {
        self.pinned
    }

    /// Number of entries the table has room for.
    pub fn entries(&self) -> u32 {
        let per_frame = match self.version {
            Version::V1 => V1_PER_FRAME,
            Version::V2 => V2_PER_FRAME,
        };
        u32::try_from(self.shared.len().saturating_mul(per_frame)).unwrap_or(u32::MAX)
    }

    /// Active entry of a reference within the table.
    pub(crate) fn active(&self, gref: GrantRef) -> Option<&Active> {
        let index = gref.raw() as usize;
        let within = gref.raw() < self.entries();
        self.active.get(index / V1_PER_FRAME)?.get(index % V1_PER_FRAME).filter(|_| within)
    }

    pub(crate) fn active_mut(&mut self, gref: GrantRef) -> Option<&mut Active> {
        let index = gref.raw() as usize;
        let within = gref.raw() < self.entries();
        self.active.get_mut(index / V1_PER_FRAME)?.get_mut(index % V1_PER_FRAME).filter(|_| within)
    }

    /// Is the entry pinned? `false` for references outside the table.
    pub fn is_pinned(&self, gref: GrantRef) -> bool {
        self.active(gref).is_some_and(|a| a.pins.any())
    }

    /// `GNTTABOP_swap_grant_ref`. Errors: `BAD_GNTREF`, `EAGAIN` when one is in use.
    pub fn swap(&mut self, a: GrantRef, b: GrantRef) -> Result<(), GntStatus> {
        use core::sync::atomic::Ordering::SeqCst;
        for gref in [a, b] {
            self.active(gref).ok_or(GntStatus::BAD_GNTREF)?;
        }
        if a == b {
            return Ok(());
        }
        if self.is_pinned(a) || self.is_pinned(b) {
            return Err(GntStatus::EAGAIN);
        }
        let words = match self.version {
            Version::V1 => 0..1,
            Version::V2 => 0..2,
        };
        for n in words {
            if let (Some(word_a), Some(word_b)) = (self.entry_word(a, n), self.entry_word(b, n)) {
                let old = word_a.load(SeqCst);
                word_a.store(word_b.load(SeqCst), SeqCst);
                word_b.store(old, SeqCst);
            }
        }
        if self.version == Version::V2
            && let (Some(word_a), Some(word_b)) = (self.status_word(a), self.status_word(b))
        {
            let old = word_a.load(SeqCst);
            word_a.store(word_b.load(SeqCst), SeqCst);
            word_b.store(old, SeqCst);
        }
        Ok(())
    }
}

/// Checks the arguments of `GNTTABOP_cache_flush`; x86 caches are coherent, so there is nothing else to do.
/// Error: `EINVAL` range leaves the page, or unknown operation (in Xen that includes "by grant reference").
pub fn check_cache_flush(offset: u16, length: u16, op: u32) -> Result<(), Errno> {
    let end = usize::from(offset).saturating_add(usize::from(length));
    let known = op & !(GNTTAB_CACHE_INVAL | GNTTAB_CACHE_CLEAN) == 0;
    let in_page = usize::from(offset) < PAGE_SIZE && end <= PAGE_SIZE;
    if known && in_page { Ok(()) } else { Err(Errno::EINVAL) }
}
