//! Grant tables: this domain's own, and what others granted.

use crate::hypercall::{Result, grant_op, memory_op};
use crate::memory::{self, Page};
use xen_abi::grant_table::*;
use xen_abi::memory::*;
use xen_abi::xen::DOMID_SELF;
use zerocopy::FromZeros;

/// Maps frame `index` of this domain's grant table (a status frame if `status`) at a scratch frame.
pub fn map_table(index: u64, status: bool) -> Result<Page> {
    let page = Page::scratch();
    let idx = index | if status { XENMAPIDX_GRANT_TABLE_STATUS } else { 0 };
    add_to_physmap(XENMAPSPACE_GRANT_TABLE, idx, page.gfn).map(|_| page)
}

/// `XENMEM_add_to_physmap` of this domain.
pub fn add_to_physmap(space: u32, idx: u64, gpfn: u64) -> Result<u64> {
    let mut map = AddToPhysmap { domid: DOMID_SELF, size: 0, space, idx, gpfn };
    memory_op(XENMEM_ADD_TO_PHYSMAP, &mut map)
}

/// `XENMEM_remove_from_physmap` of this domain.
pub fn remove_from_physmap(gpfn: u64) -> Result<u64> {
    memory_op(
        XENMEM_REMOVE_FROM_PHYSMAP,
        &mut RemoveFromPhysmap { domid: DOMID_SELF, gpfn, ..RemoveFromPhysmap::new_zeroed() },
    )
}

/// Writes an entry of version 1, flags last.
pub fn grant_v1(table: Page, gref: u32, domid: u16, gfn: u64, flags: u16) {
    let at = 8 * u64::from(gref);
    table.set(at, 0_u16);
    table.set(at + 2, domid);
    table.set(at + 4, gfn as u32);
    table.set(at, flags);
}

/// Flags of an entry of version 1.
pub fn flags_v1(table: Page, gref: u32) -> u16 {
    table.get(8 * u64::from(gref))
}

/// Writes an entry of version 2, flags last.
pub fn grant_v2(table: Page, gref: u32, domid: u16, gfn: u64, flags: u16, sub_page: Option<(u16, u16)>) {
    let at = 16 * u64::from(gref);
    table.set(at, 0_u16);
    table.set(at + 2, domid);
    let (offset, length) = sub_page.unwrap_or_default();
    table.set(at + 4, offset);
    table.set(at + 6, length);
    table.set(at + 8, gfn);
    table.set(at, flags);
}

/// A mapping of a grant.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// Where it is.
    pub page: Page,
    /// Its handle.
    pub handle: u32,
}

/// Maps a grant of `dom` at a scratch frame; the error is the operation's status.
pub fn map(dom: u16, gref: u32, flags: u32) -> core::result::Result<Mapping, i16> {
    map_at(Page::scratch(), dom, gref, flags)
}

/// [`map`] at a given frame.
pub fn map_at(page: Page, dom: u16, gref: u32, flags: u32) -> core::result::Result<Mapping, i16> {
    let host_addr = page.at(0);
    let mut op = GnttabMapGrantRef {
        host_addr,
        flags: GNTMAP_HOST_MAP | flags,
        gref,
        dom,
        ..GnttabMapGrantRef::new_zeroed()
    };
    let ret = grant_op(GNTTABOP_MAP_GRANT_REF, &mut op);
    match (ret, op.status) {
        (Ok(_), GNTST_OKAY) => Ok(Mapping { page, handle: op.handle }),
        (Ok(_), status) => Err(status),
        (Err(e), _) => Err(-100 - e.raw() as i16),
    }
}

/// Unmaps; the error is the operation's status.
pub fn unmap(mapping: Mapping) -> core::result::Result<(), i16> {
    let mut op = GnttabUnmapGrantRef {
        host_addr: mapping.page.at(0),
        handle: mapping.handle,
        ..GnttabUnmapGrantRef::new_zeroed()
    };
    let ret = grant_op(GNTTABOP_UNMAP_GRANT_REF, &mut op);
    match (ret, op.status) {
        (Ok(_), GNTST_OKAY) => Ok(()),
        (Ok(_), status) => Err(status),
        (Err(e), _) => Err(-100 - e.raw() as i16),
    }
}

/// An end of a copy.
#[derive(Clone, Copy)]
pub enum End {
    /// Grant `.1` of domain `.0`.
    Grant(u16, u32),
    /// A frame of this domain.
    Own(u64),
}

/// Copies `len` bytes between offsets of both ends; returns the status.
pub fn copy(from: End, from_offset: u16, to: End, to_offset: u16, len: u16) -> i16 {
    let end = |end: End, offset: u16| match end {
        End::Grant(domid, gref) => GnttabCopyPtr { u: u64::from(gref), domid, offset, _pad: [0; 4] },
        End::Own(gfn) => GnttabCopyPtr { u: gfn, domid: DOMID_SELF, offset, _pad: [0; 4] },
    };
    let mut flags = 0;
    if matches!(from, End::Grant(..)) {
        flags |= GNTCOPY_SOURCE_GREF;
    }
    if matches!(to, End::Grant(..)) {
        flags |= GNTCOPY_DEST_GREF;
    }
    let mut op = GnttabCopy {
        source: end(from, from_offset),
        dest: end(to, to_offset),
        len,
        flags,
        status: 1,
        _pad: [0; 2],
    };
    match grant_op(GNTTABOP_COPY, &mut op) {
        Ok(_) => op.status,
        Err(e) => -100 - e.raw() as i16,
    }
}

/// `GNTTABOP_set_version`.
pub fn set_version(version: u32) -> Result<u32> {
    let mut op = GnttabSetVersion { version };
    grant_op(GNTTABOP_SET_VERSION, &mut op).map(|_| op.version)
}

/// `GNTTABOP_query_size`.
pub fn query_size(dom: u16) -> Result<GnttabQuerySize> {
    let mut op = GnttabQuerySize { dom, ..GnttabQuerySize::new_zeroed() };
    grant_op(GNTTABOP_QUERY_SIZE, &mut op).map(|_| op)
}

/// Reads a word through a mapping or any other address.
pub fn peek(page: Page, offset: u64) -> u64 {
    memory::read(page.at(offset))
}
