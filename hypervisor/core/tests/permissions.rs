//! What a guest may not ask for: every operation of the toolstack, and those of its own that name another domain. The rules
//! are those of Xen without a security module.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod random;

use std::sync::{Arc, Mutex, MutexGuard};

use radon_addr::{DomId, Gfn, Maddr, Ns, VcpuId};
use radon_core::domain::Domain;
use radon_core::guest_access::AddressSpace;
use radon_core::hypercall::{self, Answer, Caller, Width};
use radon_core::{grants, physmap};
use radon_frames::frames;
use radon_hw::mem;
use radon_p2m::Kind;
use random::world::{World, put};
use xen_abi::{
    Errno, Handle, domctl as d, event_channel as ev, grant_table as g, hvm_op, hypercall as nr, memory as m,
    platform, sched, sysctl,
};
use zerocopy::FromZeros;

const ARG: u64 = 0x1000;
const LIST: u64 = 0x2000;
const GUEST: u16 = 1;
const VICTIM: u16 = 2;

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

fn call(domain: &Arc<Domain>, number: u32, args: [u64; 6]) -> Result<i64, Errno> {
    let vcpu = domain.vcpu(VcpuId::new(0)).unwrap().clone();
    let context = &mut *vcpu.context.lock();
    let space = AddressSpace::of(context);
    let deadline = Ns::new(u64::MAX).into();
    let mut caller =
        Caller { domain, vcpu: &vcpu, context, space: space.into(), width: Width::Long, deadline };
    match hypercall::call(&mut caller, number.into(), args)? {
        Answer::Done(value) => Ok(value),
        Answer::Continue(_) => panic!("there was no hurry"),
    }
}

/// Each number of the three toolstack calls, with an argument that would do for many of them.
#[test]
fn the_toolstacks_calls_are_refused() {
    let _turn = turn();
    let world = World::new();
    let guest = world.domain(GUEST);
    for cmd in (0..=100).chain(1000..=1005) {
        put(&guest, ARG, &[cmd, d::XEN_DOMCTL_INTERFACE_VERSION, u32::from(VICTIM)]);
        assert_eq!(
            call(&guest, nr::HYPERVISOR_DOMCTL, [ARG, 0, 0, 0, 0, 0]),
            Err(Errno::EPERM),
            "domctl {cmd}"
        );
        put(&guest, ARG, &[cmd, d::XEN_DOMCTL_INTERFACE_VERSION, u32::from(GUEST)]);
        assert_eq!(
            call(&guest, nr::HYPERVISOR_DOMCTL, [ARG, 0, 0, 0, 0, 0]),
            Err(Errno::EPERM),
            "domctl {cmd}"
        );
        put(&guest, ARG, &[cmd, sysctl::XEN_SYSCTL_INTERFACE_VERSION, 0]);
        assert_eq!(
            call(&guest, nr::HYPERVISOR_SYSCTL, [ARG, 0, 0, 0, 0, 0]),
            Err(Errno::EPERM),
            "sysctl {cmd}"
        );
        put(&guest, ARG, &[cmd, platform::XENPF_INTERFACE_VERSION, 0]);
        let answer = call(&guest, nr::HYPERVISOR_PLATFORM_OP, [ARG, 0, 0, 0, 0, 0]);
        assert_eq!(answer, Err(Errno::EPERM), "platform_op {cmd}");
    }
    for op in 0..40 {
        let answer = call(&guest, nr::HYPERVISOR_PHYSDEV_OP, [op, ARG, 0, 0, 0, 0]);
        assert_eq!(answer, Err(Errno::ENOSYS), "physdev_op {op}");
    }
    drop(guest);
    world.end();
}

/// A call of the guest's own kind, on another domain.
fn on_the_victim(
    guest: &Arc<Domain>,
    number: u32,
    op: u32,
    argument: &dyn Fn(&Arc<Domain>),
) -> Result<i64, Errno> {
    argument(guest);
    call(guest, number, [u64::from(op), ARG, 1, 0, 0, 0])
}

