//! Random hypercalls: structures with plausible fields first, so that deep paths are reached, and garbage now and then.

use std::sync::Arc;

use radon_addr::{Gpa, Ns, VcpuId};
use radon_core::context::Context;
use radon_core::domain::Domain;
use radon_core::guest_access::AddressSpace;
use radon_core::hypercall::{self, Answer, Caller, Width};
use radon_core::{exits, grants};
use radon_hw::{mem, sim};
use xen_abi::event_channel as ev;
use xen_abi::grant_table as g;
use xen_abi::memory as m;
use xen_abi::{Handle, domctl as d, hypercall as nr, platform, sched, sysctl, vcpu};
use zerocopy::FromZeros;

use super::source::Source;
use super::world::{GUESTS, LARGE_GFN, SMALL_PAGES, put};

/// Where a caller keeps the structure, the arrays it points to, and the list of a multicall.
const ARG: u64 = 0x1000;
const LISTS: [u64; 3] = [0x2000, 0x3000, 0x4ff0];
const MULTICALL: u64 = 0x6000;
/// Continuations after which a call is taken for one that never ends.
const PATIENCE: u32 = 100_000;

/// One call: number and arguments.
pub type Call = (u64, [u64; 6]);

pub fn domid(s: &mut Source<'_>) -> u16 {
    s.pick(&[
        0x7ff0, 0x7ff0, 0x7ff0, GUESTS[0], GUESTS[1], GUESTS[0], GUESTS[1], 0, 3, 0x7ff1, 0x7ff2, 0x7ff4,
        0xffff,
    ])
}

pub fn gfn(s: &mut Source<'_>) -> u64 {
    match s.below(12) {
        0..=4 => s.below(SMALL_PAGES),
        5 | 6 => SMALL_PAGES + s.below(64),
        7 | 8 => LARGE_GFN + s.below(600),
        9 => s.below(4) << 18 | s.below(3),
        10 => s.pick(&[u64::MAX, 1 << 36, (1 << 36) - 1, (1 << 36) - 512, 0xfee00, 1 << 52, 0xffff_ffff]),
        _ => s.odd_word(),
    }
}

fn port(s: &mut Source<'_>) -> u32 {
    if s.chance(90) { s.below(20) as u32 } else { s.odd_word() as u32 }
}

fn small(s: &mut Source<'_>) -> u32 {
    if s.chance(93) { s.below(6) as u32 } else { s.odd_word() as u32 }
}

fn gref(s: &mut Source<'_>) -> u32 {
    if s.chance(93) { s.below(24) as u32 } else { s.odd_word() as u32 }
}

fn pointer(s: &mut Source<'_>) -> u64 {
    match s.below(16) {
        0 => 0,
        1 => s.odd_word(),
        2 => gfn(s).wrapping_shl(12) | s.below(4096),
        _ => s.pick(&LISTS),
    }
}

fn host_addr(s: &mut Source<'_>) -> u64 {
    gfn(s).wrapping_shl(12) | if s.chance(5) { s.below(4096) } else { 0 }
}

/// An array of frame numbers at some list's place.
fn gfn_list(s: &mut Source<'_>, domain: &Domain) -> Handle<u64> {
    let at = pointer(s);
    if LISTS.contains(&at) {
        for i in 0..s.below(9) {
            put(domain, at + i * 8, &gfn(s));
        }
    }
    Handle::new(at)
}

/// `words` words that might be fields of any structure.
fn garbage(s: &mut Source<'_>, domain: &Domain, at: u64, words: u64) {
    for i in 0..words {
        let word = match s.below(6) {
            0 => gfn(s),
            1 => pointer(s),
            2 => u64::from(domid(s)) | u64::from(small(s)) << 32,
            3 => u64::from(port(s)) | u64::from(small(s)) << 32,
            4 => s.below(4),
            _ => s.odd_word(),
        };
        put(domain, at + i * 8, &word);
    }
}

