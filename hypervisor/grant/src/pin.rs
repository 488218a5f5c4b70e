//! Pinning an entry for a mapping or a copy, and letting go of it.

use core::sync::atomic::Ordering::SeqCst;

use radon_addr::{Gfn, GrantRef, Mfn, PAGE_SIZE};
use xen_abi::grant_table::{
    GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_SUB_PAGE, GTF_TYPE_MASK, GTF_WRITING,
};

use crate::active::{Access, Active, Grant, Mode, Pins};
use crate::shared::Header;
use crate::status::GntStatus;
use crate::table::{GrantTable, Version};

/// A guest may change its entry between our read and our exchange; this often we try again.
const ATTEMPTS: u32 = 5;

/// What a pin is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The whole frame appears in the grantee's address space: sub-page grants are refused.
    Map,
    /// The hypervisor copies on the grantee's behalf.
    Copy,
}

/// What `acquire` has to return with one reference taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameRequest {
    /// The granter's frame number: translate it. Error: `BAD_PAGE` unless it is ordinary RAM of the granter
    /// (writable for [`Mode::Write`]), `EAGAIN` when it is not available at the moment.
    Translate(Gfn, Mode),
    /// The frame that earlier pins hold. Error: `GENERAL_ERROR` when it has no owner any more (dying
    /// granter).
    Again(Mfn),
}

/// A successful pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The granted frame.
    pub mfn: Mfn,
    /// First byte granted.
    pub start: u16,
    /// Bytes granted.
    pub length: u16,
}

impl Pinned {
    /// May `len` bytes at `offset` be copied? Errors: `BAD_COPY_ARG` leaves the page, `GENERAL_ERROR` leaves
    /// the range.
    pub fn check_range(&self, offset: u16, len: u16) -> Result<(), GntStatus> {
        let (offset, end) = (u32::from(offset), u32::from(offset).saturating_add(u32::from(len)));
        if end as usize > PAGE_SIZE {
            return Err(GntStatus::BAD_COPY_ARG);
        }
        let start = u32::from(self.start);
        if offset < start || end > start.saturating_add(u32::from(self.length)) {
            return Err(GntStatus::GENERAL_ERROR);
        }
        Ok(())
    }
}

impl GrantTable {
    /// Pins `gref` for `access`: checks the shared entry, shows the guest that it is in use, fixes what is
    /// granted, and takes a frame reference through `acquire`.
    ///
    /// Errors: `BAD_GNTREF`; `GENERAL_ERROR` for anything the entry does not grant, too many pins, or an
    /// entry the guest keeps changing; whatever `acquire` returns. After an error nothing is pinned and no
    /// reference is held.
    pub fn pin(
        &mut self,
        gref: GrantRef,
        access: Access,
        purpose: Purpose,
        acquire: impl FnOnce(FrameRequest) -> Result<Mfn, GntStatus>,
    ) -> Result<Pinned, GntStatus> {
        let before = *self.active(gref).ok_or(GntStatus::BAD_GNTREF)?;
        let first = !before.pins.any();
        if !first {
            let grant = &before.grant;
            let unmappable = grant.sub_page && purpose == Purpose::Map;
            if grant.domid != access.by || before.pins.full(access) || unmappable {
                return Err(GntStatus::GENERAL_ERROR);
            }
        }
        let upgrade = access.mode == Mode::Write && !before.pins.any_writer();
        let granted = if first || upgrade {
            let taken = self.announce(gref, access, purpose).and_then(|grant| {
                if first {
                    let mfn = acquire(FrameRequest::Translate(grant.gfn, access.mode))?;
                    Ok(Active { pins: Pins::default(), grant, mfn })
                } else if grant == before.grant {
                    acquire(FrameRequest::Again(before.mfn)).map(|_| before)
                } else {
                    Err(GntStatus::GENERAL_ERROR)
                }
            });
            match taken {
                Ok(active) => active,
                Err(status) => {
                    self.reduce_status(gref, before.pins, access.mode);
                    return Err(status);
                }
            }
        } else {
            acquire(FrameRequest::Again(before.mfn))?;
            before
        };
        if let Some(active) = self.active_mut(gref) {
            *active = granted;
            active.pins.add(access);
        }
        if first {
            self.pinned = self.pinned.saturating_add(1);
        }
        Ok(Pinned { mfn: granted.mfn, start: granted.grant.start, length: granted.grant.length })
    }