#[test]
fn other_domains_are_out_of_reach() {
    let _turn = turn();
    let world = World::new();
    let (guest, victim) = (world.domain(GUEST), world.domain(VICTIM));
    let before = (
        frames().domain(victim.id).tot_pages,
        victim.lookup(Gfn::new(20)),
        victim.events.lock().next_open(radon_addr::Port::new(1)),
    );
    let reservation = |by: &Arc<Domain>| {
        put(by, LIST, &20u64);
        let mut r = m::MemoryReservation::new_zeroed();
        (r.extent_start, r.nr_extents, r.domid) = (Handle::new(LIST), 1, VICTIM);
        put(by, ARG, &r);
    };
    // Nothing done, as Xen says it.
    for op in [m::XENMEM_POPULATE_PHYSMAP, m::XENMEM_INCREASE_RESERVATION, m::XENMEM_DECREASE_RESERVATION] {
        assert_eq!(
            on_the_victim(&guest, nr::HYPERVISOR_MEMORY_OP, op, &reservation),
            Ok(0),
            "memory_op {op}"
        );
    }
    let physmap = |by: &Arc<Domain>| {
        let space = m::XENMAPSPACE_GMFN;
        put(by, ARG, &m::AddToPhysmap { domid: VICTIM, size: 0, space, idx: 20, gpfn: 300 });
    };
    let batch = |by: &Arc<Domain>| {
        put(by, LIST, &[20u64, 300]);
        let b = m::AddToPhysmapBatch {
            domid: DomId::SELF.raw(),
            space: m::XENMAPSPACE_GMFN_FOREIGN as u16,
            size: 1,
            foreign_domid: VICTIM,
            idxs: Handle::new(LIST),
            gpfns: Handle::new(LIST + 8),
            errs: Handle::new(LIST + 64),
        };
        put(by, ARG, &b);
    };
    let remove =
        |by: &Arc<Domain>| put(by, ARG, &m::RemoveFromPhysmap { domid: VICTIM, _pad: [0; 6], gpfn: 20 });
    let resource = |by: &Arc<Domain>| {
        let mut r = m::MemAcquireResource::new_zeroed();
        (r.domid, r.kind) = (VICTIM, m::XENMEM_RESOURCE_GRANT_TABLE as u16);
        (r.nr_frames, r.frame_list) = (1, Handle::new(LIST));
        put(by, LIST, &300u64);
        put(by, ARG, &r);
    };
    let own_resource = |by: &Arc<Domain>| {
        resource(by);
        put(by, ARG, &GUEST);
    };
    let id = |by: &Arc<Domain>| put(by, ARG, &[u64::from(VICTIM), 0, 0, 0]);
    let parameter = |by: &Arc<Domain>| {
        let mut p = hvm_op::HvmParam::new_zeroed();
        (p.domid, p.index) = (VICTIM, hvm_op::HVM_PARAM_STORE_PFN);
        put(by, ARG, &p);
    };
    let shutdown = |by: &Arc<Domain>| put(by, ARG, &[u32::from(VICTIM), 3]);
    let unbound =
        |by: &Arc<Domain>| put(by, ARG, &ev::EvtchnAllocUnbound { dom: VICTIM, remote_dom: GUEST, port: 0 });
    type Argument<'a> = &'a dyn Fn(&Arc<Domain>);
    let refused: &[(u32, u32, Argument<'_>)] = &[
        (nr::HYPERVISOR_MEMORY_OP, m::XENMEM_ADD_TO_PHYSMAP, &physmap),
        (nr::HYPERVISOR_MEMORY_OP, m::XENMEM_ADD_TO_PHYSMAP_BATCH, &batch),
        (nr::HYPERVISOR_MEMORY_OP, m::XENMEM_REMOVE_FROM_PHYSMAP, &remove),
        (nr::HYPERVISOR_MEMORY_OP, m::XENMEM_ACQUIRE_RESOURCE, &resource),
        (nr::HYPERVISOR_MEMORY_OP, m::XENMEM_ACQUIRE_RESOURCE, &own_resource),
        (nr::HYPERVISOR_MEMORY_OP, m::XENMEM_CURRENT_RESERVATION, &id),
        (nr::HYPERVISOR_MEMORY_OP, m::XENMEM_MAXIMUM_RESERVATION, &id),
        (nr::HYPERVISOR_MEMORY_OP, m::XENMEM_MAXIMUM_GPFN, &id),
        (nr::HYPERVISOR_MEMORY_OP, m::XENMEM_MACHINE_MEMORY_MAP, &id),
        (nr::HYPERVISOR_MEMORY_OP, m::XENMEM_SET_MEMORY_MAP, &id),
        (nr::HYPERVISOR_MEMORY_OP, m::XENMEM_CLAIM_PAGES, &reservation),
        (nr::HYPERVISOR_MEMORY_OP, m::XENMEM_SET_POD_TARGET, &id),
        (nr::HYPERVISOR_MEMORY_OP, m::XENMEM_GET_POD_TARGET, &id),
        (nr::HYPERVISOR_HVM_OP, hvm_op::HVMOP_SET_PARAM, &parameter),
        (nr::HYPERVISOR_HVM_OP, hvm_op::HVMOP_GET_PARAM, &parameter),
        (nr::HYPERVISOR_HVM_OP, hvm_op::HVMOP_GET_MEM_TYPE, &id),
        (nr::HYPERVISOR_SCHED_OP, sched::SCHEDOP_REMOTE_SHUTDOWN, &shutdown),
        (nr::HYPERVISOR_EVENT_CHANNEL_OP, ev::EVTCHNOP_ALLOC_UNBOUND, &unbound),
        (nr::HYPERVISOR_EVENT_CHANNEL_OP, ev::EVTCHNOP_STATUS, &id),
        (nr::HYPERVISOR_EVENT_CHANNEL_OP, ev::EVTCHNOP_RESET, &id),
        (nr::HYPERVISOR_GRANT_TABLE_OP, g::GNTTABOP_GET_VERSION, &id),
    ];
    for (number, op, argument) in refused {
        let answer = on_the_victim(&guest, *number, *op, *argument);
        assert_eq!(answer, Err(Errno::EPERM), "call {number} op {op}");
    }
    // These say it in a status of their own.
    for (op, at) in
        [(g::GNTTABOP_SETUP_TABLE, 8), (g::GNTTABOP_QUERY_SIZE, 12), (g::GNTTABOP_GET_STATUS_FRAMES, 6)]
    {
        put(&guest, ARG, &[0u64; 4]);
        put(
            &guest,
            ARG,
            &if op == g::GNTTABOP_GET_STATUS_FRAMES { u32::from(VICTIM) << 16 } else { u32::from(VICTIM) },
        );
        let args = [u64::from(op), ARG, 1, 0, 0, 0];
        if op == g::GNTTABOP_GET_STATUS_FRAMES {
            put(&guest, ARG, &[0u32, u32::from(VICTIM)]);
        }
        assert_eq!(call(&guest, nr::HYPERVISOR_GRANT_TABLE_OP, args), Ok(0));
        let status: i16 = mem::read(guest.ram_at(radon_addr::Gpa::new(ARG + at), false).unwrap());
        assert!(status < 0, "grant_table_op {op}: status {status}");
    }
    let after = (
        frames().domain(victim.id).tot_pages,
        victim.lookup(Gfn::new(20)),
        victim.events.lock().next_open(radon_addr::Port::new(1)),
    );
    assert_eq!(before, after);
    assert!(guest.lookup(Gfn::new(300)).is_none() && victim.shutdown_code().is_none());
    world.check(true);
    drop((guest, victim));
    world.end();
}

/// Only a domain's own RAM can be granted, and only such can the control domain map: what others lent it is not its to give,
/// and the hypervisor's pages are nobody's.
#[test]
fn only_own_memory_is_passed_on() {
    let _turn = turn();
    let world = World::new();
    let (dom0, guest, victim) = (world.domain(0), world.domain(GUEST), world.domain(VICTIM));
    // The guest has a page of the victim's (as a grant), a page of the hypervisor's, and grants both to the control domain.
    let lent = frames().get(victim.lookup(Gfn::new(20)).unwrap().mfn, victim.id).unwrap();
    physmap::place_referenced(&guest, Gfn::new(200), lent, Kind::Foreign).unwrap();
    put(
        &guest,
        ARG,
        &m::AddToPhysmap {
            domid: DomId::SELF.raw(),
            size: 0,
            space: m::XENMAPSPACE_SHARED_INFO,
            idx: 0,
            gpfn: 201,
        },
    );
    assert_eq!(
        call(&guest, nr::HYPERVISOR_MEMORY_OP, [u64::from(m::XENMEM_ADD_TO_PHYSMAP), ARG, 0, 0, 0, 0]),
        Ok(0)
    );
    let table = grants::table_frame(&guest, 0, false).unwrap();
    for (gref, gfn) in [(9u64, 200u64), (10, 201)] {
        mem::write(Maddr::new(table.maddr().raw() + gref * 8), &(gfn << 32 | 1));
        let mut op = g::GnttabMapGrantRef::new_zeroed();
        (op.host_addr, op.flags, op.gref, op.dom) = (300 << 12, g::GNTMAP_HOST_MAP, gref as u32, GUEST);
        put(&dom0, ARG, &op);
        let args = [u64::from(g::GNTTABOP_MAP_GRANT_REF), ARG, 1, 0, 0, 0];
        call(&dom0, nr::HYPERVISOR_GRANT_TABLE_OP, args).unwrap();
        assert!(dom0.lookup(Gfn::new(300)).is_none(), "gfn {gfn} was granted");
        put(&dom0, LIST, &[gfn, 300]);
        let b = m::AddToPhysmapBatch {
            domid: DomId::SELF.raw(),
            space: m::XENMAPSPACE_GMFN_FOREIGN as u16,
            size: 1,
            foreign_domid: GUEST,
            idxs: Handle::new(LIST),
            gpfns: Handle::new(LIST + 8),
            errs: Handle::new(LIST + 64),
        };
        put(&dom0, ARG, &b);
        let args = [u64::from(m::XENMEM_ADD_TO_PHYSMAP_BATCH), ARG, 0, 0, 0, 0];
        call(&dom0, nr::HYPERVISOR_MEMORY_OP, args).unwrap();
        assert!(dom0.lookup(Gfn::new(300)).is_none(), "gfn {gfn} was mapped");
    }
    drop((dom0, guest, victim));
    world.end();
}
