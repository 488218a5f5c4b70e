//! Log-dirty mode: what a guest or anybody on its behalf writes is in the log, and nothing else.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod random;

use std::sync::{Arc, Mutex, MutexGuard};

use radon_addr::{DomId, Gfn, Gpa, Gva, Maddr, Ns, VcpuId};
use radon_core::domain::Domain;
use radon_core::guest_access::{self, AddressSpace};
use radon_core::hypercall::{self, Answer, Caller, Width};
use radon_core::{exits, grants, log_dirty, physmap};
use radon_cpu::{Access, Exit, NestedFault};
use radon_hw::mem;
use random::world::{LARGE_GFN, World, put, translate};
use xen_abi::{Errno, Handle, domctl as d, grant_table as g, hypercall as nr};
use zerocopy::FromZeros;

const OP: u64 = 0x1000;
const BITMAP: u64 = 0x2000;
/// Pages that the log is asked about: the large page is among them.
const PAGES: u64 = LARGE_GFN + 512;
const WRITABLE: u64 = 1 << 1;

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

fn call(domain: &Arc<Domain>, number: u32, mut args: [u64; 6], deadline: u64) -> Result<i64, Errno> {
    loop {
        let vcpu = domain.vcpu(VcpuId::new(0)).unwrap().clone();
        let context = &mut *vcpu.context.lock();
        let space = AddressSpace::of(context);
        let (vcpu, deadline) = (&vcpu, Ns::new(deadline));
        let mut caller = Caller {
            domain,
            vcpu,
            context,
            space: space.into(),
            width: Width::Long,
            deadline: deadline.into(),
        };
        match hypercall::call(&mut caller, number.into(), args)? {
            Answer::Done(value) => return Ok(value),
            Answer::Continue(next) => args = next.applied(args),
        }
    }
}

fn shadow_op(dom0: &Arc<Domain>, guest: DomId, op: u32, mode: u32) -> Result<d::DomctlShadowOp, Errno> {
    let mut s = d::DomctlShadowOp::new_zeroed();
    (s.op, s.mode, s.pages, s.dirty_bitmap) = (op, mode, PAGES, Handle::new(BITMAP));
    let mut domctl = d::Domctl::new_zeroed();
    (domctl.cmd, domctl.interface_version) = (d::XEN_DOMCTL_SHADOW_OP, d::XEN_DOMCTL_INTERFACE_VERSION);
    domctl.domain = guest.raw();
    domctl.set_payload(&s);
    put(dom0, OP, &domctl);
    // A deadline that has always passed: each step is a call of its own.
    call(dom0, nr::HYPERVISOR_DOMCTL, [OP, 0, 0, 0, 0, 0], 0)?;
    let mut back = d::Domctl::new_zeroed();
    let bytes = zerocopy::IntoBytes::as_mut_bytes(&mut back);
    mem::read_bytes(dom0.ram_at(Gpa::new(OP), false).unwrap(), bytes);
    Ok(back.payload())
}

/// The pages that the log shows, and the statistics.
fn log(dom0: &Arc<Domain>, guest: &Domain, op: u32) -> (Vec<u64>, d::DomctlShadowOpStats) {
    for at in (0..PAGES.div_ceil(8)).step_by(8) {
        put(dom0, BITMAP + at, &u64::MAX);
    }
    let s = shadow_op(dom0, guest.id, op, 0).unwrap();
    assert_eq!(s.pages, PAGES);
    let bit = |page: u64| {
        let byte: u8 = mem::read(dom0.ram_at(Gpa::new(BITMAP + page / 8), false).unwrap());
        byte >> (page % 8) & 1 == 1
    };
    ((0..PAGES).filter(|&p| bit(p)).collect(), s.stats)
}

fn writable(guest: &Domain, gfn: u64) -> bool {
    let root = guest.p2m.read().root().unwrap().maddr().raw();
    translate(root, gfn).is_some_and(|(_, raw)| raw & WRITABLE != 0)
}

fn write(guest: &Domain, at: u64) {
    let space = AddressSpace::of(&guest.vcpu(VcpuId::new(0)).unwrap().context.lock());
    guest_access::write(guest, &space, Gva::new(at), &7u64).unwrap();
}

fn with_log(test: impl FnOnce(&Arc<Domain>, &Arc<Domain>, &World)) {
    let _turn = turn();
    let world = World::new();
    let (dom0, guest) = (world.domain(0), world.domain(1));
    shadow_op(&dom0, guest.id, d::XEN_DOMCTL_SHADOW_OP_ENABLE, d::XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY)
        .unwrap();
    test(&dom0, &guest, &world);
    drop((dom0, guest));
    world.end();
}

#[test]
fn what_is_written_is_shown_until_it_is_cleaned() {
    with_log(|dom0, guest, _| {
        assert_eq!(log(dom0, guest, d::XEN_DOMCTL_SHADOW_OP_PEEK).0, [], "at the beginning");
        assert!(!writable(guest, 3) && !writable(guest, LARGE_GFN));
        write(guest, 0x3ffc);
        let (pages, stats) = log(dom0, guest, d::XEN_DOMCTL_SHADOW_OP_PEEK);
        assert_eq!((&pages[..], stats.dirty_count, stats.fault_count), (&[3, 4][..], 2, 2));
        assert!(writable(guest, 3) && !writable(guest, 5));
        assert_eq!(log(dom0, guest, d::XEN_DOMCTL_SHADOW_OP_CLEAN).0, [3, 4]);
        assert!(!writable(guest, 3));
        let (pages, stats) = log(dom0, guest, d::XEN_DOMCTL_SHADOW_OP_CLEAN);
        assert_eq!((&pages[..], stats.dirty_count, stats.fault_count), (&[][..], 0, 0));
    });
}

