//! Other domains' memory as the toolstack arranges it (`memory.h`), HVM parameters (`hvm/hvm_op.h`), event channels
//! and grants that a domain is born with.
#![allow(unsafe_code, reason = "hypercalls")]

use crate::PAGE_SIZE;
use crate::ioctl::{call, number};
use crate::page::SharedPages;
use crate::privcmd::Privcmd;
use std::io;
use std::os::fd::AsFd;
use xen_abi::Handle;
use xen_abi::e820::E820Entry;
use xen_abi::event_channel::{EVTCHNOP_ALLOC_UNBOUND, EvtchnAllocUnbound};
use xen_abi::grant_table::{GTF_PERMIT_ACCESS, GrantEntryV1};
use xen_abi::hvm_op::{HVMOP_GET_PARAM, HVMOP_SET_PARAM, HvmParam};
use xen_abi::hypercall::{HYPERVISOR_EVENT_CHANNEL_OP, HYPERVISOR_HVM_OP, HYPERVISOR_MEMORY_OP};
use xen_abi::memory::*;
use zerocopy::{FromZeros, Immutable, IntoBytes};

const ARRAY: usize = PAGE_SIZE;

/// Frames in one call that populates memory.
const MOST_EXTENTS: usize = 4096;

/// `struct privcmd_mmap_resource`.
#[repr(C)]
struct MapResource {
    domain: u16,
    kind: u32,
    id: u32,
    index: u32,
    count: u64,
    address: u64,
}

const _: () = assert!(size_of::<MapResource>() == 32);

/// A range of a domain's memory map, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// E820 type.
    pub kind: u32,
}

