//! Handles: what a domain has mapped of others' grants.

use alloc::vec::Vec;

use radon_addr::{DomId, Gfn, Gpa, GrantRef};
use xen_abi::grant_table::{
    GNTMAP_APPLICATION_MAP, GNTMAP_CONTAINS_PTE, GNTMAP_DEVICE_MAP, GNTMAP_HOST_MAP, GNTMAP_READONLY,
};

use crate::active::{Access, Mode, Via};
use crate::status::GntStatus;

/// Handles in what Xen counts as one maptrack frame.
const PER_FRAME: u32 = 256;

/// `grant_handle_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handle(pub u32);

/// One mapping of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Whose grant.
    pub granter: DomId,
    /// Which.
    pub gref: GrantRef,
    /// Where the mapper has it.
    pub gfn: Gfn,
    /// How it is pinned.
    pub access: Access,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    /// Next free slot, `u32::MAX` = none.
    Free(u32),
    Reserved,
    Mapped(Mapping),
}

const END: u32 = u32::MAX;

/// The handles of one mapping domain.
pub struct MapTrack {
    slots: Vec<Slot>,
    free: u32,
    limit: u32,
    mapped: u32,
}

impl MapTrack {
    /// No mappings; at most `max_frames` * 256 (`max_maptrack_frames` of `XEN_DOMCTL_createdomain`).
    pub fn new(max_frames: u32) -> MapTrack {
        MapTrack { slots: Vec::new(), free: END, limit: max_frames.saturating_mul(PER_FRAME), mapped: 0 }
    }

    /// Mappings that exist.
    pub fn mapped(&self) -> u32 {
        self.mapped
    }

    /// Takes a handle for a mapping about to be made. Error: `NO_SPACE`.
    pub fn reserve(&mut self) -> Result<Handle, GntStatus> {
        if self.free == END {
            self.grow()?;
        }
        let index = self.free;
        match self.slots.get_mut(index as usize) {
            Some(slot @ &mut Slot::Free(next)) => {
                *slot = Slot::Reserved;
                self.free = next;
                Ok(Handle(index))
            }
            _ => Err(GntStatus::NO_SPACE),
        }
    }

    /// The mapping of a reserved handle exists now.
    pub fn commit(&mut self, handle: Handle, mapping: Mapping) {
        if let Some(slot @ Slot::Reserved) = self.slots.get_mut(handle.0 as usize) {
            *slot = Slot::Mapped(mapping);
            self.mapped = self.mapped.saturating_add(1);
        }
    }

    /// The mapping of a reserved handle was not made.
    pub fn cancel(&mut self, handle: Handle) {
        if let Some(slot @ Slot::Reserved) = self.slots.get_mut(handle.0 as usize) {
            *slot = Slot::Free(self.free);
            self.free = handle.0;
        }
    }

    /// The mapping behind a handle. Error: `BAD_HANDLE`.
    pub fn get(&self, handle: Handle) -> Result<Mapping, GntStatus> {
        match self.slots.get(handle.0 as usize) {
            Some(&Slot::Mapped(mapping)) => Ok(mapping),
            _ => Err(GntStatus::BAD_HANDLE),
        }
    }

    /// Gives up a handle; the caller goes on to undo the mapping. Error: `BAD_HANDLE`.
    pub fn take(&mut self, handle: Handle) -> Result<Mapping, GntStatus> {
        let mapping = self.get(handle)?;
        if let Some(slot) = self.slots.get_mut(handle.0 as usize) {
            *slot = Slot::Free(self.free);
            self.free = handle.0;
            self.mapped = self.mapped.saturating_sub(1);
        }
        Ok(mapping)
    }

    /// [`Self::take`] as `GNTTABOP_unmap_grant_ref` asks for it: `host_addr` 0 means that nothing is to be
    /// unmapped (`None`). Errors: `BAD_HANDLE`; `GENERAL_ERROR` when the mapping is not at `host_addr`.
    pub fn take_at(&mut self, handle: Handle, host_addr: Gpa) -> Result<Option<Mapping>, GntStatus> {
        let mapping = self.get(handle)?;
        if host_addr.raw() == 0 {
            return Ok(None);
        }
        if mapping.gfn != host_addr.gfn() {
            return Err(GntStatus::GENERAL_ERROR);
        }
        self.take(handle).map(Some)
    }

    /// First mapping with a handle at or above `from`: how the mappings of a dying domain are released.
    pub fn next_mapped(&self, from: Handle) -> Option<(Handle, Mapping)> {
        let rest = self.slots.iter().enumerate().skip(from.0 as usize);
        rest.filter_map(|(index, slot)| match slot {
            Slot::Mapped(mapping) => Some((Handle(u32::try_from(index).ok()?), *mapping)),
            _ => None,
        })
        .next()
    }

    fn grow(&mut self) -> Result<(), GntStatus> {
        let first = u32::try_from(self.slots.len()).map_err(|_| GntStatus::NO_SPACE)?;
        let end = first.checked_add(PER_FRAME).filter(|&end| end <= self.limit).ok_or(GntStatus::NO_SPACE)?;
        self.slots.try_reserve(PER_FRAME as usize).map_err(|_| GntStatus::NO_SPACE)?;
        for next in first.saturating_add(1)..end {
            self.slots.push(Slot::Free(next));
        }
        self.slots.push(Slot::Free(END));
        self.free = first;
        Ok(())
    }
}

/// Checks the flags of `GNTTABOP_map_grant_ref` for a translated mapper (`GNTMAP_*`).
/// Errors: `BAD_GNTREF` no kind of mapping asked for; `GENERAL_ERROR` one that only exists for PV domains.
pub fn map_access(by: DomId, flags: u32) -> Result<Access, GntStatus> {
    if flags & (GNTMAP_HOST_MAP | GNTMAP_DEVICE_MAP) == 0 {
        return Err(GntStatus::BAD_GNTREF);
    }
    if flags & (GNTMAP_DEVICE_MAP | GNTMAP_APPLICATION_MAP | GNTMAP_CONTAINS_PTE) != 0 {
        return Err(GntStatus::GENERAL_ERROR);
    }
    let mode = if flags & GNTMAP_READONLY != 0 { Mode::Read } else { Mode::Write };
    Ok(Access { by, mode, via: Via::Host })
}
