//! Each operation and each error, one by one.
mod common;

use std::sync::atomic::Ordering::SeqCst;

use common::*;
use radon_addr::{Gfn, Gpa};
use radon_grant::*;
use radon_hw::{mem, sim};
use xen_abi::Errno;
use xen_abi::grant_table::*;

use Mode::{Read, Write};
use Purpose::{Copy, Map};

const PERMIT: u16 = GTF_PERMIT_ACCESS;
const GENERAL: GntStatus = GntStatus::GENERAL_ERROR;

/// A table of each version.
fn both() -> [Granter; 2] {
    let mut v2 = Granter::new(2, 1);
    v2.set_version(2).unwrap();
    [Granter::new(2, 1), v2]
}

#[test]
fn pins_show_in_the_entry_and_go_with_the_last_use() {
    for mut t in both() {
        t.grant(9, PERMIT, 1, 3);
        let status = t.status(9);
        let shown = |status: &std::sync::atomic::AtomicU16| status.load(SeqCst) & (GTF_READING | GTF_WRITING);
        let pinned = t.pin(9, access(1, Read), Map).unwrap();
        assert_eq!(pinned, Pinned { mfn: t.mfn(3), start: 0, length: 4096 });
        assert_eq!(shown(status), GTF_READING);
        t.pin(9, access(1, Write), Map).unwrap();
        assert_eq!(shown(status), GTF_READING | GTF_WRITING);
        t.pin(9, access(1, Write), Copy).unwrap();
        assert_eq!((t.gt.pinned_entries(), t.refs.borrow()[&t.mfn(3)]), (1, 3));
        assert_eq!(t.unpin(9, access(1, Write)), Some(t.mfn(3)));
        assert_eq!(shown(status), GTF_READING | GTF_WRITING);
        t.unpin(9, access(1, Write)).unwrap();
        assert_eq!(shown(status), GTF_READING);
        assert_eq!(t.unpin(9, access(1, Write)), None, "no writer left");
        t.unpin(9, access(1, Read)).unwrap();
        assert_eq!((shown(status), t.gt.pinned_entries(), t.refs.borrow().len()), (0, 0, 0));
        assert_eq!(t.flags(9), PERMIT);
    }
}

#[test]
fn what_is_not_granted_is_refused_without_a_trace() {
    for mut t in both() {
        let last = t.gt.entries();
        assert_eq!(t.pin(last, access(1, Read), Map), Err(GntStatus::BAD_GNTREF));
        t.grant(1, PERMIT | GTF_READONLY, 1, 3);
        t.grant(2, PERMIT, 1, RAM);
        t.grant(3, GTF_ACCEPT_TRANSFER, 1, 3);
        t.grant(4, GTF_TRANSITIVE, 1, 3);
        t.grant(5, PERMIT | GTF_SUB_PAGE, 1, 3);
        for (gref, by, mode, purpose, error) in [
            (0, 1, Read, Map, GENERAL),
            (1, 2, Read, Map, GENERAL),
            (1, 1, Write, Map, GENERAL),
            (1, 1, Write, Copy, GENERAL),
            (2, 1, Read, Map, GntStatus::BAD_PAGE),
            (2, 1, Write, Copy, GntStatus::BAD_PAGE),
            (3, 1, Read, Copy, GENERAL),
            (4, 1, Read, Copy, GENERAL),
            (5, 1, Read, Map, GENERAL),
        ] {
            let before = t.flags(gref);
            assert_eq!(
                t.pin(gref, access(by, mode), purpose),
                Err(error),
                "{gref} {by} {mode:?} {purpose:?}"
            );
            assert_eq!(t.flags(gref), before);
            assert!(t.gt.version() == 1 || t.status(gref).load(SeqCst) == 0);
        }
        assert_eq!((t.gt.pinned_entries(), t.refs.borrow().len()), (0, 0));
        assert_eq!(t.unpin(1, access(1, Read)), None);
    }
}

#[test]
fn pinned_entry_belongs_to_its_grantee_up_to_128_times() {
    for mut t in both() {
        t.grant(0, PERMIT, 1, 2);
        for _ in 0..128 {
            t.pin(0, access(1, Read), Map).unwrap();
        }
        assert_eq!(t.pin(0, access(1, Read), Map), Err(GENERAL));
        assert!(t.pin(0, access(1, Write), Map).is_ok(), "counted apart");
        assert!(t.pin(0, Access { via: Via::Device, ..access(1, Read) }, Map).is_ok());
        t.grant(0, PERMIT, 2, 2);
        assert_eq!(t.pin(0, access(2, Read), Map), Err(GENERAL));
        assert_eq!(t.refs.borrow()[&t.mfn(2)], 130);
    }
}

