//! Memory operations.

use super::hypercalls::UNMAPPED;
use crate::services;
use alloc::vec::Vec;
use harness::domain::{self, Child, Config, map_foreign, memory_op_raw, populate, reservation};
use harness::grant::{add_to_physmap, map_table, remove_from_physmap};
use harness::hypercall::{handle, memory_op, sysctl};
use harness::memory::{SCRATCH_END, scratch, scratch_aligned};
use harness::{Page, Verdict, ensure, ensure_eq, event, tests, time};
use xen_abi::e820::{E820_RAM, E820Entry};
use xen_abi::memory::*;
use xen_abi::sysctl::{SysctlPhysinfo, XEN_SYSCTL_PHYSINFO};
use xen_abi::xen::DOMID_SELF;
use xen_abi::{Errno, Handle};
use zerocopy::FromZeros;

tests! {
    here: populate_and_decrease, populate_order_9, populate_stops_at_bad_list, populate_refuses_huge_order,
        populate_bad_pointer_does_nothing, populated_pages_are_clean, decrease_stops_at_hole,
        reservation_of_unknown_domain, add_to_physmap_shared_info_moves, add_to_physmap_grant_frame,
        add_to_physmap_replaces_ram, add_to_physmap_gmfn_moves, add_to_physmap_refuses, remove_from_physmap_hole,
        foreign_map_reads_and_writes, foreign_map_errors_per_frame, foreign_map_keeps_domain, claim_pages,
        max_mem_is_a_limit, memory_map_of_dom0, memory_map_set_for_child, acquire_grant_table, memory_op_unknown;
    child: hole_reads_ones;
}

/// Pages of a domain.
pub fn reservation_of(domid: u16) -> Result<u64, Errno> {
    memory_op(XENMEM_CURRENT_RESERVATION, &mut MemoryDomain { domid })
}

/// The machine's information.
pub fn physinfo() -> Result<SysctlPhysinfo, Errno> {
    let mut info = SysctlPhysinfo::new_zeroed();
    sysctl(XEN_SYSCTL_PHYSINFO, &mut info).map(|_| info)
}

fn frames(count: u64) -> Vec<u64> {
    let first = scratch(count);
    (first..first + count).collect()
}

/// Populated frames are memory; decreasing takes them away; the reservation follows.
fn populate_and_decrease() -> Verdict {
    let before = reservation_of(DOMID_SELF)?;
    let mut gfns = frames(16);
    ensure_eq!(populate(DOMID_SELF, &mut gfns, 0)?, 16, "extents populated");
    ensure_eq!(reservation_of(DOMID_SELF)?, before + 16, "reservation after populating");
    for gfn in &gfns {
        Page { gfn: *gfn }.set(8, *gfn);
    }
    for gfn in &gfns {
        ensure_eq!(Page { gfn: *gfn }.get::<u64>(8), *gfn, "word in a populated page");
    }
    ensure_eq!(reservation(XENMEM_DECREASE_RESERVATION, DOMID_SELF, &mut gfns, 0)?, 16, "extents removed");
    ensure_eq!(reservation_of(DOMID_SELF)?, before, "reservation after decreasing");
    Ok(())
}

/// One extent of order 9 is 2 MiB of memory.
fn populate_order_9() -> Verdict {
    let before = reservation_of(DOMID_SELF)?;
    let first = scratch_aligned(512, 512);
    ensure_eq!(populate(DOMID_SELF, &mut [first], 9)?, 1, "extents populated");
    ensure_eq!(reservation_of(DOMID_SELF)?, before + 512, "reservation");
    for gfn in [first, first + 1, first + 255, first + 511] {
        Page { gfn }.set(0, gfn);
        ensure_eq!(Page { gfn }.get::<u64>(0), gfn, "word in the extent");
    }
    // A page of it may go alone, which splits the extent.
    ensure_eq!(
        reservation(XENMEM_DECREASE_RESERVATION, DOMID_SELF, &mut [first + 7], 0)?,
        1,
        "one page removed"
    );
    ensure_eq!(Page { gfn: first + 511 }.get::<u64>(0), first + 511, "word after the split");
    let mut rest: Vec<u64> = (first..first + 512).filter(|g| *g != first + 7).collect();
    ensure_eq!(reservation(XENMEM_DECREASE_RESERVATION, DOMID_SELF, &mut rest, 0)?, 511, "pages removed");
    ensure_eq!(reservation_of(DOMID_SELF)?, before, "reservation afterwards");
    Ok(())
}

