//! `HYPERVISOR_event_channel_op` (32).

use alloc::sync::Arc;

use radon_addr::{DomId, Gfn, Mfn, Port, VcpuId};
use radon_evtchn::{Closed, Closer, State, bind_interdomain, bind_loopback, close_pair};
use radon_frames::frames;
use radon_hw::lock::lock_pair;
use xen_abi::Errno;
use xen_abi::event_channel as ev;
use zerocopy::IntoBytes;

use super::{Answer, Caller, Continuation, OK, Reply};
use crate::domain::Domain;
use crate::{domains, events, physmap};

/// `args`: sub-operation, pointer.
pub fn call(caller: &mut Caller<'_>, args: [u64; 6]) -> Reply {
    let [op, arg, ..] = args;
    let domain = caller.domain.clone();
    match op as u32 {
        ev::EVTCHNOP_SEND => {
            let s: ev::EvtchnSend = caller.read(arg)?;
            events::send(&domain, Port::new(s.port)).and(OK)
        }
        ev::EVTCHNOP_UNMASK => {
            let u: ev::EvtchnUnmask = caller.read(arg)?;
            let n = domain.events.lock().unmask(Port::new(u.port))?;
            events::notify(&domain, n);
            OK
        }
        ev::EVTCHNOP_ALLOC_UNBOUND => alloc_unbound(caller, arg),
        ev::EVTCHNOP_BIND_INTERDOMAIN => bind_to(caller, &domain, arg),
        ev::EVTCHNOP_BIND_VIRQ => {
            let mut b: ev::EvtchnBindVirq = caller.read(arg)?;
            if b.virq != xen_abi::xen::VIRQ_TIMER
                && b.virq != xen_abi::xen::VIRQ_DEBUG
                && xen_abi::xen::virq_is_global(b.virq)
            {
                // Global VIRQs tell of the whole machine; only the control domain may listen.
                caller.require_privilege()?;
            }
            b.port = domain.events.lock().bind_virq(b.virq, VcpuId::new(b.vcpu))?.raw();
            caller.write(arg, &b)?;
            OK
        }
        ev::EVTCHNOP_BIND_IPI => {
            let mut b: ev::EvtchnBindIpi = caller.read(arg)?;
            b.port = domain.events.lock().bind_ipi(VcpuId::new(b.vcpu))?.raw();
            caller.write(arg, &b)?;
            OK
        }
        // A PVH domain takes physical interrupts through its APICs (XENFEAT_hvm_pirqs is not offered).
        ev::EVTCHNOP_BIND_PIRQ => Err(Errno::ENOSYS),
        ev::EVTCHNOP_BIND_VCPU => {
            let b: ev::EvtchnBindVcpu = caller.read(arg)?;
            domain.events.lock().bind_vcpu(Port::new(b.port), VcpuId::new(b.vcpu))?;
            OK
        }
        ev::EVTCHNOP_CLOSE => {
            let c: ev::EvtchnClose = caller.read(arg)?;
            close(&domain, Port::new(c.port), Closer::Guest).and(OK)
        }
        ev::EVTCHNOP_STATUS => status(caller, arg),
        ev::EVTCHNOP_RESET => reset(caller, arg),
        ev::EVTCHNOP_INIT_CONTROL => init_control(caller, &domain, arg),
        ev::EVTCHNOP_EXPAND_ARRAY => expand_array(caller, &domain, arg),
        ev::EVTCHNOP_SET_PRIORITY => {
            let p: ev::EvtchnSetPriority = caller.read(arg)?;
            domain.events.lock().set_priority(Port::new(p.port), p.priority)?;
            OK
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn alloc_unbound(caller: &Caller<'_>, arg: u64) -> Reply {
    let mut a: ev::EvtchnAllocUnbound = caller.read(arg)?;
    let target = caller.target(a.dom)?;
    let remote = if a.remote_dom == DomId::SELF.raw() { caller.domain.id } else { DomId::new(a.remote_dom) };
    a.port = target.events.lock().alloc_unbound(remote)?.raw();
    caller.write(arg, &a)?;
    OK
}

fn bind_to(caller: &Caller<'_>, domain: &Arc<Domain>, arg: u64) -> Reply {
    let mut b: ev::EvtchnBindInterdomain = caller.read(arg)?;
    let remote_id = if b.remote_dom == DomId::SELF.raw() { domain.id } else { DomId::new(b.remote_dom) };
    let remote_port = Port::new(b.remote_port);
    let (port, notify) = if remote_id == domain.id {
        bind_loopback(&mut domain.events.lock(), remote_port)?
    } else {
        let remote = domains::find(remote_id).ok_or(Errno::ESRCH)?;
        let mut pair = lock_pair(&domain.events, &remote.events);
        match pair.both() {
            (local, Some(remote)) => bind_interdomain(local, remote, remote_port)?,
            _ => return Err(Errno::EINVAL),
        }
    };
    events::notify(domain, notify);
    b.local_port = port.raw();
    caller.write(arg, &b)?;
    OK
}

/// Closes a port, with its peer if it has one.
pub fn close(domain: &Arc<Domain>, port: Port, by: Closer) -> Result<(), Errno> {
    loop {
        let closed = domain.events.lock().close(port, by)?;
        let Closed::NeedsPeer(peer) = closed else { return Ok(()) };
        let Some(remote) = domains::find(peer) else { return Err(Errno::EINVAL) };
        let mut pair = lock_pair(&domain.events, &remote.events);
        let (local, other) = pair.both();
        let Some(other) = other else { return Err(Errno::EINVAL) };
        match close_pair(local, other, port, by) {
            // Rebound to a third domain between the two looks: look again.
            Err(Errno::EINVAL) if still_open(local, port) => {}
            result => return result,
        }
    }
}

fn still_open(channels: &radon_evtchn::EventChannels, port: Port) -> bool {
    channels.status(port).is_ok_and(|s| !matches!(s.state, State::Free | State::Reserved))
}

fn status(caller: &Caller<'_>, arg: u64) -> Reply {
    let mut s: ev::EvtchnStatus = caller.read(arg)?;
    let target = caller.target(s.dom)?;
    let found = target.events.lock().status(Port::new(s.port))?;
    s.vcpu = found.vcpu.raw();
    let word = |v: u32| {
        let mut u = [0u8; 8];
        u[..4].copy_from_slice(&v.to_le_bytes());
        u
    };
    (s.status, s.u) = match found.state {
        State::Free | State::Reserved => (ev::EVTCHNSTAT_CLOSED, [0; 8]),
        State::Unbound { remote } => (ev::EVTCHNSTAT_UNBOUND, word(u32::from(remote.raw()))),
        State::Interdomain { remote, port } => {
            let peer = ev::EvtchnStatusInterdomain { dom: remote.raw(), _pad: [0; 2], port: port.raw() };
            let mut u = [0u8; 8];
            u.copy_from_slice(peer.as_bytes());
            (ev::EVTCHNSTAT_INTERDOMAIN, u)
        }
        State::Pirq { pirq } => (ev::EVTCHNSTAT_PIRQ, word(pirq)),
        State::Virq { virq } => (ev::EVTCHNSTAT_VIRQ, word(virq)),
        State::Ipi => (ev::EVTCHNSTAT_IPI, [0; 8]),
    };
    caller.write(arg, &s)?;
    OK
}

/// `EVTCHNOP_reset`: closes everything; gives way and goes on when it takes long.
fn reset(caller: &mut Caller<'_>, arg: u64) -> Reply {
    let r: ev::EvtchnReset = caller.read(arg)?;
    let target = caller.target(r.dom)?;
    reset_domain(&target, || caller.should_yield()).map(|done| match done {
        true => Answer::Done(0),
        false => Answer::Continue(Continuation::two(u64::from(ev::EVTCHNOP_RESET), arg)),
    })
}

/// Closes all ports of a domain. `Ok(false)`: `due` asked to stop; call again.
pub fn reset_domain(target: &Arc<Domain>, due: impl Fn() -> bool) -> Result<bool, Errno> {
    let mut from = {
        let mut channels = target.events.lock();
        match channels.reset_begin(true) {
            Ok(port) => port,
            Err(_) => channels.reset_begin(false)?,
        }
    };
    loop {
        let next = target.events.lock().next_open(from);
        let Some(port) = next else { break };
        let _ = close(target, port, Closer::Guest);
        from = Port::new(port.raw().saturating_add(1));
        if due() {
            target.events.lock().reset_pause(from);
            return Ok(false);
        }
    }
    let released = target.events.lock().reset_finish()?;
    release_frames(released);
    Ok(true)
}

/// Drops the references that the FIFO ABI held.
pub fn release_frames(list: alloc::vec::Vec<Mfn>) {
    for mfn in list {
        let _ = frames().put(mfn);
    }
}

fn init_control(caller: &Caller<'_>, domain: &Arc<Domain>, arg: u64) -> Reply {
    let mut c: ev::EvtchnInitControl = caller.read(arg)?;
    let vcpu = VcpuId::new(c.vcpu);
    domain.events.lock().check_init_control(vcpu, c.offset)?;
    let frame = physmap::get_frame(domain, Gfn::new(c.control_gfn), true)?;
    domain.events.lock().init_control(vcpu, frame.mfn(), c.offset)?;
    let _ = frame.into_raw();
    c.link_bits = ev::EVTCHN_FIFO_LINK_BITS as u8;
    caller.write(arg, &c)?;
    OK
}

fn expand_array(caller: &Caller<'_>, domain: &Arc<Domain>, arg: u64) -> Reply {
    let e: ev::EvtchnExpandArray = caller.read(arg)?;
    domain.events.lock().check_expand_array()?;
    let frame = physmap::get_frame(domain, Gfn::new(e.array_gfn), true)?;
    let mut raised = alloc::vec::Vec::new();
    domain.events.lock().expand_array(frame.mfn(), |n| raised.push(n))?;
    let _ = frame.into_raw();
    for n in raised {
        events::notify(domain, n);
    }
    OK
}
