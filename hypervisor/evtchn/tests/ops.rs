//! Each operation and each error, one by one.
mod common;

use std::num::NonZeroU8;
use std::sync::atomic::Ordering::SeqCst;

use common::*;
use radon_addr::{Maddr, Port};
use radon_evtchn::*;
use radon_hw::{mem, sim};
use xen_abi::Errno;
use xen_abi::xen::*;

fn dom(id: u16) -> Dom {
    Dom::new(id, Layout::Native64, 10_000)
}
fn state(dom: &Dom, port: Port) -> State {
    dom.ec.status(port).unwrap().state
}
/// Two domains, connected: local port and remote port.
fn pair() -> (Dom, Dom, Port, Port) {
    let (mut a, mut b) = (dom(1), dom(2));
    let remote = b.ec.alloc_unbound(d(1)).unwrap();
    let (local, _) = bind_interdomain(&mut a.ec, &mut b.ec, remote).unwrap();
    (a, b, local, remote)
}

#[test]
fn ports_start_at_1_and_the_lowest_free_one_is_reused() {
    let mut a = dom(1);
    assert_eq!(state(&a, p(0)), State::Reserved);
    let ports: Vec<u32> = (0..130).map(|_| a.ec.alloc_unbound(d(2)).unwrap().raw()).collect();
    assert_eq!(ports, (1..131).collect::<Vec<_>>());
    assert_eq!(a.ec.close(p(100), Closer::Guest), Ok(Closed::Done));
    assert_eq!(a.ec.close(p(7), Closer::Guest), Ok(Closed::Done));
    assert_eq!(a.ec.alloc_unbound(d(2)), Ok(p(7)));
    assert_eq!(a.ec.alloc_unbound(d(2)), Ok(p(100)));
    assert_eq!(a.ec.alloc_unbound(d(2)), Ok(p(131)));
}

#[test]
fn limits_of_the_domain_and_of_the_abi() {
    let mut small = Dom::new(1, Layout::Native64, 3);
    for _ in 0..3 {
        small.ec.alloc_unbound(d(2)).unwrap();
    }
    assert_eq!(small.ec.alloc_unbound(d(2)), Err(Errno::ENOSPC));
    for (layout, ports) in [(Layout::Native64, 4096), (Layout::Compat32, 1024)] {
        let mut a = Dom::new(1, layout, u32::MAX);
        for _ in 1..ports {
            a.ec.alloc_unbound(d(2)).unwrap();
        }
        assert_eq!(a.ec.bind_ipi(v(0)), Err(Errno::ENOSPC));
        a.ec.init_control(v(0), sim::fresh_ram(1), 0).unwrap();
        assert_eq!(a.ec.alloc_unbound(d(2)), Ok(p(ports)), "FIFO has more ports");
    }
    let mut dying = dom(1);
    dying.ec.set_dying();
    assert_eq!(dying.ec.alloc_unbound(d(2)), Err(Errno::EINVAL));
}

#[test]
fn interdomain_connects_both_ends_and_raises_the_local_one() {
    let (a, b, local, remote) = pair();
    assert_eq!(state(&a, local), State::Interdomain { remote: d(2), port: remote });
    assert_eq!(state(&b, remote), State::Interdomain { remote: d(1), port: local });
    assert!(a.pending(local.raw()) && a.sel(0, local.raw()) && a.upcall(0));
    assert!(!b.pending(remote.raw()));
}

#[test]
fn interdomain_needs_a_port_that_waits_for_the_caller() {
    let (mut a, mut b, local, remote) = pair();
    let other = b.ec.alloc_unbound(d(3)).unwrap();
    let ipi = b.ec.bind_ipi(v(0)).unwrap();
    for bad in [remote, other, ipi, p(0), p(50), p(9999)] {
        assert_eq!(bind_interdomain(&mut a.ec, &mut b.ec, bad).map(|_| ()), Err(Errno::EINVAL), "{bad:?}");
    }
    assert_eq!(a.ec.alloc_unbound(d(2)), Ok(p(local.raw() + 1)), "failures must not use up ports");
}