/// A list that ends in unmapped memory: what could be read is populated, and that number returned.
fn populate_stops_at_bad_list() -> Verdict {
    let last = Page { gfn: SCRATCH_END - 1 };
    ensure_eq!(populate(DOMID_SELF, &mut [last.gfn], 0)?, 1, "page for the list");
    let gfns = frames(2);
    last.set(4096 - 16, gfns[0]);
    last.set(4096 - 8, gfns[1]);
    let mut op = MemoryReservation {
        extent_start: Handle::new(last.at(4096 - 16)),
        nr_extents: 4,
        domid: DOMID_SELF,
        ..MemoryReservation::new_zeroed()
    };
    ensure_eq!(memory_op(XENMEM_POPULATE_PHYSMAP, &mut op)?, 2, "extents populated");
    let mut all = [gfns[0], gfns[1], last.gfn];
    ensure_eq!(reservation(XENMEM_DECREASE_RESERVATION, DOMID_SELF, &mut all, 0)?, 3, "removed");
    Ok(())
}

/// An order beyond all limits populates nothing.
fn populate_refuses_huge_order() -> Verdict {
    let before = reservation_of(DOMID_SELF)?;
    for order in [21, 40, 64, u32::MAX] {
        ensure_eq!(populate(DOMID_SELF, &mut [0x20_0000], order)?, 0, "extents of order {order}");
    }
    ensure_eq!(reservation_of(DOMID_SELF)?, before, "reservation");
    Ok(())
}

/// A reservation at an unmapped address, or of an unknown domain: nothing is done, 0 returned.
fn populate_bad_pointer_does_nothing() -> Verdict {
    ensure_eq!(memory_op_raw(u64::from(XENMEM_POPULATE_PHYSMAP), UNMAPPED), Ok(0), "bad pointer");
    ensure_eq!(populate(0x1234, &mut [1], 0), Ok(0), "unknown domain");
    Ok(())
}

/// Populated pages hold nothing of what was in a domain that is gone.
fn populated_pages_are_clean() -> Verdict {
    const SECRET: u64 = 0x5ec2_e75e_c2e7_5ec2;
    let domid = domain::create_empty(&Config { pages: 512, ..Config::default() })?;
    let gfns: Vec<u64> = (0..64).map(|n| 8 * n).collect();
    let theirs = map_foreign(domid, &gfns)?;
    (theirs.gfn..theirs.gfn + 64).for_each(|gfn| Page { gfn }.fill(SECRET));
    domain::unmap(theirs, 64)?;
    domain::destroy(domid)?;
    let first = scratch_aligned(2048, 512);
    let mut extents = [first, first + 512, first + 1024, first + 1536];
    ensure_eq!(populate(DOMID_SELF, &mut extents, 9)?, 4, "extents populated");
    let dirty = (first..first + 2048).find(|gfn| Page { gfn: *gfn }.get::<u64>(2048) == SECRET);
    ensure_eq!(dirty, None, "frame with a dead domain's data");
    ensure_eq!(reservation(XENMEM_DECREASE_RESERVATION, DOMID_SELF, &mut extents, 9)?, 4, "removed");
    Ok(())
}

