//! Event channels, 2-level ABI, and the ways an upcall is delivered.

use crate::services;
use harness::apic::{self, register};
use harness::domain::Child;
use harness::event::{self, status};
use harness::hypercall::{event_op, hvm_op};
use harness::{Verdict, cpu, ensure, ensure_eq, tests, time, trap};
use xen_abi::Errno;
use xen_abi::event_channel::*;
use xen_abi::hvm_op::{HVMOP_SET_EVTCHN_UPCALL_VECTOR, HvmEvtchnUpcallVector};
use xen_abi::xen::*;
use zerocopy::FromZeros;

tests! {
    here: event_send_is_handled, event_merges, event_masked_waits, event_unmask_delivers, event_status,
        event_send_errors, event_close_frees, event_ipi, event_virq_errors, event_bind_vcpu_errors,
        event_bind_interdomain_errors, event_alloc_for_unknown_domain, event_waits_for_interrupt_flag,
        event_between_domains, event_ping_pong, event_close_seen_by_peer, event_poll_woken_by_child,
        event_port_of_destroyed_domain, event_pending_on_bind, event_unknown_operation;
    child: event_limit_of_ports, event_reset_closes_all, event_upcall_vector_per_vcpu, event_upcall_vector_errors;
}

/// An event sent to the other end of a channel reaches the handler once.
fn event_send_is_handled() -> Verdict {
    let (first, second) = event::loopback()?;
    for n in 1..=10 {
        ensure_eq!(event::send(second), Ok(0), "send");
        ensure!(
            time::spin(100, || event::handled(first) == n),
            "{} events handled of {n}",
            event::handled(first)
        );
    }
    ensure_eq!(event::handled(second), 0, "events at the sending end");
    Ok(())
}

/// Events sent while one is pending are one.
fn event_merges() -> Verdict {
    let (first, second) = event::loopback()?;
    for _ in 0..3 {
        event::send(second)?;
    }
    ensure!(event::is_pending(first), "nothing is pending");
    time::spin(10, || false);
    ensure_eq!(event::handled(first), 1, "events handled");
    Ok(())
}

/// A masked event is pending and makes no upcall.
fn event_masked_waits() -> Verdict {
    let (first, second) = event::loopback()?;
    event::mask(first, true);
    let before = trap::count(event::UPCALL);
    event::send(second)?;
    time::spin(10, || false);
    ensure!(event::is_pending(first), "it is not pending");
    ensure_eq!(event::handled(first), 0, "events handled");
    ensure_eq!(trap::count(event::UPCALL), before, "upcalls");
    event::clear_pending(first);
    event::mask(first, false);
    Ok(())
}

/// Unmasking a pending event delivers it.
fn event_unmask_delivers() -> Verdict {
    let (first, second) = event::loopback()?;
    event::mask(first, true);
    event::send(second)?;
    ensure_eq!(event::unmask(first), Ok(0), "unmask");
    ensure!(time::spin(100, || event::handled(first) == 1), "the event was not delivered");
    ensure_eq!(event::unmask(4000), Err(Errno::EINVAL), "unmask of a port that was never allocated");
    Ok(())
}

/// `status` tells each kind of port, its vCPU and its other end.
fn event_status() -> Verdict {
    let unbound = event::alloc_unbound(DOMID_SELF)?;
    let (first, second) = event::loopback()?;
    let ipi = event::bind_ipi(0)?;
    let virq = event::bind_virq(VIRQ_DEBUG, 0)?;
    let of = |port| status(port).map(|s| s.status);
    ensure_eq!(of(unbound)?, EVTCHNSTAT_UNBOUND, "unbound port");
    ensure_eq!(of(ipi)?, EVTCHNSTAT_IPI, "IPI port");
    ensure_eq!(of(virq)?, EVTCHNSTAT_VIRQ, "VIRQ port");
    ensure_eq!(status(virq)?.payload::<u32>(), VIRQ_DEBUG, "VIRQ number");
    let peer: EvtchnStatusInterdomain = status(first)?.payload();
    ensure_eq!((of(first)?, peer.port), (EVTCHNSTAT_INTERDOMAIN, second), "connected port");
    event::close(unbound)?;
    ensure_eq!(of(unbound)?, EVTCHNSTAT_CLOSED, "closed port");
    let mut op = EvtchnStatus { dom: 0x1234, port: 1, ..EvtchnStatus::new_zeroed() };
    ensure_eq!(event_op(EVTCHNOP_STATUS, &mut op), Err(Errno::ESRCH), "unknown domain");
    ensure_eq!(status(1 << 20).map(|s| s.status), Err(Errno::EINVAL), "port 2^20");
    Ok(())
}