#[test]
fn loopback_sends_to_itself() {
    let mut a = dom(1);
    let first = a.ec.alloc_unbound(d(1)).unwrap();
    let (second, _) = bind_loopback(&mut a.ec, first).unwrap();
    assert!(!a.pending(first.raw()));
    let Ok(Sent::Local(n)) = a.ec.send(second) else { panic!() };
    assert_eq!(n.pollers, Some(first));
    assert!(a.pending(first.raw()));
    assert_eq!(a.ec.close(first, Closer::Guest), Ok(Closed::Done));
    assert_eq!(state(&a, second), State::Unbound { remote: d(1) });
    assert_eq!(bind_loopback(&mut a.ec, first).map(|_| ()), Err(Errno::EINVAL));
}

#[test]
fn virqs_global_and_per_vcpu() {
    let mut a = dom(0);
    assert_eq!(a.ec.bind_virq(NR_VIRQS, v(0)), Err(Errno::EINVAL));
    assert_eq!(a.ec.bind_virq(VIRQ_DOM_EXC, v(1)), Err(Errno::EINVAL));
    assert_eq!(a.ec.bind_virq(VIRQ_TIMER, v(VCPUS)), Err(Errno::ENOENT));
    assert_eq!(a.ec.send_virq(VIRQ_DOM_EXC, v(0)), Notify::NONE);

    let global = a.ec.bind_virq(VIRQ_DOM_EXC, v(0)).unwrap();
    assert_eq!(a.ec.bind_virq(VIRQ_DOM_EXC, v(0)), Err(Errno::EEXIST));
    a.ec.bind_vcpu(global, v(2)).unwrap();
    assert_eq!(a.ec.send_virq(VIRQ_DOM_EXC, v(0)).upcall, Some(v(2)));

    let timers: Vec<Port> = (0..2).map(|n| a.ec.bind_virq(VIRQ_TIMER, v(n)).unwrap()).collect();
    assert_eq!(a.ec.bind_virq(VIRQ_TIMER, v(1)), Err(Errno::EEXIST));
    assert_eq!(a.ec.bind_vcpu(timers[1], v(0)), Err(Errno::EINVAL), "tied to its vCPU");
    assert_eq!(a.ec.send_virq(VIRQ_TIMER, v(1)).upcall, Some(v(1)));
    assert!(a.pending(timers[1].raw()) && !a.pending(timers[0].raw()));
    assert_eq!(a.ec.send_virq(VIRQ_TIMER, v(2)), Notify::NONE);

    // A global VIRQ moved away from vCPU 0 is still unbound on close.
    for (port, virq) in [(global, VIRQ_DOM_EXC), (timers[1], VIRQ_TIMER)] {
        let _ = a.ec.close(port, Closer::Guest).unwrap();
        assert_eq!(a.ec.virq_to_port(v(1), virq), None);
        assert!(!a.pending(port.raw()), "closing clears pending");
    }
    assert_eq!(a.ec.virq_to_port(v(0), VIRQ_TIMER), Some(timers[0]));
    assert!(a.ec.bind_virq(VIRQ_DOM_EXC, v(0)).is_ok());
}

#[test]
fn send_by_kind_of_channel() {
    let (mut a, mut b, local, remote) = pair();
    assert_eq!(a.ec.send(local), Ok(Sent::Remote { dom: d(2), port: remote }));
    let n = b.ec.receive(d(1), local, remote);
    assert_eq!((n.upcall, n.pollers), (Some(v(0)), Some(remote)));
    assert_eq!(b.ec.receive(d(1), local, remote), Notify::NONE, "already pending");
    assert_eq!(b.ec.receive(d(3), local, remote), Notify::NONE, "not its peer");
    assert_eq!(b.ec.receive(d(1), p(40), remote), Notify::NONE, "not its peer's port");

    let ipi = a.ec.bind_ipi(v(1)).unwrap();
    assert!(matches!(a.ec.send(ipi), Ok(Sent::Local(Notify { upcall: Some(vcpu), .. })) if vcpu == v(1)));
    let unbound = a.ec.alloc_unbound(d(2)).unwrap();
    assert_eq!(a.ec.send(unbound), Ok(Sent::Local(Notify::NONE)));
    let virq = a.ec.bind_virq(VIRQ_CONSOLE, v(0)).unwrap();
    for bad in [p(0), virq, p(60), p(100_000)] {
        assert_eq!(a.ec.send(bad), Err(Errno::EINVAL), "{bad:?}");
    }
    assert_eq!(a.ec.bind_ipi(v(VCPUS)), Err(Errno::ENOENT));
}