#[test]
fn rewriting_a_pinned_entry_gives_no_more_than_was_granted() {
    for mut t in both() {
        t.grant(0, PERMIT | GTF_READONLY, 1, 2);
        t.pin(0, access(1, Read), Map).unwrap();
        // Another frame, writable: further readers get the old frame, writers nothing.
        t.grant(0, PERMIT, 1, 5);
        assert_eq!(t.pin(0, access(1, Read), Map).unwrap().mfn, t.mfn(2));
        assert_eq!(t.pin(0, access(1, Write), Map), Err(GENERAL));
        // Revoked, or granted to another: no writer either.
        t.grant(0, 0, 1, 2);
        assert_eq!(t.pin(0, access(1, Write), Copy), Err(GENERAL));
        t.grant(0, PERMIT, 3, 2);
        assert_eq!(t.pin(0, access(1, Write), Copy), Err(GENERAL));
        t.grant(0, PERMIT, 1, 2);
        assert_eq!(t.pin(0, access(1, Write), Map).unwrap().mfn, t.mfn(2), "the same frame made writable");
    }
}

#[test]
fn sub_page_grants_can_only_be_copied_within_their_range() {
    let [_, mut t] = both();
    t.grant_part(0, PERMIT | GTF_SUB_PAGE, 1, 4, 100, 50);
    let pinned = t.pin(0, access(1, Read), Copy).unwrap();
    assert_eq!((pinned.start, pinned.length), (100, 50));
    assert_eq!(pinned.check_range(100, 50), Ok(()));
    assert_eq!(pinned.check_range(99, 10), Err(GENERAL));
    assert_eq!(pinned.check_range(140, 11), Err(GENERAL));
    assert_eq!(pinned.check_range(4000, 97), Err(GntStatus::BAD_COPY_ARG));
    assert_eq!(pinned.check_range(u16::MAX, u16::MAX), Err(GntStatus::BAD_COPY_ARG));
    // Made a full page behind our back: still the part, and still not mappable.
    t.grant(0, PERMIT, 1, 4);
    assert_eq!(t.pin(0, access(1, Read), Map), Err(GENERAL));
    assert_eq!(t.pin(0, access(1, Read), Copy).unwrap().length, 50);
    assert_eq!(t.pin(0, access(1, Write), Copy), Err(GENERAL));
    assert_eq!(t.set_version(1), Err(Errno::EAGAIN));
    // A range that leaves the page never lets a copy leave it.
    t.grant_part(1, PERMIT | GTF_SUB_PAGE, 1, 4, u16::MAX, u16::MAX);
    let wild = t.pin(1, access(1, Read), Copy).unwrap();
    assert!((0..4200).all(|offset| wild.check_range(offset, 1).is_err()));
}

#[test]
fn growth_and_frames() {
    let mut t = GrantTable::new(d(1), 2, 16).unwrap();
    assert!(GrantTable::new(d(1), 0, 16).is_err() && GrantTable::new(d(1), 3, 16).is_err());
    assert!(GrantTable::new(d(1), 2, 0).is_err());
    let dirty = || {
        let frame = sim::fresh_ram(1);
        mem::fill(frame.maddr(), 0xff, 4096);
        Some(frame)
    };
    t.grow(1, dirty).unwrap();
    assert_eq!((t.nr_frames(), t.entries(), t.nr_status_frames()), (1, 512, 0));
    assert_eq!(t.frame(FrameKind::Status, 0, dirty), Err(Errno::EINVAL));
    let third = t.frame(FrameKind::Shared, 2, dirty).unwrap();
    assert_eq!((t.nr_frames(), mem::read::<u64>(third.maddr())), (3, 0));
    assert_eq!(t.frame(FrameKind::Shared, 2, || None), Ok(third));
    assert_eq!(t.frame(FrameKind::Shared, 16, dirty), Err(Errno::EINVAL));
    assert_eq!(t.frame(FrameKind::Shared, u32::MAX, dirty), Err(Errno::EINVAL));
    assert_eq!(t.grow(17, dirty), Err(Errno::EINVAL));
    assert_eq!(t.grow(4, || None), Err(Errno::ENOMEM));
    assert_eq!(t.map_index(1 << 31 | 1), Ok((FrameKind::Shared, 1 << 31 | 1)));

    assert!(t.set_version(2, dirty).unwrap().is_empty());
    assert_eq!((t.nr_status_frames(), t.entries()), (1, 768));
    assert_eq!(t.map_index(1 << 31 | 1), Ok((FrameKind::Status, 1)));
    assert_eq!(t.map_index(1 << 40), Err(Errno::EINVAL));
    let status = t.frame(FrameKind::Status, 1, dirty).unwrap();
    assert_eq!((t.nr_frames(), t.nr_status_frames(), mem::read::<u64>(status.maddr())), (16, 2, 0));
    assert_eq!(t.frame(FrameKind::Status, 2, dirty), Err(Errno::EINVAL));
    assert_eq!((t.resource_max_frames(FrameKind::Shared), t.resource_max_frames(FrameKind::Status)), (16, 2));

    let released = t.set_version(1, || None).unwrap();
    assert_eq!(released[1], status);
    assert_eq!(t.nr_status_frames(), 0);
    assert_eq!(t.take_frames().len(), 16);
    assert_eq!(t.entries(), 0);
}

