//! `GNTTABOP_set_version`: switching between the two entry layouts.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

use radon_addr::{GrantRef, Mfn};
use radon_hw::mem;
use xen_abi::Errno;
use xen_abi::grant_table::{
    GNTTAB_NR_RESERVED_ENTRIES, GTF_INVALID, GTF_PERMIT_ACCESS, GTF_READING, GTF_TRANSITIVE, GTF_TYPE_MASK,
    GTF_WRITING,
};

use crate::shared::Header;
use crate::table::{GrantTable, Version};

const RESERVED: usize = GNTTAB_NR_RESERVED_ENTRIES as usize;
const IN_USE: u16 = GTF_READING | GTF_WRITING;

/// A toolstack-reserved entry carried over, in terms both versions have; `header.flags` includes the in-use
/// flags.
#[derive(Clone, Copy)]
struct Saved {
    header: Header,
    frame: u32,
}

impl GrantTable {
    /// Switches to `version`, clearing all entries but the reserved ones; `alloc` hands in status frames (see
    /// [`Self::grow`]). Returns the status frames that are no longer part of the table (on going back to
    /// version 1): the core takes them out of the granter's p2m and frees them.
    ///
    /// Errors: `EINVAL` unknown version; `ENOSYS` version 2 not allowed for this domain; `EBUSY` an entry
    /// that is not reserved is in use; `EAGAIN` a sub-page grant is in use; `ERANGE` a reserved entry does
    /// not fit version 1; `ENOMEM`.
    pub fn set_version(
        &mut self,
        version: u32,
        alloc: impl FnMut() -> Option<Mfn>,
    ) -> Result<Vec<Mfn>, Errno> {
        let new = match version {
            1 => Version::V1,
            2 => Version::V2,
            _ => return Err(Errno::EINVAL),
        };
        if version > self.max_version {
            return Err(Errno::ENOSYS);
        }
        if new == self.version {
            return Ok(Vec::new());
        }
        let mut saved = [Saved { header: Header::from_raw(0), frame: 0 }; RESERVED];
        let reserved = || (0u32..).map(GrantRef::new);
        let pinned_reserved = reserved().take(RESERVED).filter(|&gref| self.is_pinned(gref)).count();
        if pinned_reserved as u32 != self.pinned {
            return Err(Errno::EBUSY);
        }
        match new {
            Version::V2 => self.populate_status(alloc)?,
            Version::V1 => {
                let sub_page = |gref| self.active(gref).is_some_and(|a| a.pins.any() && a.grant.sub_page);
                if reserved().take(RESERVED).any(sub_page) {
                    return Err(Errno::EAGAIN);
                }
            }
        }
        for (gref, slot) in reserved().zip(&mut saved) {
            *slot = self.save(gref)?;
        }
        for frame in &self.shared {
            mem::zero_frame(*frame);
        }
        let released = match new {
            Version::V1 => core::mem::take(&mut self.status),
            Version::V2 => {
                for frame in &self.status {
                    mem::zero_frame(*frame);
                }
                Vec::new()
            }
        };
        self.version = new;
        for (gref, entry) in reserved().zip(saved) {
            self.restore(gref, entry);
        }
        Ok(released)
    }

    fn save(&self, gref: GrantRef) -> Result<Saved, Errno> {
        let empty = Saved { header: Header::from_raw(0), frame: 0 };
        let (Some(word), Some(gfn)) = (self.header(gref), self.entry_gfn(gref)) else { return Ok(empty) };
        let mut header = Header::from_raw(word.load(SeqCst));
        let frame = u32::try_from(gfn.raw());
        if self.version == Version::V1 {
            return Ok(Saved { header, frame: frame.unwrap_or(0) });
        }
        let in_use = self.status_word(gref).map_or(GTF_INVALID, |s| s.load(SeqCst)) & IN_USE;
        match header.flags & GTF_TYPE_MASK {
            GTF_PERMIT_ACCESS => {
                let frame = frame.map_err(|_| Errno::ERANGE)?;
                header.flags |= in_use;
                Ok(Saved { header, frame })
            }
            GTF_TRANSITIVE => Err(Errno::ERANGE),
            // Revoked, and perhaps still in use: the granter must go on seeing that (Xen forgets it).
            _ => Ok(Saved { header: Header { flags: in_use, ..empty.header }, ..empty }),
        }
    }

    fn restore(&self, gref: GrantRef, saved: Saved) {
        let Header { flags, domid } = saved.header;
        let frame = u64::from(saved.frame);
        match self.version {
            Version::V1 => {
                if let Some(entry) = self.entry_word(gref, 0) {
                    entry.store(u64::from(saved.header.raw()) | frame << 32, SeqCst);
                }
            }
            Version::V2 => {
                let (Some(first), Some(second)) = (self.entry_word(gref, 0), self.entry_word(gref, 1)) else {
                    return;
                };
                if let Some(status) = self.status_word(gref) {
                    status.store(flags & IN_USE, SeqCst);
                }
                second.store(frame, SeqCst);
                first.store(u64::from(Header { flags: flags & !IN_USE, domid }.raw()), SeqCst);
            }
        }
    }
}