#[test]
fn close_resets_the_peer_and_needs_its_lock() {
    let (mut a, mut b, local, remote) = pair();
    assert_eq!(a.ec.close(local, Closer::Guest), Ok(Closed::NeedsPeer(d(2))));
    assert!(matches!(state(&a, local), State::Interdomain { .. }), "nothing changed yet");
    let mut third = dom(3);
    assert_eq!(close_pair(&mut a.ec, &mut third.ec, local, Closer::Guest), Err(Errno::EINVAL));
    close_pair(&mut a.ec, &mut b.ec, local, Closer::Guest).unwrap();
    assert_eq!(state(&a, local), State::Free);
    assert_eq!(state(&b, remote), State::Unbound { remote: d(1) });
    assert!(!a.pending(local.raw()));
    // The other end can be bound again.
    assert_eq!(bind_interdomain(&mut a.ec, &mut b.ec, remote).unwrap().0, local);
    for bad in [p(0), p(33), p(5000)] {
        assert_eq!(a.ec.close(bad, Closer::Guest), Err(Errno::EINVAL));
    }
}

#[test]
fn hypervisor_channels_are_out_of_the_guests_reach() {
    let (mut a, mut b) = (dom(1), dom(2));
    let consumer = Consumer(NonZeroU8::new(3).unwrap());
    let port = a.ec.alloc_unbound_xen(d(2), v(1), consumer).unwrap();
    assert_eq!(a.ec.alloc_unbound_xen(d(2), v(9), consumer), Err(Errno::ENOENT));
    let (remote, _) = bind_interdomain(&mut b.ec, &mut a.ec, port).unwrap();
    assert_eq!(a.ec.status(port), Err(Errno::EACCES));
    assert_eq!(a.ec.send(port), Err(Errno::EINVAL));
    assert_eq!(a.ec.close(port, Closer::Guest), Err(Errno::EINVAL));
    assert_eq!(a.ec.bind_vcpu(port, v(0)), Err(Errno::EINVAL));
    assert_eq!(a.ec.poll(port), Err(Errno::EINVAL));
    assert_eq!(a.ec.unmask(port), Ok(Notify::NONE));
    let n = a.ec.receive(d(2), remote, port);
    assert_eq!(n, Notify { consumer: Some((consumer, v(1), port)), ..Notify::NONE });
    assert!(!a.pending(port.raw()));
    assert_eq!(a.ec.send_xen(port), Ok(Sent::Remote { dom: d(2), port: remote }));
    assert_eq!(b.ec.send_xen(remote), Err(Errno::EINVAL));
    assert!(!a.ec.has_active() && b.ec.has_active());
    close_pair(&mut a.ec, &mut b.ec, port, Closer::Xen).unwrap();
    assert_eq!(a.ec.next_open(p(0)), None);
}