impl Privcmd {
    /// `populate_physmap`: gives a domain memory at these frames, `2^order` frames each. How many of them got some.
    pub fn populate(&self, domid: u16, frames: &[u64], order: u32, on_demand: bool) -> io::Result<usize> {
        let mem_flags = if on_demand { XENMEMF_POPULATE_ON_DEMAND } else { 0 };
        let mut done = 0;
        for batch in frames.chunks(MOST_EXTENTS) {
            let buffer = self.buffer(ARRAY + size_of_val(batch))?;
            buffer.put_bytes(ARRAY, batch.as_bytes());
            let op = MemoryReservation {
                extent_start: Handle::new(buffer.address(ARRAY)),
                nr_extents: batch.len() as u64,
                extent_order: order,
                mem_flags,
                domid,
                ..MemoryReservation::new_zeroed()
            };
            buffer.put(0, &op);
            // SAFETY: structure and array are in the buffer.
            let result = unsafe { self.memory_op(XENMEM_POPULATE_PHYSMAP, buffer.address(0)) };
            match result {
                Ok(count) => done += count as usize,
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
            if result.is_ok_and(|count| (count as usize) < batch.len()) {
                break;
            }
        }
        Ok(done)
    }

    /// `claim_pages`: sets free memory aside for a domain, so that it is told at once when there is too little; 0 ends it.
    pub fn claim(&self, domid: u16, pages: u64) -> io::Result<()> {
        let op = MemoryReservation { nr_extents: pages, domid, ..MemoryReservation::new_zeroed() };
        self.memory_call(XENMEM_CLAIM_PAGES, &op)
    }

    /// `set_pod_target`: how many pages a domain that is populated on demand may really use.
    pub fn set_pod_target(&self, domid: u16, pages: u64) -> io::Result<()> {
        let op = PodTarget { target_pages: pages, domid, ..PodTarget::new_zeroed() };
        self.memory_call(XENMEM_SET_POD_TARGET, &op)
    }

    /// `set_memory_map`: the E820 that the domain can ask for.
    pub fn set_memory_map(&self, domid: u16, map: &[MapEntry]) -> io::Result<()> {
        let entries: Vec<E820Entry> =
            map.iter().map(|e| E820Entry { addr: e.start, size: e.len, kind: e.kind }).collect();
        let buffer = self.buffer(ARRAY + entries.as_bytes().len())?;
        buffer.put_bytes(ARRAY, entries.as_bytes());
        let mut op = ForeignMemoryMap { domid, ..ForeignMemoryMap::new_zeroed() };
        op.map.nr_entries = entries.len() as u32;
        op.map.buffer = Handle::new(buffer.address(ARRAY));
        buffer.put(0, &op);
        // SAFETY: structure and array are in the buffer.
        unsafe { self.memory_op(XENMEM_SET_MEMORY_MAP, buffer.address(0)) }.map(drop)
    }

    /// `HVMOP_set_param`.
    pub fn set_hvm_param(&self, domid: u16, index: u32, value: u64) -> io::Result<()> {
        let buffer = self.buffer(size_of::<HvmParam>())?;
        buffer.put(0, &HvmParam { domid, index, value, ..HvmParam::new_zeroed() });
        // SAFETY: the structure is in the buffer and holds no handle.
        unsafe { self.hypercall(HYPERVISOR_HVM_OP, [HVMOP_SET_PARAM.into(), buffer.address(0), 0, 0, 0]) }
            .map(drop)
    }

    /// `HVMOP_get_param`.
    pub fn hvm_param(&self, domid: u16, index: u32) -> io::Result<u64> {
        let buffer = self.buffer(size_of::<HvmParam>())?;
        buffer.put(0, &HvmParam { domid, index, ..HvmParam::new_zeroed() });
        // SAFETY: the structure is in the buffer and holds no handle.
        unsafe { self.hypercall(HYPERVISOR_HVM_OP, [HVMOP_GET_PARAM.into(), buffer.address(0), 0, 0, 0]) }?;
        Ok(buffer.get::<HvmParam>(0).value)
    }

    /// `EVTCHNOP_alloc_unbound`: a port of `domid` that `remote` may bind to.
    pub fn alloc_unbound(&self, domid: u16, remote: u16) -> io::Result<u32> {
        let buffer = self.buffer(size_of::<EvtchnAllocUnbound>())?;
        buffer.put(0, &EvtchnAllocUnbound { dom: domid, remote_dom: remote, port: 0 });
        let arguments = [EVTCHNOP_ALLOC_UNBOUND.into(), buffer.address(0), 0, 0, 0];
        // SAFETY: the structure is in the buffer and holds no handle.
        unsafe { self.hypercall(HYPERVISOR_EVENT_CHANNEL_OP, arguments) }?;
        Ok(buffer.get::<EvtchnAllocUnbound>(0).port)
    }

    /// Writes entries of a new domain's grant table (version 1, first frame): (reference, to whom, which frame).
    pub fn seed_grants(&self, domid: u16, grants: &[(u32, u16, u64)]) -> io::Result<()> {
        let pages = SharedPages::map(self.as_fd(), 0, 1)?;
        let mut resource = MapResource {
            domain: domid,
            kind: XENMEM_RESOURCE_GRANT_TABLE,
            id: XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED,
            index: 0,
            count: 1,
            address: pages.address(),
        };
        // SAFETY: `struct privcmd_mmap_resource`; the one page is mapped at `address`.
        unsafe { call(self.as_fd(), number(b'P', 7, size_of::<MapResource>()), &mut resource) }?;
        for &(reference, to, frame) in grants {
            let at = reference as usize * size_of::<GrantEntryV1>();
            let frame = u32::try_from(frame).map_err(|_| io::ErrorKind::InvalidInput)?;
            pages.store(at + 4, frame);
            // Flags and domain in one word, last: it is what makes the entry valid.
            pages.store(at, u32::from(GTF_PERMIT_ACCESS) | u32::from(to) << 16);
        }
        Ok(())
    }

    fn memory_call<T: IntoBytes + Immutable>(&self, command: u32, op: &T) -> io::Result<()> {
        let buffer = self.buffer(size_of::<T>())?;
        buffer.put(0, op);
        // SAFETY: the structure is in the buffer; callers in this module pass none with a live handle.
        unsafe { self.memory_op(command, buffer.address(0)) }.map(drop)
    }

    /// # Safety
    /// As [`Privcmd::hypercall`].
    unsafe fn memory_op(&self, command: u32, address: u64) -> io::Result<u32> {
        // SAFETY: passed on to the caller.
        unsafe { self.hypercall(HYPERVISOR_MEMORY_OP, [command.into(), address, 0, 0, 0]) }
    }
}