/// Decreasing stops at the first frame that has no memory.
fn decrease_stops_at_hole() -> Verdict {
    let gfns = frames(3);
    ensure_eq!(populate(DOMID_SELF, &mut [gfns[0], gfns[2]], 0)?, 2, "populated");
    let mut all = [gfns[0], gfns[1], gfns[2]];
    ensure_eq!(
        reservation(XENMEM_DECREASE_RESERVATION, DOMID_SELF, &mut all, 0)?,
        1,
        "removed before the hole"
    );
    ensure_eq!(
        reservation(XENMEM_DECREASE_RESERVATION, DOMID_SELF, &mut [gfns[2]], 0)?,
        1,
        "removed behind it"
    );
    Ok(())
}

/// A frame without memory reads as ones and ignores writes (dom0 may see the machine there).
fn hole_reads_ones() -> Verdict {
    let page = Page::scratch();
    ensure_eq!(page.get::<u64>(0), u64::MAX, "64 bits");
    page.set(0, 0_u32);
    ensure_eq!(page.get::<u32>(0), u32::MAX, "32 bits after a write");
    ensure_eq!(page.get::<u8>(1), u8::MAX, "8 bits");
    Ok(())
}

/// Queries about an unknown domain return -ESRCH.
fn reservation_of_unknown_domain() -> Verdict {
    for op in [XENMEM_CURRENT_RESERVATION, XENMEM_MAXIMUM_RESERVATION, XENMEM_MAXIMUM_GPFN] {
        ensure_eq!(memory_op(op, &mut MemoryDomain { domid: 0x1234 }), Err(Errno::ESRCH), "operation {op}");
    }
    let now = reservation_of(DOMID_SELF)?;
    let maximum = memory_op(XENMEM_MAXIMUM_RESERVATION, &mut MemoryDomain { domid: DOMID_SELF })?;
    ensure!(now <= maximum && now >= 4096, "reservation {now} of {maximum} pages");
    Ok(())
}

/// The shared-info page can be put elsewhere; it leaves its old place and goes on working.
fn add_to_physmap_shared_info_moves() -> Verdict {
    let old = event::shared_page();
    let new = Page::scratch();
    event::map_shared_info(new.gfn)?;
    // The time record has a TSC value in its second word.
    let moved = new.get::<u64>(40) != 0 && old.get::<u64>(40) != new.get::<u64>(40);
    let (first, second) = event::loopback()?;
    event::send(second)?;
    ensure!(time::wait(100, || event::handled(first) == 1), "no event after the move");
    ensure!(moved, "the old frame still has the page, or the new one has not");
    Ok(())
}

/// Frames of the grant table appear where they are put, up to the limit; the content stays with the frame.
fn add_to_physmap_grant_frame() -> Verdict {
    let table = map_table(0, false)?;
    table.set(4096 - 8, 0xabcd_0000_0000_u64);
    let again = map_table(0, false)?;
    ensure_eq!(again.get::<u64>(4096 - 8), 0xabcd_0000_0000, "word in the table after it moved");
    ensure!(table.get::<u64>(4096 - 8) != 0xabcd_0000_0000, "the old place has the table too");
    again.set(4096 - 8, 0_u64);
    let size = harness::grant::query_size(DOMID_SELF)?;
    ensure!(map_table(u64::from(size.max_nr_frames), false).is_err(), "a frame beyond the limit");
    remove_from_physmap(again.gfn)?;
    Ok(())
}

/// Mapping something over RAM frees that RAM.
fn add_to_physmap_replaces_ram() -> Verdict {
    let page = Page::scratch();
    ensure_eq!(populate(DOMID_SELF, &mut [page.gfn], 0)?, 1, "populated");
    let before = reservation_of(DOMID_SELF)?;
    add_to_physmap(XENMAPSPACE_GRANT_TABLE, 0, page.gfn)?;
    ensure_eq!(reservation_of(DOMID_SELF)?, before - 1, "reservation");
    remove_from_physmap(page.gfn)?;
    Ok(())
}

