//! Attacks that random calls reach too rarely: what a guest may not get at, done on purpose.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod random;

use std::sync::{Arc, Mutex, MutexGuard};

use radon_addr::{DomId, Gfn, Gpa, Maddr, Ns, VcpuId};
use radon_core::domain::Domain;
use radon_core::grants;
use radon_core::guest_access::AddressSpace;
use radon_core::hypercall::{self, Answer, Caller, Width};
use radon_cpu::{Access, Control, Exit, Gpr, NestedFault, SegmentReg};
use radon_frames::frames;
use radon_hw::mem;
use radon_p2m::Kind;
use random::world::{LARGE_GFN, World, put};
use xen_abi::{
    Errno, domctl as d, event_channel as ev, grant_table as g, hypercall as nr, memory as m, vcpu,
};
use zerocopy::FromZeros;

const ARG: u64 = 0x1000;

/// One world at a time: its domains have fixed ids.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

fn call(domain: &Arc<Domain>, number: u32, args: [u64; 6]) -> Result<i64, Errno> {
    let vcpu = domain.vcpu(VcpuId::new(0)).unwrap().clone();
    let context = &mut *vcpu.context.lock();
    let space = AddressSpace::of(context);
    let deadline = Ns::new(u64::MAX);
    let mut caller = Caller {
        domain,
        vcpu: &vcpu,
        context,
        space: space.into(),
        width: Width::Long,
        deadline: deadline.into(),
    };
    match hypercall::call(&mut caller, number.into(), args)? {
        Answer::Done(value) => Ok(value),
        Answer::Continue(_) => panic!("there was no hurry"),
    }
}

/// Writes an entry of version 1: `frame` is granted to `to`, writable.
fn grant(by: &Arc<Domain>, gref: u64, to: DomId, frame: u64) {
    let table = grants::table_frame(by, 0, false).unwrap();
    mem::write(Maddr::new(table.maddr().raw() + gref * 8), &(frame << 32 | u64::from(to.raw()) << 16 | 1));
}

fn map(by: &Arc<Domain>, from: DomId, gref: u32, gfn: u64) -> i16 {
    let mut op = g::GnttabMapGrantRef::new_zeroed();
    (op.host_addr, op.flags, op.gref, op.dom) = (gfn << 12, g::GNTMAP_HOST_MAP, gref, from.raw());
    put(by, ARG, &op);
    call(by, nr::HYPERVISOR_GRANT_TABLE_OP, [u64::from(g::GNTTABOP_MAP_GRANT_REF), ARG, 1, 0, 0, 0]).unwrap();
    mem::read(Maddr::new(by.ram_at(radon_addr::Gpa::new(ARG), false).unwrap().raw() + 18))
}

fn move_page(by: &Arc<Domain>, space: u32, idx: u64, to: u64) -> Result<i64, Errno> {
    put(by, ARG, &m::AddToPhysmap { domid: DomId::SELF.raw(), size: 0, space, idx, gpfn: to });
    call(by, nr::HYPERVISOR_MEMORY_OP, [u64::from(m::XENMEM_ADD_TO_PHYSMAP), ARG, 0, 0, 0, 0])
}