    /// Undoes one [`Self::pin`]; returns the frame, of which the caller drops one reference (after flushing
    /// TLBs if it was mapped). `None` when there is no such pin: a bug of the caller.
    #[must_use]
    pub fn unpin(&mut self, gref: GrantRef, access: Access) -> Option<Mfn> {
        let active = self.active_mut(gref)?;
        if !active.pins.remove(access) {
            return None;
        }
        let (pins, mfn) = (active.pins, active.mfn);
        if !pins.any() {
            self.pinned = self.pinned.saturating_sub(1);
        }
        self.reduce_status(gref, pins, access.mode);
        Some(mfn)
    }

    /// Checks that the entry grants `access` and shows it as in use. Returns what it grants, read after the
    /// guest can see that. On error the flags may have been set: the caller reduces them.
    fn announce(&self, gref: GrantRef, access: Access, purpose: Purpose) -> Result<Grant, GntStatus> {
        let header = match self.version {
            Version::V1 => self.announce_v1(gref, access, purpose)?,
            Version::V2 => self.announce_v2(gref, access, purpose)?,
        };
        self.read_grant(gref, header).ok_or(GntStatus::BAD_GNTREF)
    }

    /// Version 1: check and flags in one exchange, so the guest cannot revoke in between.
    fn announce_v1(&self, gref: GrantRef, access: Access, purpose: Purpose) -> Result<Header, GntStatus> {
        let word = self.header(gref).ok_or(GntStatus::BAD_GNTREF)?;
        let mut old = word.load(SeqCst);
        for _ in 0..ATTEMPTS {
            let mut header = Header::from_raw(old);
            check_header(header, access, purpose)?;
            header.flags |= in_use_flags(access.mode);
            match word.compare_exchange(old, header.raw(), SeqCst, SeqCst) {
                Ok(_) => return Ok(header),
                Err(seen) => old = seen,
            }
        }
        Err(GntStatus::GENERAL_ERROR)
    }

    /// Version 2: the flags are in another word, so check, show, check again. The guest revokes in the
    /// opposite order, so one of the two sees the other.
    fn announce_v2(&self, gref: GrantRef, access: Access, purpose: Purpose) -> Result<Header, GntStatus> {
        let word = self.header(gref).ok_or(GntStatus::BAD_GNTREF)?;
        let status = self.status_word(gref).ok_or(GntStatus::BAD_GNTREF)?;
        check_header(Header::from_raw(word.load(SeqCst)), access, purpose)?;
        status.fetch_or(in_use_flags(access.mode), SeqCst);
        let header = Header::from_raw(word.load(SeqCst));
        check_header(header, access, purpose)?;
        Ok(header)
    }

    /// Takes back `GTF_reading`/`GTF_writing` that `pins` do not need, after an access of `mode` ended or
    /// failed.
    fn reduce_status(&self, gref: GrantRef, pins: Pins, mode: Mode) {
        let mut clear = if pins.any() { 0 } else { GTF_READING };
        if mode == Mode::Write && !pins.any_writer() {
            clear |= GTF_WRITING;
        }
        if clear != 0
            && let Some(status) = self.status_word(gref)
        {
            status.fetch_and(!clear, SeqCst);
        }
    }
}

const fn in_use_flags(mode: Mode) -> u16 {
    match mode {
        Mode::Read => GTF_READING,
        Mode::Write => GTF_READING | GTF_WRITING,
    }
}

/// Does an entry grant `access`?
fn check_header(header: Header, access: Access, purpose: Purpose) -> Result<(), GntStatus> {
    let mask = match purpose {
        Purpose::Map => GTF_TYPE_MASK | GTF_SUB_PAGE,
        Purpose::Copy => GTF_TYPE_MASK,
    };
    let granted = header.flags & mask == GTF_PERMIT_ACCESS && header.domid == access.by;
    let writable = access.mode == Mode::Read || header.flags & GTF_READONLY == 0;
    if granted && writable { Ok(()) } else { Err(GntStatus::GENERAL_ERROR) }
}