#[test]
fn masking_and_upcall_flags() {
    let mut a = dom(1);
    let port = a.ec.bind_ipi(v(1)).unwrap();
    a.set_mask(port.raw(), true);
    let Ok(Sent::Local(n)) = a.ec.send(port) else { panic!() };
    assert_eq!((n.upcall, n.pollers), (None, Some(port)), "masked: pollers only");
    assert_eq!(a.ec.poll(port), Ok(true));
    assert!(a.ec.is_masked(port) && !a.upcall(1) && !a.ec.upcall_pending(v(1)));
    assert_eq!(a.ec.unmask(port).unwrap().upcall, Some(v(1)));
    assert!(a.ec.upcall_pending(v(1)) && !a.ec.is_masked(port));
    assert_eq!(a.ec.unmask(port), Ok(Notify::NONE), "not masked any more");
    assert_eq!(a.ec.unmask(p(5000)), Err(Errno::EINVAL));
    assert_eq!(a.ec.poll(p(9)), Err(Errno::EINVAL), "closed");
    // A second event while the upcall flag is up wakes nobody.
    let second = a.ec.bind_ipi(v(1)).unwrap();
    let Ok(Sent::Local(n)) = a.ec.send(second) else { panic!() };
    assert_eq!(n.upcall, None);
    a.ack(1);
    a.set_pending_bit(second.raw(), false);
    let Ok(Sent::Local(n)) = a.ec.send(second) else { panic!() };
    assert_eq!(n.upcall, Some(v(1)));
}

#[test]
fn moving_vcpu_info_loses_nothing() {
    for (layout, sel) in [(Layout::Native64, 8), (Layout::Compat32, 4)] {
        let mut a = Dom::new(1, layout, 100);
        mem::write(Maddr::new(a.info(2).raw() + 32), &0x1122_3344_5566_7788u64);
        let new = Maddr::new(sim::fresh_ram(1).maddr().raw() + 0x240);
        assert_eq!(a.ec.move_vcpu_info(v(2), new).unwrap().upcall, Some(v(2)));
        assert_eq!(mem::read::<u64>(Maddr::new(new.raw() + 32)), 0x1122_3344_5566_7788);
        assert!((0..a.word_bits()).all(|n| bit(new, sel, n)));
        assert!(a.upcall(2));
        let port = a.ec.bind_ipi(v(2)).unwrap();
        a.ack(2);
        assert!(matches!(a.ec.send(port), Ok(Sent::Local(Notify { upcall: Some(_), .. }))));
        assert_eq!(mem::atomic_u8(new).load(SeqCst), 1);
        assert_eq!(a.ec.drop_vcpu_info(v(2)), Some(new));
        assert!(a.ec.move_vcpu_info(v(7), new).is_err());
    }
}

#[test]
fn pirqs_are_bookkeeping() {
    let mut a = dom(0);
    assert_eq!(a.ec.bind_pirq(4), Err(Errno::EINVAL));
    a.ec.set_nr_pirqs(16);
    let port = a.ec.bind_pirq(4).unwrap();
    assert_eq!(a.ec.bind_pirq(4), Err(Errno::EEXIST));
    assert_eq!(a.ec.bind_pirq(16), Err(Errno::EINVAL));
    assert_eq!(a.ec.pirq_to_port(4), Some(port));
    a.ec.bind_vcpu(port, v(1)).unwrap();
    assert_eq!(a.ec.status(port).unwrap(), Status { state: State::Pirq { pirq: 4 }, vcpu: v(1) });
    let _ = a.ec.close(port, Closer::Guest).unwrap();
    assert_eq!(a.ec.pirq_to_port(4), None);
}

#[test]
fn fifo_setup_errors() {
    let mut a = dom(1);
    let frame = sim::fresh_ram(1);
    let port = a.ec.bind_ipi(v(0)).unwrap();
    assert_eq!(a.ec.expand_array(frame, |_| ()), Err(Errno::EOPNOTSUPP));
    assert_eq!(a.ec.set_priority(port, 1), Err(Errno::ENOSYS));
    assert_eq!(a.ec.init_control(v(VCPUS), frame, 0), Err(Errno::ENOENT));
    for bad in [4, 4096 - 64, 4095, u32::MAX] {
        assert_eq!(a.ec.init_control(v(0), frame, bad), Err(Errno::EINVAL), "{bad}");
    }
    assert!(!a.ec.is_fifo());
    a.ec.init_control(v(0), frame, 4096 - 72).unwrap();
    assert_eq!(a.ec.init_control(v(0), frame, 0), Err(Errno::EINVAL), "has one already");
    for _ in 0..128 {
        a.ec.expand_array(frame, |_| ()).unwrap();
    }
    assert_eq!(a.ec.expand_array(frame, |_| ()), Err(Errno::ENOSPC));
    assert_eq!(a.ec.set_priority(port, 16), Err(Errno::EINVAL));
    assert_eq!(a.ec.set_priority(p(63), 1), Err(Errno::EACCES));
    assert_eq!(a.ec.set_priority(p(200_000), 1), Err(Errno::EINVAL));
    assert_eq!(a.ec.set_priority(port, 15), Ok(()));
    let _ = a.ec.close(port, Closer::Guest).unwrap();
    assert_eq!(a.ec.reset_finish().unwrap().len(), 129, "all references come back");
    assert!(!a.ec.is_fifo());
}

