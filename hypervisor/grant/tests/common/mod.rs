//! A granter with its table's memory, its RAM and the references held on it.
#![allow(dead_code)] // each test binary uses its part

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

use radon_addr::{DomId, GrantRef, Maddr, Mfn};
use radon_grant::*;
use radon_hw::{mem, sim};
use xen_abi::Errno;

/// The granter's RAM: gfns 0..RAM.
pub const RAM: u64 = 16;

pub fn d(n: u16) -> DomId {
    DomId::new(n)
}
pub fn g(n: u32) -> GrantRef {
    GrantRef::new(n)
}
pub fn access(by: u16, mode: Mode) -> Access {
    Access { by: d(by), mode, via: Via::Host }
}

pub struct Granter {
    pub gt: GrantTable,
    pub ram: Mfn,
    /// Frame references held through pins.
    pub refs: RefCell<BTreeMap<Mfn, u32>>,
}

impl Granter {
    pub fn new(max_version: u32, frames: u32) -> Granter {
        let mut gt = GrantTable::new(d(9), max_version, frames.max(4)).unwrap();
        gt.grow(frames, || Some(sim::fresh_ram(1))).unwrap();
        Granter { gt, ram: sim::fresh_ram(RAM), refs: RefCell::default() }
    }
    pub fn mfn(&self, gfn: u64) -> Mfn {
        Mfn::new(self.ram.raw() + gfn)
    }
    fn at(&mut self, kind: FrameKind, gref: u32, size: u64, offset: u64) -> Maddr {
        let byte = u64::from(gref) * size;
        let frame = self.gt.frame(kind, (byte / 4096) as u32, || None).unwrap();
        Maddr::new(frame.maddr().raw() + byte % 4096 + offset)
    }
    fn entry(&mut self, gref: u32, offset: u64) -> Maddr {
        let size = if self.gt.version() == 1 { 8 } else { 16 };
        self.at(FrameKind::Shared, gref, size, offset)
    }
    pub fn header(&mut self, gref: u32) -> &'static AtomicU32 {
        mem::atomic_u32(self.entry(gref, 0))
    }
    pub fn flags(&mut self, gref: u32) -> u16 {
        self.header(gref).load(SeqCst) as u16
    }
    pub fn domid(&mut self, gref: u32) -> u16 {
        (self.header(gref).load(SeqCst) >> 16) as u16
    }
    pub fn frame32(&mut self, gref: u32) -> &'static AtomicU32 {
        mem::atomic_u32(self.entry(gref, 4))
    }
    pub fn frame64(&mut self, gref: u32) -> &'static AtomicU64 {
        mem::atomic_u64(self.entry(gref, 8))
    }
    pub fn status(&mut self, gref: u32) -> &'static AtomicU16 {
        if self.gt.version() == 1 {
            mem::atomic_u16(self.entry(gref, 0))
        } else {
            mem::atomic_u16(self.at(FrameKind::Status, gref, 2, 0))
        }
    }
    /// The guest fills an entry.
    pub fn grant(&mut self, gref: u32, flags: u16, domid: u16, gfn: u64) {
        if self.gt.version() == 1 {
            self.frame32(gref).store(gfn as u32, SeqCst);
        } else {
            self.frame64(gref).store(gfn, SeqCst);
        }
        self.header(gref).store(u32::from(flags) | u32::from(domid) << 16, SeqCst);
    }
    /// The guest fills a version 2 sub-page entry.
    pub fn grant_part(&mut self, gref: u32, flags: u16, domid: u16, gfn: u64, start: u16, length: u16) {
        self.frame32(gref).store(u32::from(start) | u32::from(length) << 16, SeqCst);
        self.grant(gref, flags, domid, gfn);
    }
    pub fn pin(&mut self, gref: u32, access: Access, purpose: Purpose) -> Result<Pinned, GntStatus> {
        self.pin_then(gref, access, purpose, || ())
    }
    /// [`Self::pin`]; `meanwhile` runs when the frame is translated, that is, after the entry was read.
    pub fn pin_then(
        &mut self,
        gref: u32,
        access: Access,
        purpose: Purpose,
        meanwhile: impl FnOnce(),
    ) -> Result<Pinned, GntStatus> {
        let (ram, refs) = (self.ram, &self.refs);
        self.gt.pin(g(gref), access, purpose, |request| {
            meanwhile();
            let mfn = match request {
                FrameRequest::Translate(gfn, _) if gfn.raw() < RAM => Mfn::new(ram.raw() + gfn.raw()),
                FrameRequest::Translate(..) => return Err(GntStatus::BAD_PAGE),
                FrameRequest::Again(mfn) => mfn,
            };
            *refs.borrow_mut().entry(mfn).or_default() += 1;
            Ok(mfn)
        })
    }
    pub fn unpin(&mut self, gref: u32, access: Access) -> Option<Mfn> {
        let mfn = self.gt.unpin(g(gref), access)?;
        let mut refs = self.refs.borrow_mut();
        *refs.get_mut(&mfn).unwrap() -= 1;
        refs.retain(|_, count| *count != 0);
        Some(mfn)
    }
    pub fn set_version(&mut self, version: u32) -> Result<Vec<Mfn>, Errno> {
        self.gt.set_version(version, || Some(sim::fresh_ram(1)))
    }
}
