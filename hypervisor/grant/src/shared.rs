//! Entries in the memory shared with the guest: addressing, and the few atomic accesses made to them.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

use radon_addr::{DomId, Gfn, GrantRef, Maddr, Mfn, PAGE_SIZE};
use radon_hw::mem;
use xen_abi::grant_table::{GTF_SUB_PAGE, GrantEntryV1, GrantEntryV2};

use crate::active::Grant;
use crate::table::{GrantTable, Version};

pub(crate) const V1_PER_FRAME: usize = PAGE_SIZE / size_of::<GrantEntryV1>();
pub(crate) const V2_PER_FRAME: usize = PAGE_SIZE / size_of::<GrantEntryV2>();
pub(crate) const STATUS_PER_FRAME: usize = PAGE_SIZE / size_of::<u16>();

/// First word of an entry, updated as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub flags: u16,
    pub domid: DomId,
}

impl Header {
    pub const fn from_raw(raw: u32) -> Header {
        Header { flags: raw as u16, domid: DomId::new((raw >> 16) as u16) }
    }
    pub const fn raw(self) -> u32 {
        self.flags as u32 | (self.domid.raw() as u32) << 16
    }
}

/// Address of item `index` in an array of `size`-byte items spread over `frames`, `per_frame` in each.
fn item(frames: &[Mfn], per_frame: usize, size: usize, index: usize) -> Option<Maddr> {
    frames.get(index / per_frame)?.maddr().checked_add((index % per_frame * size) as u64)
}

impl GrantTable {
    fn entry(&self, gref: GrantRef, offset: u64) -> Option<Maddr> {
        let index = gref.raw() as usize;
        match self.version {
            Version::V1 => item(&self.shared, V1_PER_FRAME, size_of::<GrantEntryV1>(), index),
            Version::V2 => item(&self.shared, V2_PER_FRAME, size_of::<GrantEntryV2>(), index),
        }?
        .checked_add(offset)
    }

    pub(crate) fn header(&self, gref: GrantRef) -> Option<&'static AtomicU32> {
        self.entry(gref, 0).map(mem::atomic_u32)
    }

    /// 64-bit word `n` of an entry: version 1 has one, version 2 has two.
    pub(crate) fn entry_word(&self, gref: GrantRef, n: u64) -> Option<&'static AtomicU64> {
        self.entry(gref, n.checked_mul(8)?).map(mem::atomic_u64)
    }

    /// Where `GTF_reading` and `GTF_writing` are shown: in the entry itself (version 1) or in its status
    /// word.
    pub(crate) fn status_word(&self, gref: GrantRef) -> Option<&'static AtomicU16> {
        match self.version {
            Version::V1 => self.entry(gref, 0),
            Version::V2 => item(&self.status, STATUS_PER_FRAME, size_of::<u16>(), gref.raw() as usize),
        }
        .map(mem::atomic_u16)
    }

    /// The frame a guest names in an entry.
    pub(crate) fn entry_gfn(&self, gref: GrantRef) -> Option<Gfn> {
        let gfn = match self.version {
            Version::V1 => u64::from(mem::atomic_u32(self.entry(gref, 4)?).load(SeqCst)),
            Version::V2 => mem::atomic_u64(self.entry(gref, 8)?).load(SeqCst),
        };
        Some(Gfn::new(gfn))
    }

    /// Reads what an entry grants, once; `header` has been validated by the caller.
    pub(crate) fn read_grant(&self, gref: GrantRef, header: Header) -> Option<Grant> {
        let gfn = self.entry_gfn(gref)?;
        let sub_page = self.version == Version::V2 && header.flags & GTF_SUB_PAGE != 0;
        let (start, length) = if sub_page {
            let range = mem::atomic_u32(self.entry(gref, 4)?).load(SeqCst);
            (range as u16, (range >> 16) as u16)
        } else {
            (0, PAGE_SIZE as u16)
        };
        Some(Grant { domid: header.domid, gfn, sub_page, start, length })
    }
}