/// Sending to an unbound port is silently lost; to a closed one or one that cannot be, -EINVAL.
fn event_send_errors() -> Verdict {
    let unbound = event::alloc_unbound(DOMID_SELF)?;
    ensure_eq!(event::send(unbound), Ok(0), "unbound port");
    event::close(unbound)?;
    ensure_eq!(event::send(unbound), Err(Errno::EINVAL), "closed port");
    ensure_eq!(event::send(1 << 20), Err(Errno::EINVAL), "port 2^20");
    ensure_eq!(event::send(u32::MAX), Err(Errno::EINVAL), "port 2^32-1");
    let virq = event::bind_virq(VIRQ_DEBUG, 0)?;
    ensure_eq!(event::send(virq), Err(Errno::EINVAL), "VIRQ port");
    Ok(())
}

/// A closed port is given out again; its pending bit is clear.
fn event_close_frees() -> Verdict {
    let (first, second) = event::loopback()?;
    event::mask(first, true);
    event::send(second)?;
    ensure_eq!(event::close(first), Ok(0), "close");
    ensure!(!event::is_pending(first), "the closed port is pending");
    event::mask(first, false);
    ensure_eq!(status(second)?.status, EVTCHNSTAT_UNBOUND, "state of the other end");
    let again = event::alloc_unbound(DOMID_SELF)?;
    ensure!(again <= first, "port {again} was given out, not {first}");
    ensure_eq!(event::close(0), Err(Errno::EINVAL), "closing port 0");
    Ok(())
}

/// An IPI port notifies its vCPU.
fn event_ipi() -> Verdict {
    let port = event::bind_ipi(0)?;
    event::send(port)?;
    ensure!(time::spin(100, || event::handled(port) == 1), "no event");
    ensure_eq!(event::bind_ipi(500), Err(Errno::ENOENT), "vCPU 500");
    Ok(())
}

/// A VIRQ is bound once; unknown ones are -EINVAL, global ones belong to vCPU 0.
fn event_virq_errors() -> Verdict {
    let port = event::bind_virq(VIRQ_DEBUG, 0)?;
    ensure_eq!(event::bind_virq(VIRQ_DEBUG, 0), Err(Errno::EEXIST), "second binding");
    ensure_eq!(event::bind_virq(NR_VIRQS, 0), Err(Errno::EINVAL), "VIRQ 24");
    ensure_eq!(event::bind_virq(VIRQ_CONSOLE, 1), Err(Errno::EINVAL), "global VIRQ on vCPU 1");
    ensure_eq!(event::bind_virq(VIRQ_TIMER, 500), Err(Errno::ENOENT), "vCPU 500");
    event::close(port)?;
    event::bind_virq(VIRQ_DEBUG, 0)?;
    Ok(())
}

/// Channels and global VIRQs may move to a vCPU that exists; IPIs and VIRQs of a vCPU may not.
fn event_bind_vcpu_errors() -> Verdict {
    let (first, _) = event::loopback()?;
    let (ipi, virq) = (event::bind_ipi(0)?, event::bind_virq(VIRQ_DEBUG, 0)?);
    ensure_eq!(event::bind_vcpu(first, 0), Ok(0), "channel to vCPU 0");
    ensure_eq!(event::bind_vcpu(first, 500), Err(Errno::ENOENT), "channel to vCPU 500");
    ensure_eq!(event::bind_vcpu(ipi, 0), Err(Errno::EINVAL), "IPI");
    ensure_eq!(event::bind_vcpu(virq, 0), Err(Errno::EINVAL), "VIRQ of a vCPU");
    ensure_eq!(event::bind_vcpu(1 << 20, 0), Err(Errno::EINVAL), "port 2^20");
    Ok(())
}

/// Only an unbound port meant for us can be bound to.
fn event_bind_interdomain_errors() -> Verdict {
    let (first, _) = event::loopback()?;
    let for_other = event::alloc_unbound(5)?;
    ensure_eq!(event::bind_interdomain(DOMID_SELF, first), Err(Errno::EINVAL), "connected port");
    ensure_eq!(event::bind_interdomain(DOMID_SELF, for_other), Err(Errno::EINVAL), "port for domain 5");
    ensure_eq!(event::bind_interdomain(DOMID_SELF, 1 << 20), Err(Errno::EINVAL), "port 2^20");
    ensure_eq!(event::bind_interdomain(0x1234, 1), Err(Errno::ESRCH), "unknown domain");
    Ok(())
}

/// A port in an unknown domain is -ESRCH.
fn event_alloc_for_unknown_domain() -> Verdict {
    let mut op = EvtchnAllocUnbound { dom: 0x1234, remote_dom: DOMID_SELF, port: 0 };
    ensure_eq!(event_op(EVTCHNOP_ALLOC_UNBOUND, &mut op), Err(Errno::ESRCH), "unknown domain");
    Ok(())
}

