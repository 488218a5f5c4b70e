//! A vCPU that waits (HLT, `SCHEDOP_block`, `SCHEDOP_poll`): it does not run on by itself, and what it waits for wakes it
//! however the two meet.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod random;

use std::sync::{Arc, Mutex, MutexGuard};

use radon_addr::{CpuId, Ns, Port, VcpuId};
use radon_core::context::Context;
use radon_core::domain::Domain;
use radon_core::guest_access::AddressSpace;
use radon_core::hypercall::{self, Caller, Width};
use radon_core::vcpu::Vcpu;
use radon_core::{apic, events, inject, run, timers};
use radon_cpu::{Event, SegmentReg};
use radon_vapic::{DeliveryMode, Destination, Message};
use random::world::{World, put};
use xen_abi::{Handle, event_channel as ev, hypercall as nr, sched};
use zerocopy::FromZeros;

const ARG: u64 = 0x1000;
const PORTS: u64 = 0x2000;
const INTERRUPTS_ON: u64 = 1 << 9;

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

fn call(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context, number: u32, op: u32) {
    let space = AddressSpace::of(context);
    let deadline = Ns::new(u64::MAX);
    let mut caller =
        Caller { domain, vcpu, context, space: space.into(), width: Width::Long, deadline: deadline.into() };
    let _ = hypercall::call(&mut caller, number.into(), [u64::from(op), ARG, 0, 0, 0, 0]).unwrap();
}

/// A port of the domain to itself.
fn own_port(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context) -> Port {
    put(domain, ARG, &ev::EvtchnBindIpi::new_zeroed());
    call(domain, vcpu, context, nr::HYPERVISOR_EVENT_CHANNEL_OP, ev::EVTCHNOP_BIND_IPI);
    Port::new(1)
}

fn poll(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context, port: Port) {
    put(domain, PORTS, &port.raw());
    let mut p = sched::SchedPoll::new_zeroed();
    (p.ports, p.nr_ports) = (Handle::new(PORTS), 1);
    put(domain, ARG, &p);
    call(domain, vcpu, context, nr::HYPERVISOR_SCHED_OP, sched::SCHEDOP_POLL);
}

/// The vCPU as it is when the guest has just made an exit: nothing new, nothing waiting.
fn settle(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context) {
    assert!(inject::prepare(domain, vcpu, context));
    assert!(inject::prepare(domain, vcpu, context));
}

fn with_vcpu(test: impl FnOnce(&Arc<Domain>, &Arc<Vcpu>, &mut Context)) {
    let _turn = turn();
    let world = World::new();
    let domain = world.domain(1);
    let vcpu = domain.vcpu(VcpuId::new(0)).unwrap().clone();
    test(&domain, &vcpu, &mut vcpu.context.lock());
    drop((domain, vcpu));
    world.end();
}

#[test]
fn a_halted_vcpu_stays_halted_until_an_interrupt() {
    with_vcpu(|domain, vcpu, context| {
        context.backend.set_rflags(2 | INTERRUPTS_ON);
        settle(domain, vcpu, context);
        context.halted = true;
        assert!(!inject::prepare(domain, vcpu, context), "runs on after HLT");
        assert!(run::block(domain, vcpu, context));
        vcpu.nmi_pending.store(true, std::sync::atomic::Ordering::SeqCst);
        run::kick(vcpu);
        assert!(!vcpu.is_blocked());
        assert!(inject::prepare(domain, vcpu, context));
        assert!(!context.halted && context.backend.injecting());
    });
}

#[test]
fn a_poll_waits_for_its_event() {
    with_vcpu(|domain, vcpu, context| {
        let port = own_port(domain, vcpu, context);
        settle(domain, vcpu, context);
        poll(domain, vcpu, context, port);
        assert!(!inject::prepare(domain, vcpu, context), "runs on in spite of its poll");
        assert!(run::block(domain, vcpu, context));
        events::send(domain, port).unwrap();
        assert!(!vcpu.is_blocked() && inject::prepare(domain, vcpu, context));
        // It is pending now: a second poll does not wait.
        poll(domain, vcpu, context, port);
        assert!(inject::prepare(domain, vcpu, context));
    });
}

/// The event comes after the entry path has seen the poll, and before the vCPU is marked as blocked.
#[test]
fn a_poll_that_ends_just_before_the_block_is_not_lost() {
    with_vcpu(|domain, vcpu, context| {
        let port = own_port(domain, vcpu, context);
        poll(domain, vcpu, context, port);
        assert!(!inject::prepare(domain, vcpu, context));
        events::send(domain, port).unwrap();
        assert!(!run::block(domain, vcpu, context), "sleeps with its event pending");
        assert!(!vcpu.is_blocked() && inject::prepare(domain, vcpu, context));
    });
}