#[test]
fn set_version_keeps_reserved_entries_and_their_pins() {
    let mut t = Granter::new(2, 1);
    t.grant(0, PERMIT, 1, 3);
    t.grant(1, PERMIT | GTF_READONLY, 1, 4);
    t.grant(9, PERMIT, 1, 5);
    t.pin(0, access(1, Write), Map).unwrap();
    t.pin(9, access(1, Read), Map).unwrap();
    assert_eq!(t.set_version(2), Err(Errno::EBUSY));
    t.unpin(9, access(1, Read)).unwrap();
    assert_eq!((t.set_version(0).err(), t.set_version(3).err()), (Some(Errno::EINVAL), Some(Errno::EINVAL)));
    assert_eq!(t.gt.set_version(2, || None), Err(Errno::ENOMEM));
    assert_eq!(t.gt.version(), 1);
    t.set_version(2).unwrap();
    assert_eq!((t.flags(0), t.domid(0), t.frame64(0).load(SeqCst)), (PERMIT, 1, 3));
    assert_eq!(t.status(0).load(SeqCst), GTF_READING | GTF_WRITING);
    assert_eq!((t.flags(1), t.frame64(1).load(SeqCst)), (PERMIT | GTF_READONLY, 4));
    assert_eq!((t.flags(9), t.frame64(9).load(SeqCst)), (0, 0));
    assert_eq!(t.unpin(0, access(1, Write)), Some(t.mfn(3)));
    assert_eq!(t.status(0).load(SeqCst), 0);
    t.pin(1, access(1, Read), Map).unwrap();
    t.grant(2, PERMIT, 1, 1 << 32);
    assert_eq!(t.set_version(1), Err(Errno::ERANGE));
    t.grant(2, GTF_TRANSITIVE, 1, 0);
    assert_eq!(t.set_version(1), Err(Errno::ERANGE));
    t.grant(2, GTF_ACCEPT_TRANSFER, 1, 0);
    assert_eq!(t.set_version(1).unwrap().len(), 1);
    assert_eq!((t.flags(1), t.frame32(1).load(SeqCst)), (PERMIT | GTF_READONLY | GTF_READING, 4));
    assert_eq!(t.flags(2), 0);
    t.unpin(1, access(1, Read)).unwrap();
    assert_eq!(t.flags(1), PERMIT | GTF_READONLY);
    t.set_version(2).unwrap();
    t.pin(1, access(1, Read), Map).unwrap();
    t.grant(1, 0, 1, 4);
    t.set_version(1).unwrap();
    assert_eq!(t.flags(1), GTF_READING, "revoked, but still in use");
    t.unpin(1, access(1, Read)).unwrap();
    assert_eq!(t.flags(1), 0);
    let mut v1_only = Granter::new(1, 1);
    assert_eq!(v1_only.set_version(2), Err(Errno::ENOSYS));
    assert!(v1_only.set_version(1).unwrap().is_empty());
}

#[test]
fn swap_needs_idle_entries() {
    for mut t in both() {
        t.grant(3, PERMIT, 1, 3);
        t.grant(4, PERMIT | GTF_READONLY, 2, 4);
        assert_eq!(t.gt.swap(g(3), g(4)), Ok(()));
        assert_eq!(t.pin(3, access(2, Read), Map).unwrap().mfn, t.mfn(4));
        assert_eq!(t.gt.swap(g(3), g(4)), Err(GntStatus::EAGAIN));
        assert_eq!(t.gt.swap(g(4), g(3)), Err(GntStatus::EAGAIN));
        assert_eq!(t.gt.swap(g(3), g(3)), Ok(()));
        assert_eq!(t.gt.swap(g(3), g(600)), Err(GntStatus::BAD_GNTREF));
    }
}