/// With interrupts off the upcall waits.
fn event_waits_for_interrupt_flag() -> Verdict {
    let (first, second) = event::loopback()?;
    cpu::cli();
    event::send(second)?;
    time::spin_ms(5);
    ensure_eq!(event::handled(first), 0, "events with interrupts off");
    cpu::sti();
    cpu::cli();
    ensure_eq!(event::handled(first), 1, "events after STI");
    Ok(())
}

/// Events pass between domains, both ways.
fn event_between_domains() -> Verdict {
    let child = Child::serving()?;
    let port = event::alloc_unbound(child.domid)?;
    let theirs = child.call(services::bind_interdomain, [0, u64::from(port), 0, 0, 0, 0])?;
    ensure!(theirs != 0, "the child cannot bind");
    time::wait(50, || false);
    let before = event::handled(port);
    ensure_eq!(child.call(services::send, [theirs, 0, 0, 0, 0, 0])?, 1, "the child's send");
    ensure!(time::wait(1000, || event::handled(port) == before + 1), "no event from the child");
    let handled = child.call(services::handled, [theirs, 0, 0, 0, 0, 0])?;
    event::send(port)?;
    let after = child.call(services::handled, [theirs, 0, 0, 0, 0, 0])?;
    ensure_eq!(after, handled + 1, "events in the child");
    child.destroy()
}

/// A hundred rounds of events between two domains lose none.
fn event_ping_pong() -> Verdict {
    const ROUNDS: u64 = 100;
    let child = Child::serving()?;
    let port = event::alloc_unbound(child.domid)?;
    let theirs = child.call(services::bind_interdomain, [0, u64::from(port), 0, 0, 0, 0])?;
    // Binding left one event at the child's end.
    let already = child.call(services::handled, [theirs, 0, 0, 0, 0, 0])?;
    harness::mailbox::begin(child.mailbox, services::echo, [theirs, ROUNDS + already, 0, 0, 0, 0]);
    time::wait(20, || false);
    let base = event::handled(port);
    for n in 1..=ROUNDS as u32 {
        event::send(port)?;
        ensure!(time::wait(2000, || event::handled(port) >= base + n), "round {n} was not answered");
    }
    child.wait(5000, || harness::mailbox::ended(child.mailbox))?;
    ensure_eq!(harness::mailbox::result(child.mailbox), 0, "rounds that the child missed");
    child.destroy()
}

/// When a domain is destroyed its peers' ports become unbound.
fn event_close_seen_by_peer() -> Verdict {
    let child = Child::serving()?;
    let port = event::alloc_unbound(child.domid)?;
    child.call(services::bind_interdomain, [0, u64::from(port), 0, 0, 0, 0])?;
    let peer: EvtchnStatusInterdomain = status(port)?.payload();
    ensure_eq!((status(port)?.status, peer.dom), (EVTCHNSTAT_INTERDOMAIN, child.domid), "connected port");
    child.destroy()?;
    ensure_eq!(status(port)?.status, EVTCHNSTAT_UNBOUND, "port after the domain's end");
    ensure_eq!(event::send(port), Ok(0), "send after the domain's end");
    Ok(())
}

/// A sleeping poll is woken by another domain's event.
fn event_poll_woken_by_child() -> Verdict {
    let child = Child::serving()?;
    let port = event::alloc_unbound(child.domid)?;
    let theirs = child.call(services::bind_interdomain, [0, u64::from(port), 0, 0, 0, 0])?;
    time::wait(20, || false);
    event::mask(port, true);
    event::clear_pending(port);
    harness::mailbox::begin(child.mailbox, services::send, [theirs, 0, 0, 0, 0, 0]);
    let start = time::now();
    let mut ports = [port];
    let mut op = xen_abi::sched::SchedPoll {
        ports: harness::hypercall::handle(&mut ports),
        nr_ports: 1,
        timeout: start + 5_000_000_000,
        ..xen_abi::sched::SchedPoll::new_zeroed()
    };
    harness::hypercall::sched_op(xen_abi::sched::SCHEDOP_POLL, &mut op)?;
    let (slept, pending) = (time::now() - start, event::is_pending(port));
    event::mask(port, false);
    ensure!(pending, "the poll ended after {slept} ns without the event");
    ensure!(slept < 4_000_000_000, "it slept {slept} ns");
    child.destroy()
}

/// Binding to a port of a domain that is gone is -ESRCH.
fn event_port_of_destroyed_domain() -> Verdict {
    let child = Child::serving()?;
    let theirs = child.call(services::alloc_unbound, [0; 6])?;
    let port = event::bind_interdomain(child.domid, theirs as u32)?;
    event::close(port)?;
    let domid = child.domid;
    child.destroy()?;
    ensure_eq!(event::bind_interdomain(domid, theirs as u32), Err(Errno::ESRCH), "binding to a dead domain");
    Ok(())
}