fn event_channel(s: &mut Source<'_>, domain: &Domain) -> Call {
    let op = if s.chance(85) {
        s.pick(&[0, 0, 0, 0, 1, 3, 4, 4, 4, 5, 6, 6, 6, 7, 8, 9, 11, 12, 13])
    } else {
        s.below(15) as u32
    };
    match op {
        ev::EVTCHNOP_ALLOC_UNBOUND => {
            put(domain, ARG, &ev::EvtchnAllocUnbound { dom: domid(s), remote_dom: domid(s), port: 0 });
        }
        ev::EVTCHNOP_BIND_INTERDOMAIN => {
            let mut b = ev::EvtchnBindInterdomain::new_zeroed();
            (b.remote_dom, b.remote_port) = (domid(s), port(s));
            put(domain, ARG, &b);
        }
        ev::EVTCHNOP_BIND_VIRQ => {
            put(domain, ARG, &ev::EvtchnBindVirq { virq: port(s), vcpu: small(s), port: 0 });
        }
        ev::EVTCHNOP_STATUS => {
            let mut t = ev::EvtchnStatus::new_zeroed();
            (t.dom, t.port) = (domid(s), port(s));
            put(domain, ARG, &t);
        }
        ev::EVTCHNOP_RESET => put(domain, ARG, &domid(s)),
        ev::EVTCHNOP_BIND_IPI => put(domain, ARG, &[small(s), 0]),
        ev::EVTCHNOP_INIT_CONTROL => {
            let mut c = ev::EvtchnInitControl::new_zeroed();
            (c.control_gfn, c.vcpu) = (gfn(s), small(s));
            c.offset = if s.chance(80) { s.below(500) as u32 * 8 } else { s.odd_word() as u32 };
            put(domain, ARG, &c);
        }
        ev::EVTCHNOP_EXPAND_ARRAY => put(domain, ARG, &gfn(s)),
        _ => put(domain, ARG, &[port(s), small(s)]),
    }
    (nr::HYPERVISOR_EVENT_CHANNEL_OP.into(), [op.into(), ARG, 0, 0, 0, 0])
}

fn copy_end(s: &mut Source<'_>, granted: bool) -> g::GnttabCopyPtr {
    let mut p = g::GnttabCopyPtr::new_zeroed();
    p.u = if granted { gref(s).into() } else { gfn(s) };
    p.domid = if granted || s.chance(5) { domid(s) } else { 0x7ff0 };
    p.offset = if s.chance(60) { s.below(64) as u16 } else { s.odd_word() as u16 };
    p
}

fn grant_op(s: &mut Source<'_>, domain: &Domain, at: u64, op: u32) -> u64 {
    match op {
        g::GNTTABOP_MAP_GRANT_REF => {
            let mut q = g::GnttabMapGrantRef::new_zeroed();
            (q.host_addr, q.gref, q.dom) = (host_addr(s), gref(s), domid(s));
            q.flags = if s.chance(90) { s.pick(&[2, 2, 6]) } else { s.odd_word() as u32 };
            put(domain, at, &q);
            size_of_val(&q) as u64
        }
        g::GNTTABOP_UNMAP_GRANT_REF => {
            let mut q = g::GnttabUnmapGrantRef::new_zeroed();
            q.handle = port(s);
            let known = domain.maptrack.lock().get(radon_grant::Handle(q.handle)).ok();
            q.host_addr = match known {
                Some(mapping) if s.chance(70) => mapping.gfn.raw() << 12,
                _ => host_addr(s),
            };
            put(domain, at, &q);
            size_of_val(&q) as u64
        }
        g::GNTTABOP_COPY => {
            let mut c = g::GnttabCopy::new_zeroed();
            c.flags = s.below(5) as u16;
            c.source = copy_end(s, c.flags & 1 != 0);
            c.dest = copy_end(s, c.flags & 2 != 0);
            c.len = if s.chance(70) { s.below(256) as u16 } else { s.odd_word() as u16 };
            put(domain, at, &c);
            size_of_val(&c) as u64
        }
        g::GNTTABOP_SETUP_TABLE => {
            let mut q = g::GnttabSetupTable::new_zeroed();
            (q.dom, q.nr_frames, q.frame_list) = (domid(s), small(s), Handle::new(pointer(s)));
            put(domain, at, &q);
            size_of_val(&q) as u64
        }
        g::GNTTABOP_SET_VERSION => {
            put(domain, at, &(s.below(4) as u32));
            4
        }
        g::GNTTABOP_GET_STATUS_FRAMES => {
            let mut q = g::GnttabGetStatusFrames::new_zeroed();
            (q.dom, q.nr_frames, q.frame_list) = (domid(s), small(s), Handle::new(pointer(s)));
            put(domain, at, &q);
            size_of_val(&q) as u64
        }
        g::GNTTABOP_SWAP_GRANT_REF => {
            put(domain, at, &[gref(s), gref(s), 0]);
            12
        }
        _ => {
            garbage(s, domain, at, 5);
            40
        }
    }
}