#[test]
fn transfer_commits_then_completes() {
    for mut t in both() {
        t.grant(3, GTF_ACCEPT_TRANSFER, 1, 12);
        assert_eq!(t.gt.prepare_transfer(g(3), d(2)).err(), Some(GENERAL));
        assert_eq!(t.gt.prepare_transfer(g(4), d(1)).err(), Some(GENERAL));
        assert_eq!(t.gt.prepare_transfer(g(5000), d(1)).err(), Some(GENERAL));
        let transfer = t.gt.prepare_transfer(g(3), d(1)).unwrap();
        assert_eq!(t.flags(3), GTF_ACCEPT_TRANSFER | GTF_TRANSFER_COMMITTED);
        assert_eq!(t.gt.prepare_transfer(g(3), d(1)).err(), Some(GENERAL), "only once");
        let mut at = None;
        t.gt.finish_transfer(transfer, |gfn| {
            at = Some(gfn);
            Ok(())
        })
        .unwrap();
        assert_eq!(at, Some(Gfn::new(12)));
        assert_eq!(t.flags(3), GTF_ACCEPT_TRANSFER | GTF_TRANSFER_COMMITTED | GTF_TRANSFER_COMPLETED);
    }
    let mut t = Granter::new(2, 1);
    t.grant(3, GTF_ACCEPT_TRANSFER, 1, 12);
    let transfer = t.gt.prepare_transfer(g(3), d(1)).unwrap();
    t.set_version(2).unwrap();
    assert_eq!(t.gt.finish_transfer(transfer, |_| panic!("version changed")), Err(GENERAL));
}

#[test]
fn handles() {
    let mapping = |gfn| Mapping { granter: d(1), gref: g(5), gfn: Gfn::new(gfn), access: access(2, Read) };
    let mut track = MapTrack::new(2);
    let handles: Vec<Handle> = (0..512).map(|_| track.reserve().unwrap()).collect();
    assert_eq!(track.reserve(), Err(GntStatus::NO_SPACE));
    assert_eq!(MapTrack::new(0).reserve(), Err(GntStatus::NO_SPACE));
    let [a, b, c] = [handles[3], handles[300], handles[511]];
    assert_eq!(track.take(a), Err(GntStatus::BAD_HANDLE), "only reserved");
    track.commit(a, mapping(10));
    track.commit(c, mapping(11));
    track.cancel(b);
    track.cancel(a);
    assert_eq!((track.reserve(), track.mapped()), (Ok(b), 2), "a mapping cannot be cancelled");
    assert_eq!(track.take_at(a, Gpa::new(0)), Ok(None));
    assert_eq!(track.take_at(a, Gpa::new(11 << 12)), Err(GENERAL));
    assert_eq!(track.next_mapped(Handle(0)), Some((a, mapping(10))));
    assert_eq!(track.next_mapped(Handle(a.0 + 1)), Some((c, mapping(11))));
    assert_eq!(track.take_at(a, Gpa::new(10 << 12)), Ok(Some(mapping(10))));
    assert_eq!(track.take_at(a, Gpa::new(10 << 12)), Err(GntStatus::BAD_HANDLE));
    assert_eq!(track.take(Handle(u32::MAX)), Err(GntStatus::BAD_HANDLE));
    assert_eq!(track.take(c), Ok(mapping(11)));
    assert_eq!((track.next_mapped(Handle(0)), track.mapped()), (None, 0));
}

#[test]
fn map_flags() {
    let error = |flags| map_access(d(1), flags).err();
    assert_eq!(error(0), Some(GntStatus::BAD_GNTREF));
    assert_eq!(error(GNTMAP_READONLY), Some(GntStatus::BAD_GNTREF));
    for pv in [GNTMAP_DEVICE_MAP, GNTMAP_APPLICATION_MAP, GNTMAP_CONTAINS_PTE] {
        assert_eq!(error(GNTMAP_HOST_MAP | pv), Some(GENERAL));
    }
    assert_eq!(map_access(d(1), GNTMAP_HOST_MAP), Ok(access(1, Write)));
    assert_eq!(map_access(d(1), GNTMAP_HOST_MAP | GNTMAP_READONLY), Ok(access(1, Read)));
}

#[test]
fn cache_flush_arguments() {
    let both = GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL;
    assert_eq!(check_cache_flush(0, 4096, both), Ok(()));
    assert_eq!(check_cache_flush(4095, 1, 0), Ok(()));
    for (offset, length, op) in [(4096, 0, 0), (1, 4096, both), (65535, 65535, both), (0, 1, 4)] {
        assert_eq!(check_cache_flush(offset, length, op), Err(Errno::EINVAL));
    }
    assert_eq!(check_cache_flush(0, 1, GNTTAB_CACHE_SOURCE_GREF), Err(Errno::EINVAL));
}