/// A frame of RAM moves to another frame number with its content.
fn add_to_physmap_gmfn_moves() -> Verdict {
    let (from, to) = (Page::scratch(), Page::scratch());
    ensure_eq!(populate(DOMID_SELF, &mut [from.gfn], 0)?, 1, "populated");
    from.set(0, 0x1234_5678_u64);
    add_to_physmap(XENMAPSPACE_GMFN, from.gfn, to.gfn)?;
    ensure_eq!(to.get::<u64>(0), 0x1234_5678, "word at the new place");
    ensure!(from.get::<u64>(0) != 0x1234_5678, "the old place has the page too");
    ensure!(add_to_physmap(XENMAPSPACE_GMFN, from.gfn, to.gfn).is_err(), "moving a hole");
    ensure_eq!(reservation(XENMEM_DECREASE_RESERVATION, DOMID_SELF, &mut [to.gfn], 0)?, 1, "removed");
    Ok(())
}

/// Foreign frames one by one are -ENOSYS, unknown domains -ESRCH, bad indices and spaces errors.
fn add_to_physmap_refuses() -> Verdict {
    let gfn = scratch(1);
    ensure_eq!(add_to_physmap(XENMAPSPACE_GMFN_FOREIGN, 0, gfn), Err(Errno::ENOSYS), "foreign frame");
    ensure!(add_to_physmap(XENMAPSPACE_SHARED_INFO, 1, gfn).is_err(), "second shared-info page");
    ensure!(add_to_physmap(99, 0, gfn).is_err(), "unknown space");
    let mut op = AddToPhysmap { domid: 0x1234, gpfn: gfn, ..AddToPhysmap::new_zeroed() };
    ensure_eq!(memory_op(XENMEM_ADD_TO_PHYSMAP, &mut op), Err(Errno::ESRCH), "unknown domain");
    Ok(())
}

/// Removing a hole is -ENOENT.
fn remove_from_physmap_hole() -> Verdict {
    ensure_eq!(remove_from_physmap(scratch(1)), Err(Errno::ENOENT), "removing a hole");
    Ok(())
}

/// A foreign mapping is the other domain's memory.
fn foreign_map_reads_and_writes() -> Verdict {
    let child = Child::serving()?;
    let gfn = child.call(services::page, [0; 6])?;
    child.call(services::poke, [gfn << 12, 0x1111, 0, 0, 0, 0])?;
    let page = map_foreign(child.domid, &[gfn])?;
    ensure_eq!(page.get::<u64>(0), 0x1111, "the child's word");
    page.set(8, 0x2222_u64);
    ensure_eq!(
        child.call(services::peek, [(gfn << 12) + 8, 0, 0, 0, 0, 0])?,
        0x2222,
        "our word in the child"
    );
    domain::unmap(page, 1)?;
    ensure!(page.get::<u64>(0) != 0x1111, "the word is there after unmapping");
    child.destroy()
}

/// Each frame of a batch has its own error; the call itself succeeds.
fn foreign_map_errors_per_frame() -> Verdict {
    let domid = domain::create_empty(&Config { pages: 512, ..Config::default() })?;
    let first = scratch(3);
    let (mut idxs, mut gpfns, mut errs) = ([1, 0x8_0000, 2_u64], [first, first + 1, first + 2], [7; 3]);
    let mut op = AddToPhysmapBatch {
        domid: DOMID_SELF,
        space: XENMAPSPACE_GMFN_FOREIGN as u16,
        size: 3,
        foreign_domid: domid,
        idxs: handle(&mut idxs),
        gpfns: handle(&mut gpfns),
        errs: handle(&mut errs),
    };
    ensure_eq!(memory_op(XENMEM_ADD_TO_PHYSMAP_BATCH, &mut op), Ok(0), "the batch");
    ensure!(errs[0] == 0 && errs[1] < 0 && errs[2] == 0, "errors {errs:?}");
    op.foreign_domid = 0x1234;
    let unknown = memory_op(XENMEM_ADD_TO_PHYSMAP_BATCH, &mut op);
    ensure!(unknown.is_err() || errs.iter().all(|e| *e < 0), "unknown domain: {unknown:?}, errors {errs:?}");
    remove_from_physmap(first)?;
    remove_from_physmap(first + 2)?;
    domain::destroy(domid)
}