/// The side that binds finds its port pending, for an event may have been lost before.
fn event_pending_on_bind() -> Verdict {
    let first = event::alloc_unbound(DOMID_SELF)?;
    let second = event::bind_interdomain(DOMID_SELF, first)?;
    let before = event::handled(second);
    ensure!(event::is_pending(second) && !event::is_pending(first), "wrong side pending");
    time::spin(10, || false);
    ensure_eq!(event::handled(second), before + 1, "events handled");
    Ok(())
}

/// Unknown operations are -ENOSYS, the FIFO ones of another ABI too.
fn event_unknown_operation() -> Verdict {
    ensure_eq!(event_op(40, &mut 0_u64), Err(Errno::ENOSYS), "operation 40");
    Ok(())
}

/// A domain gets as many ports as its creator allowed (1023), then -ENOSPC.
fn event_limit_of_ports() -> Verdict {
    let mut count = 0;
    let error = loop {
        match event::alloc_unbound(DOMID_SELF) {
            Ok(port) => {
                count += 1;
                ensure!(port <= 1023, "port {port}");
                ensure!(count < 5000, "no limit");
            }
            Err(e) => break e,
        }
    };
    ensure_eq!(error, Errno::ENOSPC, "error at the limit");
    ensure!((1000..=1023).contains(&count), "{count} ports");
    Ok(())
}

/// `reset` closes every port of the domain.
fn event_reset_closes_all() -> Verdict {
    let (first, second) = event::loopback()?;
    let ipi = event::bind_ipi(0)?;
    ensure_eq!(event_op(EVTCHNOP_RESET, &mut EvtchnReset { dom: DOMID_SELF }), Ok(0), "reset");
    for port in [first, second, ipi] {
        ensure_eq!(status(port)?.status, EVTCHNSTAT_CLOSED, "port {port}");
    }
    ensure!(event::loopback().is_ok(), "no channel after the reset");
    Ok(())
}

fn set_upcall_vector(vcpu: u32, vector: u8) -> Result<u64, Errno> {
    hvm_op(HVMOP_SET_EVTCHN_UPCALL_VECTOR, &mut HvmEvtchnUpcallVector { vcpu, vector, _pad: [0; 3] })
}

/// With a vector of its own a vCPU's upcall comes through the local APIC: in service until EOI.
fn event_upcall_vector_per_vcpu() -> Verdict {
    const VECTOR: u8 = 0x93;
    use core::sync::atomic::{AtomicU32, Ordering};
    static IN_SERVICE: AtomicU32 = AtomicU32::new(0);
    apic::enable();
    trap::handle(VECTOR, |_| {
        IN_SERVICE.fetch_add(u32::from(apic::bit(register::ISR, VECTOR)), Ordering::Relaxed);
        event::take();
    });
    trap::acknowledge(VECTOR, true);
    ensure_eq!(set_upcall_vector(0, VECTOR), Ok(0), "setting the vector");
    let (first, second) = event::loopback()?;
    for n in 1..=3 {
        event::send(second)?;
        ensure!(
            time::spin(200, || event::handled(first) == n),
            "{} events handled of {n}",
            event::handled(first)
        );
    }
    ensure!(trap::count(VECTOR) >= 3, "{} upcalls by vector {VECTOR:#x}", trap::count(VECTOR));
    ensure_eq!(IN_SERVICE.load(Ordering::Relaxed), trap::count(VECTOR), "upcalls in service in the APIC");
    // Without EOI there is no second upcall. (Xen may call by the domain-wide vector too, which a PVH domain cannot unset.)
    trap::acknowledge(VECTOR, false);
    let before = trap::count(VECTOR);
    event::send(second)?;
    ensure!(time::spin(200, || trap::count(VECTOR) == before + 1), "no upcall");
    event::send(second)?;
    time::spin(10, || false);
    ensure_eq!(trap::count(VECTOR), before + 1, "upcalls before EOI");
    apic::eoi();
    ensure!(time::spin(200, || trap::count(VECTOR) == before + 2), "no upcall after EOI");
    apic::eoi();
    Ok(())
}

/// Vectors below 16 are -EINVAL, unknown vCPUs -ENOENT.
fn event_upcall_vector_errors() -> Verdict {
    ensure_eq!(set_upcall_vector(0, 15), Err(Errno::EINVAL), "vector 15");
    ensure_eq!(set_upcall_vector(9, 0x93), Err(Errno::ENOENT), "vCPU 9");
    Ok(())
}