#[test]
fn an_interrupt_and_a_timeout_end_a_poll() {
    with_vcpu(|domain, vcpu, context| {
        let port = own_port(domain, vcpu, context);
        poll(domain, vcpu, context, port);
        context.backend.set_rflags(2 | INTERRUPTS_ON);
        context.pending = Some(Event::interrupt(0x40));
        assert!(inject::prepare(domain, vcpu, context), "spins between an interrupt and its poll");
        assert!(!vcpu.polling.load(std::sync::atomic::Ordering::SeqCst));

        vcpu.begin_poll(1000);
        assert_eq!(vcpu.next_deadline(), Ns::new(1000));
        timers::fire(vcpu, Ns::new(999));
        assert!(vcpu.polling.load(std::sync::atomic::Ordering::SeqCst));
        timers::fire(vcpu, Ns::new(1000));
        assert!(!vcpu.polling.load(std::sync::atomic::Ordering::SeqCst));
        assert_eq!(vcpu.next_deadline(), Ns::new(u64::MAX));
    });
}

/// INIT and start-up reach a vCPU whose context another pCPU still holds. The sender must not wait for it: the other may be
/// about to start the sender's vCPU up.
#[test]
fn a_startup_waits_for_nobody() {
    let _turn = turn();
    let world = World::new();
    let domain = world.domain(1);
    let target = domain.vcpu(VcpuId::new(1)).unwrap().clone();
    let send = |mode| {
        let (to, (done, finished)) = (domain.clone(), std::sync::mpsc::channel());
        std::thread::spawn(move || {
            let message = Message { destination: Destination::Physical(2), mode, vector: 0x9a, level: false };
            apic::deliver(&to, None, message);
            drop(to);
            done.send(())
        });
        finished.recv_timeout(std::time::Duration::from_secs(20)).expect("waits for the target");
    };
    {
        let context = &mut *target.context.lock();
        target.set_up(true);
        target.set_running_on(Some(CpuId::new(0)));
        context.backend.set_rip(0x1234);
        context.halted = true;
        send(DeliveryMode::Init);
        assert!(!target.is_up());
        send(DeliveryMode::Startup);
        assert!(target.is_up());
        assert!(inject::prepare(&domain, &target, context));
        let cs = context.backend.segment(SegmentReg::Cs);
        assert_eq!((context.backend.rip(), cs.selector, cs.base), (0, 0x9a00, 0x9a000));
        // Only once: a second start-up without INIT is ignored.
        context.backend.set_rip(0x1234);
        send(DeliveryMode::Startup);
        assert!(inject::prepare(&domain, &target, context));
        assert_eq!(context.backend.rip(), 0x1234);
        // An INIT takes a start-up back that nobody has acted on yet.
        send(DeliveryMode::Init);
        send(DeliveryMode::Startup);
        send(DeliveryMode::Init);
        assert!(!target.is_up());
        assert_eq!(target.take_startup(), None);
    }
    target.set_running_on(None);
    drop((domain, target));
    world.end();
}

/// Two vCPUs of a guest set the timer of a third over and over, at deadlines far away: it stands in one queue once, or the
/// guest would fill the hypervisor's heap.
#[test]
fn a_timer_is_queued_once_whoever_sets_it() {
    let _turn = turn();
    let world = World::new();
    let domain = world.domain(1);
    let target = domain.vcpu(VcpuId::new(1)).unwrap().clone();
    let before = run::queued_timers();
    std::thread::scope(|s| {
        for n in 0..3u32 {
            let target = &target;
            s.spawn(move || {
                radon_hw::sim::set_this(CpuId::new(n));
                for i in 0..3000 {
                    let deadline = (1 << 60) + u64::from(n) + i * 3;
                    target.singleshot.store(deadline, std::sync::atomic::Ordering::Relaxed);
                    run::requeue_timer(target);
                }
            });
        }
    });
    assert_eq!(run::queued_timers(), before + 1);
    target.singleshot.store(u64::MAX, std::sync::atomic::Ordering::Relaxed);
    run::requeue_timer(&target);
    assert_eq!(run::queued_timers(), before);
    drop((domain, target));
    world.end();
}

#[test]
fn a_start_up_interrupt_ends_what_the_vcpu_was_about_to_take() {
    with_vcpu(|domain, vcpu, context| {
        context.backend.set_rflags(2 | INTERRUPTS_ON);
        context.backend.inject(Event::interrupt(0x40));
        context.pending = Some(Event::PROTECTION);
        context.blocking = true;
        vcpu.set_startup(Some(8));
        vcpu.attention.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(inject::prepare(domain, vcpu, context));
        assert!(!context.backend.injecting(), "the interrupt meets the start-up code");
        assert!(context.pending.is_none() && !context.blocking);
        assert_eq!((context.backend.rip(), context.backend.segment(SegmentReg::Cs).base), (0, 0x8000));
    });
}