/// A destroyed domain whose frame is still mapped elsewhere goes only when the mapping does.
fn foreign_map_keeps_domain() -> Verdict {
    let domid = domain::create_empty(&Config { pages: 512, ..Config::default() })?;
    let page = map_foreign(domid, &[3])?;
    page.set(0, 0x77_u64);
    harness::hypercall::domctl_plain(xen_abi::domctl::XEN_DOMCTL_DESTROYDOMAIN, domid)?;
    time::sleep_ms(20);
    ensure!(domain::info(domid).is_ok(), "the domain is gone though its frame is mapped");
    ensure_eq!(page.get::<u64>(0), 0x77, "word in the mapped frame");
    domain::unmap(page, 1)?;
    ensure!(time::wait(2000, || domain::info(domid).is_err()), "the domain stays after unmapping");
    Ok(())
}

/// A claim sets free pages aside for a domain; populating uses it up; 0 gives it back.
fn claim_pages() -> Verdict {
    let domid = domain::create_bare(&Config::default())?;
    let mut max = xen_abi::domctl::DomctlMaxMem { max_memkb: 1 << 34 };
    harness::hypercall::domctl(xen_abi::domctl::XEN_DOMCTL_MAX_MEM, domid, &mut max)?;
    let claim = |nr_extents, extent_order| {
        let mut op = MemoryReservation { nr_extents, extent_order, domid, ..MemoryReservation::new_zeroed() };
        memory_op(XENMEM_CLAIM_PAGES, &mut op)
    };
    let outstanding = |domid| domain::info(domid).map(|i| i.outstanding_pages);
    ensure_eq!(claim(1000, 0), Ok(0), "claim");
    ensure_eq!((outstanding(domid)?, physinfo()?.outstanding_pages), (1000, 1000), "outstanding pages");
    ensure_eq!(claim(2000, 0), Err(Errno::EINVAL), "second claim");
    ensure_eq!(claim(10, 1), Err(Errno::EINVAL), "claim with an order");
    ensure_eq!(populate(domid, &mut (0..100).collect::<Vec<u64>>(), 0)?, 100, "extents populated");
    ensure_eq!(
        (outstanding(domid)?, physinfo()?.outstanding_pages),
        (900, 900),
        "pages outstanding after populating"
    );
    ensure_eq!(claim(0, 0), Ok(0), "release");
    ensure_eq!(claim(1 << 30, 0), Err(Errno::ENOMEM), "claim of more than the machine has");
    ensure_eq!(
        (outstanding(domid)?, physinfo()?.outstanding_pages),
        (0, 0),
        "outstanding pages after the release"
    );
    domain::destroy(domid)
}

/// `max_mem` limits what can be populated.
fn max_mem_is_a_limit() -> Verdict {
    let config = Config { pages: 512, ..Config::default() };
    let domid = domain::create_empty(&config)?;
    // `create_empty` allows 256 pages more than there are.
    let mut gfns: Vec<u64> = (0x1000..0x1000 + 300).collect();
    ensure_eq!(populate(domid, &mut gfns, 0)?, 256, "extents populated up to the limit");
    let info = domain::info(domid)?;
    ensure_eq!((info.tot_pages, info.max_pages), (768, 768), "pages and limit");
    domain::destroy(domid)
}