/// The hypervisor keeps a reference to such a page and writes to it; the granter could not take it back.
#[test]
fn a_granted_page_is_no_place_for_shared_records() {
    let _turn = turn();
    let world = World::new();
    let (granter, guest) = (world.domain(1), world.domain(2));
    grant(&granter, 9, guest.id, 5);
    assert_eq!(map(&guest, granter.id, 9, 200), g::GNTST_OKAY);
    assert_eq!(guest.lookup(Gfn::new(200)).unwrap().kind, Kind::GrantRw);

    put(&guest, ARG, &vcpu::VcpuRegisterVcpuInfo { mfn: 200, offset: 0, _rsvd: 0 });
    let register = [u64::from(vcpu::VCPUOP_REGISTER_VCPU_INFO), 0, ARG, 0, 0, 0];
    assert_eq!(call(&guest, nr::HYPERVISOR_VCPU_OP, register), Err(Errno::EINVAL));

    let mut control = ev::EvtchnInitControl::new_zeroed();
    control.control_gfn = 200;
    put(&guest, ARG, &control);
    let init = [u64::from(ev::EVTCHNOP_INIT_CONTROL), ARG, 0, 0, 0, 0];
    assert_eq!(call(&guest, nr::HYPERVISOR_EVENT_CHANNEL_OP, init), Err(Errno::EINVAL));
    control.control_gfn = 6;
    put(&guest, ARG, &control);
    assert_eq!(call(&guest, nr::HYPERVISOR_EVENT_CHANNEL_OP, init), Ok(0));
    put(&guest, ARG, &200u64);
    let expand = [u64::from(ev::EVTCHNOP_EXPAND_ARRAY), ARG, 0, 0, 0, 0];
    assert_eq!(call(&guest, nr::HYPERVISOR_EVENT_CHANNEL_OP, expand), Err(Errno::EINVAL));
    world.check(true);
    drop((granter, guest));
    world.end();
}

/// Moving a page out of a large one needs a table. Without one nothing may have happened: a page mapped twice and freed once
/// would be another domain's next.
#[test]
fn a_page_that_cannot_be_moved_stays_where_it_was() {
    let _turn = turn();
    let world = World::new();
    let guest = world.domain(1);
    let from = Gfn::new(LARGE_GFN + 3);
    let (there, here) = (guest.lookup(from), guest.lookup(Gfn::new(50)));
    {
        let mut p2m = guest.p2m.write();
        let tables = p2m.tables();
        p2m.set_table_limit(tables);
    }
    assert_eq!(move_page(&guest, m::XENMAPSPACE_GMFN, from.raw(), 50), Err(Errno::ENOMEM));
    assert_eq!((guest.lookup(from), guest.lookup(Gfn::new(50))), (there, here));
    world.check(true);
    guest.p2m.write().set_table_limit(u32::MAX);
    assert_eq!(move_page(&guest, m::XENMAPSPACE_GMFN, from.raw(), 50), Ok(0));
    assert_eq!(guest.lookup(Gfn::new(50)).map(|e| e.mfn), there.map(|e| e.mfn));
    assert_eq!(guest.lookup(from), None);
    world.check(true);
    drop(guest);
    world.end();
}

/// Each far-off place costs page tables, which are the hypervisor's memory.
#[test]
fn a_guest_cannot_eat_the_machine_by_page_tables() {
    let _turn = turn();
    let world = World::new();
    let guest = world.domain(1);
    let mut op = d::Domctl::new_zeroed();
    (op.cmd, op.interface_version) = (d::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, d::XEN_DOMCTL_INTERFACE_VERSION);
    op.domain = guest.id.raw();
    op.set_payload(&d::DomctlPagingMempool { size: 300 << 12 });
    let dom0 = world.domain(0);
    put(&dom0, ARG, &op);
    assert_eq!(call(&dom0, nr::HYPERVISOR_DOMCTL, [ARG, 0, 0, 0, 0, 0]), Ok(0));
    drop(dom0);
    let before = frames().free_pages();
    let refused = (1..2000).find_map(|i| move_page(&guest, m::XENMAPSPACE_SHARED_INFO, 0, i << 18).err());
    assert_eq!(refused, Some(Errno::ENOMEM));
    assert!(before - frames().free_pages() <= 300, "{:?}", frames().domain(guest.id));
    // It still runs, on what it has.
    assert_eq!(move_page(&guest, m::XENMAPSPACE_SHARED_INFO, 0, 60), Ok(0));
    world.check(true);
    drop(guest);
    world.end();
}