#[test]
fn fifo_takes_over_pending_events() {
    let mut a = dom(1);
    let early = a.ec.bind_ipi(v(1)).unwrap();
    let quiet = a.ec.bind_ipi(v(1)).unwrap();
    let _ = a.ec.set_pending(early);
    a.ack(1);
    let mut notified = Vec::new();
    let fifo = FifoMemory::install(&mut a.ec, 1, |n| notified.push(n));
    assert_eq!(notified, [Notify { upcall: Some(v(1)), pollers: Some(early), consumer: None }]);
    assert_eq!(fifo.ready(1).load(SeqCst), 1 << 7);
    assert_eq!(fifo.head(1, 7).load(SeqCst), early.raw());
    assert_eq!(fifo.word(early.raw()).load(SeqCst), 0xa000_0000);
    assert_eq!(fifo.word(quiet.raw()).load(SeqCst), 0);
}

#[test]
fn fifo_port_in_a_queue_is_not_reused() {
    let mut a = dom(1);
    let fifo = FifoMemory::install(&mut a.ec, 1, |_| ());
    let port = a.ec.bind_ipi(v(0)).unwrap();
    let _ = a.ec.set_pending(port);
    let _ = a.ec.close(port, Closer::Guest).unwrap();
    assert_eq!(fifo.word(port.raw()).load(SeqCst) >> 31, 0, "closing clears PENDING");
    assert_eq!(a.ec.bind_ipi(v(0)), Ok(p(2)));
    fifo.word(port.raw()).store(0, SeqCst);
    assert_eq!(a.ec.bind_ipi(v(0)), Ok(port));
}

#[test]
fn reset_closes_all_but_hypervisor_channels() {
    let (mut a, mut b, local, _) = pair();
    FifoMemory::install(&mut a.ec, 1, |_| ());
    let xen = a.ec.alloc_unbound_xen(d(2), v(0), Consumer(NonZeroU8::MIN)).unwrap();
    a.ec.bind_ipi(v(0)).unwrap();
    let mut from = a.ec.reset_begin(false).unwrap();
    assert_eq!(a.ec.reset_begin(false), Err(Errno::EBUSY));
    while let Some(port) = a.ec.next_open(from) {
        match a.ec.close(port, Closer::Guest) {
            Ok(Closed::NeedsPeer(peer)) => {
                assert_eq!((peer, port), (d(2), local));
                close_pair(&mut a.ec, &mut b.ec, port, Closer::Guest).unwrap();
                // Interrupted here.
                a.ec.reset_pause(port);
                assert_eq!(a.ec.reset_begin(true), Ok(port));
            }
            Ok(Closed::Done) => {}
            Err(e) => assert_eq!((e, port), (Errno::EINVAL, xen)),
        }
        from = p(port.raw() + 1);
    }
    assert_eq!(a.ec.reset_finish().unwrap().len(), VCPUS as usize + 1);
    assert_eq!(a.ec.reset_begin(true), Err(Errno::EBUSY), "nothing to resume");
    assert_eq!(a.ec.next_open(p(0)), Some(xen));
    let ipi = a.ec.bind_ipi(v(0)).unwrap();
    let _ = a.ec.set_pending(ipi);
    assert!(a.pending(ipi.raw()), "2-level again");
    a.ec.reset_begin(false).unwrap();
    assert_eq!(a.ec.reset_finish(), Err(Errno::EAGAIN));
}