fn grants_call(s: &mut Source<'_>, domain: &Domain) -> Call {
    let op = s.pick(&[0, 0, 0, 0, 1, 1, 1, 5, 5, 5, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13]);
    let count = if matches!(op, 2 | 6 | 8 | 10) { 1 } else { 1 + s.below(4) };
    let mut at = ARG;
    for _ in 0..count {
        at += grant_op(s, domain, at, op);
    }
    let count = if s.chance(2) { s.odd_word() } else { count };
    (nr::HYPERVISOR_GRANT_TABLE_OP.into(), [op.into(), ARG, count, 0, 0, 0])
}

fn reservation(s: &mut Source<'_>, domain: &Domain) {
    let mut r = m::MemoryReservation::new_zeroed();
    r.extent_start = gfn_list(s, domain);
    r.nr_extents = if s.chance(95) { s.below(9) } else { s.odd_word() };
    r.extent_order = s.pick(&[0, 0, 0, 0, 1, 2, 3, 9, 9, 10, 64, u32::MAX]);
    r.mem_flags = if s.chance(85) { 0 } else { s.odd_word() as u32 };
    r.domid = domid(s);
    put(domain, ARG, &r);
}

fn memory(s: &mut Source<'_>, domain: &Domain) -> Call {
    let op = s.pick(&[
        0u32, 1, 1, 6, 6, 6, 7, 7, 7, 7, 7, 23, 23, 23, 15, 15, 28, 9, 10, 13, 24, 2, 3, 4, 14, 16, 17, 26,
        27, 11, 5,
    ]);
    match op {
        m::XENMEM_INCREASE_RESERVATION
        | m::XENMEM_DECREASE_RESERVATION
        | m::XENMEM_POPULATE_PHYSMAP
        | m::XENMEM_CLAIM_PAGES => reservation(s, domain),
        m::XENMEM_ADD_TO_PHYSMAP => {
            let space = s.below(7) as u32;
            let idx = match space {
                1 => s.below(6) | if s.chance(30) { m::XENMAPIDX_GRANT_TABLE_STATUS } else { 0 },
                0 => s.below(2),
                _ => gfn(s),
            };
            put(
                domain,
                ARG,
                &m::AddToPhysmap { domid: domid(s), size: small(s) as u16, space, idx, gpfn: gfn(s) },
            );
        }
        m::XENMEM_ADD_TO_PHYSMAP_BATCH => {
            let b = m::AddToPhysmapBatch {
                domid: domid(s),
                space: s.pick(&[4, 4, 4, 0, 1, 2, 3, 5, 6]),
                size: small(s) as u16,
                foreign_domid: domid(s),
                idxs: gfn_list(s, domain),
                gpfns: gfn_list(s, domain),
                errs: Handle::new(pointer(s)),
            };
            put(domain, ARG, &b);
        }
        m::XENMEM_REMOVE_FROM_PHYSMAP => {
            put(domain, ARG, &m::RemoveFromPhysmap { domid: domid(s), _pad: [0; 6], gpfn: gfn(s) });
        }
        m::XENMEM_ACQUIRE_RESOURCE => {
            let mut r = m::MemAcquireResource::new_zeroed();
            (r.domid, r.kind, r.id) = (domid(s), small(s) as u16, small(s));
            (r.nr_frames, r.frame, r.frame_list) = (small(s), small(s).into(), gfn_list(s, domain));
            put(domain, ARG, &r);
        }
        m::XENMEM_SET_MEMORY_MAP => {
            let map = m::MemoryMap { nr_entries: small(s), _pad: [0; 4], buffer: Handle::new(pointer(s)) };
            put(domain, ARG, &m::ForeignMemoryMap { domid: domid(s), _pad: [0; 6], map });
        }
        m::XENMEM_CURRENT_RESERVATION | m::XENMEM_MAXIMUM_RESERVATION | m::XENMEM_MAXIMUM_GPFN => {
            put(domain, ARG, &domid(s));
        }
        _ => garbage(s, domain, ARG, 5),
    }
    let start = if s.chance(95) { 0 } else { s.odd_word() };
    (nr::HYPERVISOR_MEMORY_OP.into(), [u64::from(op) | start << 6, ARG, 0, 0, 0, 0])
}