/// A grant stays mapped until it is unmapped: were its place taken by something else, its frame would be free while the
/// granter sees it in use, and a second mapping would show whatever the granter has in that frame by then.
#[test]
fn nothing_takes_the_place_of_a_mapped_grant() {
    let _turn = turn();
    let world = World::new();
    let (granter, guest) = (world.domain(1), world.domain(2));
    grant(&granter, 9, guest.id, 5);
    grant(&granter, 10, guest.id, 6);
    assert_eq!(map(&guest, granter.id, 9, 200), g::GNTST_OKAY);
    let there = guest.lookup(Gfn::new(200));
    assert_ne!(map(&guest, granter.id, 10, 200), g::GNTST_OKAY);
    assert_eq!(move_page(&guest, m::XENMAPSPACE_SHARED_INFO, 0, 200), Err(Errno::EPERM));
    assert_eq!(move_page(&guest, m::XENMAPSPACE_GMFN, 20, 200), Err(Errno::EPERM));
    for (gfn, order) in [(200u64, 0), (0, 9)] {
        let mut r = m::MemoryReservation::new_zeroed();
        (r.extent_start, r.nr_extents) = (xen_abi::Handle::new(0x2000), 1);
        (r.extent_order, r.domid) = (order, DomId::SELF.raw());
        put(&guest, 0x2000, &gfn);
        put(&guest, ARG, &r);
        let args = [u64::from(m::XENMEM_POPULATE_PHYSMAP), ARG, 0, 0, 0, 0];
        assert_eq!(call(&guest, nr::HYPERVISOR_MEMORY_OP, args), Ok(0), "order {order}");
    }
    assert_eq!(guest.lookup(Gfn::new(200)), there);
    assert_eq!(granter.grants.lock().pinned_entries(), 1);
    world.check(true);
    drop((granter, guest));
    world.end();
}

/// Bytes of `MOVSQ`.
const MOVSQ: [u8; 2] = [0x48, 0xa5];
/// A guest-physical address where nobody answers: reads give ones.
const HOLE: u64 = 0xd000_0000;

/// Executes MOVSQ in 64-bit mode without paging, as the exit of its access to [`HOLE`] asks for it.
fn emulate_movsq(guest: &Arc<Domain>, from: u64, to: u64, access: Access) {
    put(guest, 0x8000, &MOVSQ[..]);
    let fault = NestedFault { gpa: Gpa::new(HOLE), access, present: false, table_walk: false };
    random::calls::exit(guest, Exit::NestedFault(fault), |context| {
        let b = &mut context.backend;
        b.set_rip(0x8000);
        b.set_gpr(Gpr::Rsi, from);
        b.set_gpr(Gpr::Rdi, to);
        b.set_control(Control::Cr0, 0x11);
        b.set_control(Control::Efer, 0x501);
        let mut code = b.segment(SegmentReg::Cs);
        code.attributes = 0xa9b;
        b.set_segment(SegmentReg::Cs, code);
    });
}

/// Neighbours in a guest's memory are none in the machine's: what is moved across the end of a page goes on in the guest's
/// next page.
#[test]
fn an_emulated_move_across_a_page_stays_in_the_guests_memory() {
    let _turn = turn();
    let world = World::new();
    let guest = world.domain(1);
    let mfn = |g: u64| guest.lookup(Gfn::new(g)).unwrap().mfn.raw();
    let gfn = (20..90).find(|&g| mfn(g) + 1 != mfn(g + 1)).expect("memory in pieces");
    let neighbour = Maddr::new((mfn(gfn) + 1) << 12);
    let end = (gfn + 1) << 12;
    let (before, own) = (mem::read::<u64>(neighbour), Gpa::new(end));
    put(&guest, end, &0x1122_3344_5566_7788u64);
    emulate_movsq(&guest, HOLE, end - 4, Access::Read);
    assert_eq!(mem::read::<u64>(neighbour), before, "another domain's memory was written");
    assert_eq!(mem::read::<u64>(guest.ram_at(own, false).unwrap()), 0x1122_3344_ffff_ffff);
    world.check(true);
    drop(guest);
    world.end();
}
