//! Turns on a pCPU: a vCPU that can run gets one, whatever stopped it before and whoever looked at it meanwhile.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod random;

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};

use radon_addr::{CpuId, Ns, VcpuId};
use radon_core::domain::Domain;
use radon_core::guest_access::AddressSpace;
use radon_core::hypercall::{self, Caller, Width};
use radon_core::processor::Processor;
use radon_core::vcpu::Vcpu;
use radon_core::{run, shutdown};
use radon_cpu::Exit;
use random::backend::FakeBackend;
use random::world::{GUESTS, World, put};
use xen_abi::{domctl as d, hypercall as nr, sched};
use zerocopy::FromZeros;

const CPU: CpuId = CpuId::new(0);
const OP: u64 = 0x1000;
/// Turns within which a vCPU that can run has run.
const TURNS: u32 = 20;

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

/// Gives the domain's first vCPU a guest that does `each` on each entry, and lets it run.
fn run_guest(domain: &Arc<Domain>, each: impl Fn(&Arc<Vcpu>) + Send + 'static) -> Arc<Vcpu> {
    let vcpu = domain.vcpu(VcpuId::new(0)).unwrap().clone();
    let mut guest = FakeBackend::new();
    let own = Arc::downgrade(&vcpu);
    guest.program = Some(Box::new(move |_| {
        if let Some(vcpu) = own.upgrade() {
            each(&vcpu);
            // Out again after each entry.
            run::yield_vcpu(&vcpu);
        }
        Exit::Interrupt
    }));
    vcpu.context.lock().backend = Processor::Other(Box::new(guest));
    while domain.remove_pause() {}
    vcpu.set_up(true);
    run::reschedule(&vcpu);
    vcpu
}

/// A pCPU, and who had the last turn there.
struct Loop(Option<Arc<Vcpu>>);

impl Loop {
    /// Does the vCPU enter its guest within some turns?
    fn gets_on(&mut self, entries: &AtomicU32) -> bool {
        let before = entries.load(SeqCst);
        for _ in 0..TURNS {
            self.0 = run::step(CPU, self.0.take());
        }
        entries.load(SeqCst) != before
    }
}

fn domctl(dom0: &Arc<Domain>, cmd: u32, domain: &Arc<Domain>) {
    let mut op = d::Domctl::new_zeroed();
    (op.cmd, op.interface_version, op.domain) = (cmd, d::XEN_DOMCTL_INTERFACE_VERSION, domain.id.raw());
    put(dom0, OP, &op);
    let vcpu = dom0.vcpu(VcpuId::new(0)).unwrap().clone();
    let context = &mut *vcpu.context.lock();
    let space = AddressSpace::of(context);
    let deadline = Ns::new(u64::MAX);
    let mut caller = Caller {
        domain: dom0,
        vcpu: &vcpu,
        context,
        space: space.into(),
        width: Width::Long,
        deadline: deadline.into(),
    };
    let _ = hypercall::call(&mut caller, nr::HYPERVISOR_DOMCTL.into(), [OP, 0, 0, 0, 0, 0]).unwrap();
}

fn counted() -> (Arc<AtomicU32>, impl Fn(&Arc<Vcpu>) + Send + 'static) {
    let entries = Arc::new(AtomicU32::new(0));
    let counter = entries.clone();
    (entries, move |_: &Arc<Vcpu>| {
        counter.fetch_add(1, SeqCst);
    })
}

#[test]
fn a_domain_goes_on_after_a_soft_reset() {
    let _turn = turn();
    let world = World::new();
    let (dom0, domain) = (world.domain(0), world.domain(GUESTS[0]));
    let mut cpu = Loop(None);
    let (entries, count) = counted();
    let vcpu = run_guest(&domain, count);
    assert!(cpu.gets_on(&entries));
    shutdown::shutdown(&domain, sched::SHUTDOWN_SOFT_RESET as u8);
    assert!(!cpu.gets_on(&entries));
    domctl(&dom0, d::XEN_DOMCTL_SOFT_RESET, &domain);
    assert!(cpu.gets_on(&entries), "able to run, but nobody told the scheduler");
    drop((cpu, dom0, domain, vcpu));
    world.end();
}

/// The vCPU is about to wait; somebody else looks at it just then (an unpause, say); then it finds that it need not wait.
#[test]
fn who_looks_at_a_vcpu_that_does_not_wait_after_all_does_not_stop_it() {
    let _turn = turn();
    let world = World::new();
    let domain = world.domain(GUESTS[0]);
    let mut cpu = Loop(None);
    let (entries, count) = counted();
    let vcpu = run_guest(&domain, move |vcpu| {
        count(vcpu);
        vcpu.set_blocked();
        run::reschedule(vcpu);
        vcpu.clear_blocked();
    });
    assert!(cpu.gets_on(&entries));
    assert!(cpu.gets_on(&entries), "able to run, but the scheduler believes that it waits");
    drop((cpu, domain, vcpu));
    world.end();
}