/// dom0 reads a memory map with as much RAM as it has.
fn memory_map_of_dom0() -> Verdict {
    let page = Page::new();
    let mut op = MemoryMap { nr_entries: 128, buffer: Handle::new(page.at(0)), ..MemoryMap::new_zeroed() };
    memory_op(XENMEM_MEMORY_MAP, &mut op)?;
    ensure!((1..128).contains(&op.nr_entries), "{} entries", op.nr_entries);
    let entries = (0..u64::from(op.nr_entries)).map(|n| page.structure::<E820Entry>(20 * n));
    let ram: u64 = entries.filter(|e| { e.kind } == E820_RAM).map(|e| e.size).sum();
    let have = reservation_of(DOMID_SELF)? * 4096;
    ensure!(ram.abs_diff(have) < 16 << 20, "{ram:#x} bytes of RAM in the map, {have:#x} reserved");
    Ok(())
}

/// The map that the toolstack sets for a domain is the one the domain reads; before, it is -ENOSYS.
fn memory_map_set_for_child() -> Verdict {
    let child = Child::serving()?;
    let gfn = child.call(services::page, [0; 6])?;
    let page = map_foreign(child.domid, &[gfn])?;
    page.set_structure(
        0,
        &MemoryMap { nr_entries: 8, buffer: Handle::new((gfn << 12) + 64), ..MemoryMap::new_zeroed() },
    );
    let number = u64::from(xen_abi::hypercall::HYPERVISOR_MEMORY_OP);
    let query = [number, u64::from(XENMEM_MEMORY_MAP), gfn << 12, 0, 0, 0];
    ensure_eq!(child.call(services::call, query)? as i64, Errno::ENOSYS.to_ret(), "before it is set");
    let mut entries = [
        E820Entry { addr: 0, size: 0x10_0000, kind: 1 },
        E820Entry { addr: 0x20_0000, size: 0xe0_0000, kind: 2 },
    ];
    let mut op = ForeignMemoryMap { domid: child.domid, ..ForeignMemoryMap::new_zeroed() };
    op.map.nr_entries = 2;
    op.map.buffer = handle(&mut entries);
    memory_op(XENMEM_SET_MEMORY_MAP, &mut op)?;
    ensure_eq!(child.call(services::call, query)?, 0, "after it is set");
    ensure_eq!(page.get::<u32>(0), 2, "entries");
    ensure_eq!(page.structure::<E820Entry>(64 + 20), entries[1], "second entry");
    domain::unmap(page, 1)?;
    child.destroy()
}

/// The grant table of another domain can be mapped by `acquire_resource`, as libxl does; its size can be asked.
fn acquire_grant_table() -> Verdict {
    let child = Child::serving()?;
    let mut op = MemAcquireResource {
        domid: child.domid,
        kind: XENMEM_RESOURCE_GRANT_TABLE as u16,
        id: XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED,
        ..MemAcquireResource::new_zeroed()
    };
    memory_op(XENMEM_ACQUIRE_RESOURCE, &mut op)?;
    ensure_eq!(op.nr_frames, 8, "frames that the grant table may have");
    let page = Page::scratch();
    let mut gfns = [page.gfn];
    op.nr_frames = 1;
    op.frame_list = handle(&mut gfns);
    memory_op(XENMEM_ACQUIRE_RESOURCE, &mut op)?;
    page.set(8, 0x0000_1234_0000_0000_u64);
    let table = child.call(services::grant_table, [0; 6])?;
    ensure_eq!(
        child.call(services::peek, [(table << 12) + 8, 0, 0, 0, 0, 0])?,
        0x0000_1234_0000_0000,
        "entry"
    );
    remove_from_physmap(page.gfn)?;
    op.domid = 0x1234;
    ensure_eq!(memory_op(XENMEM_ACQUIRE_RESOURCE, &mut op), Err(Errno::ESRCH), "unknown domain");
    child.destroy()
}

/// Unknown sub-operations return -ENOSYS.
fn memory_op_unknown() -> Verdict {
    ensure_eq!(memory_op_raw(60, UNMAPPED), Err(Errno::ENOSYS), "operation 60");
    Ok(())
}