fn domctl(s: &mut Source<'_>, domain: &Domain) -> Call {
    let mut op = d::Domctl::new_zeroed();
    op.interface_version = if s.chance(99) { d::XEN_DOMCTL_INTERFACE_VERSION } else { s.word() as u32 };
    op.cmd = if s.chance(96) { s.below(88) as u32 } else { 1000 + s.below(5) as u32 };
    // Deaths are rarer than other things, or nothing else would happen.
    if op.cmd == d::XEN_DOMCTL_DESTROYDOMAIN && s.chance(80) {
        op.cmd = d::XEN_DOMCTL_GETDOMAININFO;
    }
    op.domain = if s.chance(70) { s.pick(&GUESTS) } else { domid(s) };
    put(domain, ARG, &op);
    garbage(s, domain, ARG + 16, 16);
    if op.cmd == d::XEN_DOMCTL_MAX_MEM {
        // Neither starve the others nor the domain.
        put(domain, ARG + 16, &(4 * s.below(2048)));
    }
    if op.cmd == d::XEN_DOMCTL_CREATEDOMAIN && s.chance(80) {
        let config = d::DomctlCreatedomain {
            flags: d::XEN_DOMCTL_CDF_HVM | d::XEN_DOMCTL_CDF_HAP,
            max_vcpus: small(s),
            max_evtchn_port: s.below(300) as u32,
            max_grant_frames: small(s) as i32,
            max_maptrack_frames: small(s) as i32,
            grant_opts: s.below(3) as u32,
            arch: d::ArchDomainconfig { emulation_flags: d::XEN_X86_EMU_LAPIC, misc_flags: 0 },
            ..d::DomctlCreatedomain::new_zeroed()
        };
        put(domain, ARG + 16, &config);
    }
    if s.chance(50) {
        // Small numbers and good pointers: the shape of most of these structures.
        put(domain, ARG + 16, &[small(s), small(s)]);
        put(domain, ARG + 24, &pointer(s));
    }
    if s.chance(60) {
        for list in LISTS {
            garbage(s, domain, list, 4);
        }
    }
    (nr::HYPERVISOR_DOMCTL.into(), [ARG, 0, 0, 0, 0, 0])
}

fn sysctl_call(s: &mut Source<'_>, domain: &Domain) -> Call {
    put(domain, ARG, &[s.below(32) as u32, sysctl::XEN_SYSCTL_INTERFACE_VERSION]);
    garbage(s, domain, ARG + 8, 16);
    (nr::HYPERVISOR_SYSCTL.into(), [ARG, 0, 0, 0, 0, 0])
}

fn platform_call(s: &mut Source<'_>, domain: &Domain) -> Call {
    put(domain, ARG, &[s.below(70) as u32, platform::XENPF_INTERFACE_VERSION]);
    garbage(s, domain, ARG + 8, 16);
    (nr::HYPERVISOR_PLATFORM_OP.into(), [ARG, 0, 0, 0, 0, 0])
}

fn vcpu_call(s: &mut Source<'_>, domain: &Domain) -> Call {
    let op = s.below(16) as u32;
    match op {
        vcpu::VCPUOP_REGISTER_VCPU_INFO => {
            let offset = if s.chance(80) { s.below(60) as u32 * 64 } else { s.odd_word() as u32 };
            put(domain, ARG, &vcpu::VcpuRegisterVcpuInfo { mfn: gfn(s), offset, _rsvd: 0 });
        }
        vcpu::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA => put(domain, ARG, &pointer(s)),
        _ => garbage(s, domain, ARG, 16),
    }
    (nr::HYPERVISOR_VCPU_OP.into(), [op.into(), small(s).into(), ARG, 0, 0, 0])
}

fn sched_call(s: &mut Source<'_>, domain: &Domain) -> Call {
    let op = s.below(9) as u32;
    match op {
        sched::SCHEDOP_POLL => {
            let poll = sched::SchedPoll {
                ports: Handle::new(pointer(s)),
                nr_ports: small(s),
                _pad: [0; 4],
                timeout: s.odd_word(),
            };
            put(domain, ARG, &poll);
            put(domain, LISTS[0], &[port(s), port(s), port(s)]);
        }
        sched::SCHEDOP_REMOTE_SHUTDOWN => put(domain, ARG, &[s.pick(&GUESTS).into(), small(s)]),
        _ => put(domain, ARG, &[small(s), small(s)]),
    }
    // The control domain's end is the machine's.
    let op = if domain.privileged() && op == sched::SCHEDOP_SHUTDOWN { 0 } else { op };
    (nr::HYPERVISOR_SCHED_OP.into(), [op.into(), ARG, 0, 0, 0, 0])
}

fn multicall(s: &mut Source<'_>, domain: &Domain) -> Call {
    let n = 1 + s.below(4);
    for i in 0..n {
        // All entries share one structure: the last one's.
        let (number, args) = single(s, domain);
        put(domain, MULTICALL + i * 64, &[number, 0]);
        put(domain, MULTICALL + i * 64 + 16, &args);
    }
    let n = if s.chance(2) { s.odd_word() } else { n };
    (nr::HYPERVISOR_MULTICALL.into(), [MULTICALL, n, 0, 0, 0, 0])
}