#[test]
fn a_fault_makes_one_page_of_a_large_one_dirty() {
    with_log(|dom0, guest, _| {
        let gfn = LARGE_GFN + 77;
        let vcpu = guest.vcpu(VcpuId::new(0)).unwrap();
        let fault =
            NestedFault { gpa: Gfn::new(gfn).gpa(), access: Access::Write, present: true, table_walk: true };
        exits::handle(guest, vcpu, &mut vcpu.context.lock(), Exit::NestedFault(fault));
        assert!(guest.shutdown_code().is_none() && writable(guest, gfn));
        assert_eq!(log(dom0, guest, d::XEN_DOMCTL_SHADOW_OP_CLEAN).0, [gfn]);
        assert_eq!(log(dom0, guest, d::XEN_DOMCTL_SHADOW_OP_PEEK).0, []);
    });
}

#[test]
fn a_page_that_others_may_write_is_dirty_until_they_are_gone() {
    with_log(|dom0, guest, _| {
        let frame = physmap::get_frame(guest, Gfn::new(5), true).unwrap();
        for _ in 0..2 {
            assert_eq!(log(dom0, guest, d::XEN_DOMCTL_SHADOW_OP_CLEAN).0, [5]);
        }
        drop(frame);
        assert_eq!(log(dom0, guest, d::XEN_DOMCTL_SHADOW_OP_CLEAN).0, [5], "written before it was let go");
        assert_eq!(log(dom0, guest, d::XEN_DOMCTL_SHADOW_OP_CLEAN).0, []);
    });
}

#[test]
fn a_granted_page_is_dirty_while_it_is_mapped() {
    with_log(|dom0, guest, _| {
        let table = grants::table_frame(guest, 0, false).unwrap();
        mem::write(
            Maddr::new(table.maddr().raw() + 8 * 9),
            &(6u64 << 32 | u64::from(dom0.id.raw()) << 16 | 1),
        );
        let mut op = g::GnttabMapGrantRef::new_zeroed();
        (op.host_addr, op.flags, op.gref, op.dom) = (0x7_0000 << 12, g::GNTMAP_HOST_MAP, 9, guest.id.raw());
        put(dom0, OP, &op);
        let args = |sub: u32| [u64::from(sub), OP, 1, 0, 0, 0];
        call(dom0, nr::HYPERVISOR_GRANT_TABLE_OP, args(g::GNTTABOP_MAP_GRANT_REF), u64::MAX).unwrap();
        for _ in 0..2 {
            assert_eq!(log(dom0, guest, d::XEN_DOMCTL_SHADOW_OP_CLEAN).0, [6]);
        }
        let mut op = g::GnttabUnmapGrantRef::new_zeroed();
        op.host_addr = 0x7_0000 << 12;
        put(dom0, OP, &op);
        call(dom0, nr::HYPERVISOR_GRANT_TABLE_OP, args(g::GNTTABOP_UNMAP_GRANT_REF), u64::MAX).unwrap();
        assert_eq!(log(dom0, guest, d::XEN_DOMCTL_SHADOW_OP_CLEAN).0, [6]);
        assert_eq!(log(dom0, guest, d::XEN_DOMCTL_SHADOW_OP_CLEAN).0, []);
    });
}

#[test]
fn switching_off_gives_all_rights_back() {
    with_log(|dom0, guest, world| {
        let enable = || shadow_op(dom0, guest.id, d::XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, 0).map(|_| ());
        assert_eq!(enable(), Err(Errno::EINVAL), "switched on twice");
        assert_eq!(shadow_op(dom0, guest.id, d::XEN_DOMCTL_SHADOW_OP_PEEK, 4).err(), Some(Errno::EINVAL));
        assert_eq!(shadow_op(dom0, dom0.id, d::XEN_DOMCTL_SHADOW_OP_PEEK, 0).err(), Some(Errno::EINVAL));
        write(guest, 0x3000);
        shadow_op(dom0, guest.id, d::XEN_DOMCTL_SHADOW_OP_OFF, 0).unwrap();
        assert!((0..16).chain(LARGE_GFN..LARGE_GFN + 512).all(|gfn| writable(guest, gfn)));
        assert!(!guest.log_dirty.is_on() && !log_dirty::touch(guest, Gfn::new(4)));
        enable().unwrap();
        assert_eq!(log(dom0, guest, d::XEN_DOMCTL_SHADOW_OP_PEEK).0, []);
        world.check(true);
    });
}

#[test]
fn an_operation_that_does_not_exist_is_none_of_the_unfinished() {
    let log = log_dirty::LogDirty::default();
    assert_eq!(log.begin(u32::MAX), Some(0));
    log.interrupt(d::XEN_DOMCTL_SHADOW_OP_PEEK, 8192);
    assert_eq!(log.begin(u32::MAX), None);
    assert_eq!(log.begin(d::XEN_DOMCTL_SHADOW_OP_PEEK), Some(8192));
}