fn single(s: &mut Source<'_>, domain: &Domain) -> Call {
    match s.below(24) {
        0..=3 => event_channel(s, domain),
        4..=8 => grants_call(s, domain),
        9..=13 => memory(s, domain),
        14 | 15 => domctl(s, domain),
        16 => sysctl_call(s, domain),
        17 => platform_call(s, domain),
        18 => vcpu_call(s, domain),
        19 => sched_call(s, domain),
        20 | 21 => {
            // hvm_op, xen_version, console_io, physdev_op, vm_assist, set_timer_op.
            garbage(s, domain, ARG, 4);
            if s.chance(60) {
                put(domain, ARG, &[u32::from(domid(s)), s.below(40) as u32]);
            }
            let number = s.pick(&[34u64, 34, 17, 18, 33, 21, 15]);
            (number, [s.below(26), if number == 18 { s.below(200) } else { ARG }, ARG, 0, 0, 0])
        }
        _ => {
            garbage(s, domain, ARG, 8);
            let args = [0; 6].map(|_: u8| if s.chance(50) { pointer(s) } else { s.odd_word() });
            let number = s.below(64);
            // Its list would be whatever lies there.
            (if number == u64::from(nr::HYPERVISOR_MULTICALL) { 63 } else { number }, args)
        }
    }
}

/// A random call by this domain, its structures in place.
pub fn any(s: &mut Source<'_>, domain: &Domain) -> Call {
    if s.chance(6) { multicall(s, domain) } else { single(s, domain) }
}

/// What a guest does without a hypercall: grants pages, and writes into pages it shares with the hypervisor.
pub fn scribble(s: &mut Source<'_>, domain: &Arc<Domain>) {
    let half = s.below(2) * 2048;
    if s.chance(70)
        && let Ok(table) = grants::table_frame(domain, 0, false)
    {
        let to = u64::from(s.pick(&[GUESTS[0], GUESTS[1], 0]));
        let flags = s.pick(&[1u64, 1, 1, 5, 0, 3, 0x101, 2]);
        let i = s.below(24);
        if domain.grants.lock().version() == 2 {
            let at = table.maddr().raw() + i * 16;
            mem::write(radon_addr::Maddr::new(at + 8), &gfn(s));
            mem::write(
                radon_addr::Maddr::new(at),
                &(s.below(128) << 48 | s.below(128) << 32 | to << 16 | flags),
            );
        } else {
            let at = table.maddr().raw() + i * 8;
            mem::write(radon_addr::Maddr::new(at), &(gfn(s) << 32 | to << 16 | flags));
        }
    } else if s.chance(30) {
        let at = domain.shared_info.maddr().raw() + s.below(512) * 8;
        mem::write(radon_addr::Maddr::new(at), &s.word());
    } else {
        let gpa = Gpa::new(gfn(s).wrapping_shl(12) | (half + s.below(64) * 8));
        if let Some(at) = domain.ram_at(gpa, true) {
            mem::write(at, &(s.odd_word() as u32));
        }
    }
}

/// Makes the call as a vCPU would, again and again while it asks for it. `hurry`: it is asked to give way all the time.
/// True when it succeeds.
pub fn make(domain: &Arc<Domain>, vcpu: u32, call: Call, width: Width, hurry: bool) -> bool {
    let Some(vcpu) = domain.vcpu(VcpuId::new(vcpu)).cloned() else { return false };
    let mut context = vcpu.context.lock();
    let (number, mut args) = call;
    for _ in 0..PATIENCE {
        let deadline = Ns::new(if hurry { 0 } else { u64::MAX });
        let context: &mut Context = &mut context;
        let space = AddressSpace::of(context);
        let mut caller =
            Caller { domain, vcpu: &vcpu, context, space: space.into(), width, deadline: deadline.into() };
        match hypercall::call(&mut caller, number, args) {
            Ok(Answer::Continue(next)) => args = next.applied(args),
            reply => {
                drop(sim::take_kicks());
                return reply.is_ok();
            }
        }
    }
    panic!("{} call {number} {args:x?} never ends", domain.id);
}

/// The same through the exit handler.
pub fn exit(domain: &Arc<Domain>, exit: radon_cpu::Exit, prepare: impl FnOnce(&mut Context)) {
    let Some(vcpu) = domain.vcpu(VcpuId::new(0)).cloned() else { return };
    let mut context = vcpu.context.lock();
    prepare(&mut context);
    exits::handle(domain, &vcpu, &mut context, exit);
    let _ = radon_core::inject::prepare(domain, &vcpu, &mut context);
    context.pending = None;
    vcpu.set_up(true);
}
