//! The loop of a pCPU: choose a vCPU, run it until its time is up or it has nothing to do, choose the next.
//!
//! # Life of an exit
//! `backend.run()` returns with interrupts off. If the exit says so, a window lets the pending physical interrupt in
//! (its handler only sets flags). Then the exit's handler runs to completion; due timers fire; a pause, a reschedule
//! request or a block ends the vCPU's turn; otherwise events are injected and the guest is entered again.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use radon_addr::{CpuId, Ns};
use radon_cpu::Exit;
use radon_hw::lock::{SpinLock, rank, wait_until};
use radon_hw::percpu::PerCpu;
use radon_hw::{cpu, heartbeat, ipi, irq, time};
use radon_sched::Scheduler;

use crate::context::Context;
use crate::domain::Domain;
use crate::runstate::State;
use crate::vcpu::Vcpu;
use crate::{exits, inject, timers, watchdog};

/// The scheduler of the machine.
pub static SCHEDULER: SpinLock<Scheduler<Arc<Vcpu>>> = SpinLock::new(rank::SCHED, Scheduler::new());

/// Flags of one pCPU.
struct Local {
    /// Somebody wants the scheduler to look again.
    reschedule: AtomicBool,
    /// Not later than the earliest deadline in this pCPU's queue of sleepers.
    next_sleeper: AtomicU64,
    /// vCPU whose extended state is in the registers (key), for skipping reloads.
    fpu_owner: AtomicU64,
    /// Time halted, ns.
    idle_ns: AtomicU64,
}

impl Local {
    const fn new() -> Local {
        Local {
            reschedule: AtomicBool::new(false),
            next_sleeper: AtomicU64::new(u64::MAX),
            fpu_owner: AtomicU64::new(u64::MAX),
            idle_ns: AtomicU64::new(0),
        }
    }
}

static LOCAL: PerCpu<Local> = PerCpu::new([const { Local::new() }; cpu::MAX_CPUS]);

/// Timers of vCPUs that are not loaded, per pCPU on which they were last: (deadline, vCPU key).
type Sleepers = SpinLock<BTreeMap<(Ns, u64), Weak<Vcpu>>>;
static SLEEPERS: PerCpu<Sleepers> =
    PerCpu::new([const { SpinLock::new(rank::TIMER, BTreeMap::new()) }; cpu::MAX_CPUS]);

/// Makes a pCPU look at its scheduler again soon.
pub fn poke(target: CpuId) {
    LOCAL.of(target).reschedule.store(true, Ordering::SeqCst);
    if target != cpu::this() {
        ipi::kick(target);
    }
}

/// The vCPU's conditions to run may have changed: tells the scheduler.
pub fn reschedule(vcpu: &Arc<Vcpu>) {
    let Some(domain) = vcpu.domain() else { return };
    let now = time::now();
    let target = {
        let mut scheduler = SCHEDULER.lock();
        if vcpu.runnable(&domain) {
            scheduler.wake(vcpu.key(), now)
        } else {
            scheduler.sleep(vcpu.key(), now);
            vcpu.running_on()
        }
    };
    if let Some(target) = target {
        poke(target);
    }
}

/// Something arrived for the vCPU: ends its block, or makes it leave guest mode to take the event.
pub fn kick(vcpu: &Arc<Vcpu>) {
    vcpu.attention.store(true, Ordering::SeqCst);
    if vcpu.clear_blocked() {
        reschedule(vcpu);
    } else if vcpu.in_guest()
        && let Some(target) = vcpu.running_on()
        && target != cpu::this()
    {
        // Outside of the guest it sees the request before it enters or blocks.
        ipi::kick(target);
    }
}

/// The vCPU gives up its pCPU for now.
pub fn yield_vcpu(vcpu: &Arc<Vcpu>) {
    SCHEDULER.lock().yield_now(vcpu.key());
    LOCAL.this().reschedule.store(true, Ordering::SeqCst);
}

/// Waits until no pCPU has the vCPU loaded. It must have been made unable to run.
pub fn wait_descheduled(vcpu: &Arc<Vcpu>) {
    while let Some(target) = vcpu.running_on() {
        if target == cpu::this() {
            return; // the caller's own vCPU: it leaves when its hypercall is done
        }
        // Once is enough, as it looks at the vCPU's right to run before each entry. More would only keep it busy.
        poke(target);
        wait_until(|| vcpu.running_on() != Some(target));
    }
}

/// Pauses a domain and waits until none of its vCPUs runs (but the caller's own).
pub fn pause_domain(domain: &Arc<Domain>) {
    domain.add_pause();
    settle_domain(domain);
}

/// Tells the scheduler about all vCPUs of a domain that has become unable to run, and waits for them to stop.
pub fn settle_domain(domain: &Arc<Domain>) {
    for v in domain.vcpus() {
        reschedule(v);
    }
    for v in domain.vcpus() {
        wait_descheduled(v);
    }
}

/// Takes one reason to be paused away and lets the domain go on if it was the last.
pub fn unpause_domain(domain: &Arc<Domain>) {
    if domain.remove_pause() && domain.may_run() {
        for v in domain.vcpus() {
            reschedule(v);
        }
    }
}

/// Pauses one vCPU and waits until it stopped.
pub fn pause_vcpu(vcpu: &Arc<Vcpu>) {
    vcpu.pause();
    reschedule(vcpu);
    wait_descheduled(vcpu);
}

/// Opposite of [`pause_vcpu`].
pub fn unpause_vcpu(vcpu: &Arc<Vcpu>) {
    if vcpu.unpause() {
        reschedule(vcpu);
    }
}

/// Rights were taken from a domain's p2m: no pCPU uses an older translation of it when this returns.
pub fn flush_domain_tlb(domain: &Domain) {
    let generation = domain.tlb_generation.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
    let stale = |v: &&Arc<Vcpu>| v.uses_older_than(generation);
    domain.vcpus().iter().filter(stale).filter_map(|v| v.running_on()).for_each(ipi::kick);
    for v in domain.vcpus() {
        wait_until(|| !v.uses_older_than(generation));
    }
}

/// The life of a pCPU once the machine is up.
pub fn cpu_loop() -> ! {
    let this = cpu::this();
    let mut ran = None;
    loop {
        ran = step(this, ran);
    }
}

/// One decision of the scheduler and what follows from it. `ran` had its turn here just now; returned is who has had the next.
/// The end of one turn and the choice of the next are one critical section of the scheduler.
pub fn step(this: CpuId, ran: Option<Arc<Vcpu>>) -> Option<Arc<Vcpu>> {
    let local = LOCAL.this();
    local.reschedule.store(false, Ordering::SeqCst);
    let now = time::now();
    heartbeat::beat(now);
    wake_sleepers(now);
    let domain = ran.as_ref().and_then(|v| v.domain());
    let decision = {
        let mut scheduler = SCHEDULER.lock();
        if let (Some(vcpu), Some(domain)) = (&ran, &domain) {
            if vcpu.runnable(domain) {
                // Somebody may have looked at it while it was about to wait, and it did not wait after all.
                let _ = scheduler.wake(vcpu.key(), now);
            } else {
                scheduler.sleep(vcpu.key(), now);
            }
        }
        scheduler.schedule(this, now)
    };
    drop((ran, domain));
    decision.poke.iter().for_each(poke);
    match decision.next {
        Some(vcpu) => {
            run_vcpu(this, &vcpu, decision.until);
            Some(vcpu)
        }
        None => {
            idle(this, decision.until);
            None
        }
    }
}

/// Frames that an idle pCPU zeroes before it looks for work again: what is due then waits a microsecond, not twenty.
const SCRUB_AT_ONCE: u32 = 4;

/// Nothing to run: scrubs freed memory, then halts until an interrupt.
fn idle(this: CpuId, until: Ns) {
    let local = LOCAL.this();
    let until = next_sleeper().min(until).min(heartbeat::next_deadline(time::now()));
    scrub(until);
    crate::console::poll_input(this);
    arm(until.min(crate::console::next_poll(this)));
    if !local.reschedule.load(Ordering::SeqCst) {
        let from = time::now();
        cpu::halt_until_interrupt();
        local.idle_ns.fetch_add(time::now().since(from), Ordering::Relaxed);
        crate::hardware::forward_interrupts();
    }
}

/// Zeroes freed memory until there is something better to do. One pCPU at a time: several would wait for each other at the
/// allocator, and for nothing but each other.
fn scrub(until: Ns) {
    static BUSY: AtomicBool = AtomicBool::new(false);
    let frames = radon_frames::frames();
    if frames.scrub_pending() == 0 || BUSY.swap(true, Ordering::Acquire) {
        return;
    }
    let local = LOCAL.this();
    while !local.reschedule.load(Ordering::SeqCst) && time::now() < until && frames.scrub_some(SCRUB_AT_ONCE)
    {
        irq::window();
        crate::hardware::forward_interrupts();
    }
    BUSY.store(false, Ordering::Release);
}

/// How long a pCPU has been halted for want of work.
pub fn idle_time_ns(cpu: CpuId) -> u64 {
    LOCAL.of(cpu).idle_ns.load(Ordering::Relaxed)
}

/// Programs this pCPU's timer. The driver leaves an unchanged deadline alone, and knows when it has fired.
fn arm(deadline: Ns) {
    time::arm((deadline.raw() != u64::MAX).then_some(deadline));
}

/// This pCPU looks at its sleepers, and at the watchdogs, at that time at the latest.
pub fn look_at(deadline: Ns) {
    LOCAL.this().next_sleeper.fetch_min(deadline.raw(), Ordering::Relaxed);
}

/// Fires the timers of vCPUs that sleep here, and the watchdogs.
fn wake_sleepers(now: Ns) {
    watchdog::check(now);
    loop {
        let sleeper = {
            let mut queue = SLEEPERS.this().lock();
            match queue.first_key_value() {
                Some((&(deadline, _), _)) if deadline <= now => queue.pop_first().map(|e| e.1),
                _ => None,
            }
        };
        let Some(sleeper) = sleeper else { break };
        if let Some(vcpu) = sleeper.upgrade() {
            timers::fire(&vcpu, now);
            if vcpu.running_on().is_none() {
                queue_timer(&vcpu);
            }
        }
    }
    LOCAL.this().next_sleeper.store(next_sleeper().raw(), Ordering::Relaxed);
}

/// When the first of this pCPU's sleepers, or a watchdog, is due.
fn next_sleeper() -> Ns {
    let first = SLEEPERS.this().lock().keys().next().map_or(Ns::new(u64::MAX), |k| k.0);
    first.min(watchdog::next_deadline())
}

/// Puts an unloaded vCPU's next deadline into this pCPU's queue, and takes it out of that in which it was.
fn queue_timer(vcpu: &Arc<Vcpu>) {
    let deadline = vcpu.next_deadline();
    let mut queued = vcpu.queued.lock();
    leave_queue(vcpu, queued.take());
    if deadline.raw() != u64::MAX {
        SLEEPERS.this().lock().insert((deadline, vcpu.key()), Arc::downgrade(vcpu));
        LOCAL.this().next_sleeper.fetch_min(deadline.raw(), Ordering::Relaxed);
        *queued = Some((cpu::this(), deadline));
    }
}

/// Takes a vCPU's deadline out of the queue it was put into.
fn unqueue_timer(vcpu: &Arc<Vcpu>) {
    let mut queued = vcpu.queued.lock();
    leave_queue(vcpu, queued.take());
}

fn leave_queue(vcpu: &Vcpu, queued: Option<(CpuId, Ns)>) {
    if let Some((at, deadline)) = queued {
        SLEEPERS.of(at).lock().remove(&(deadline, vcpu.key()));
    }
}

/// Timers of vCPUs that are not loaded, queued on all pCPUs.
pub fn queued_timers() -> usize {
    (0..cpu::count() as u32).map(|c| SLEEPERS.of(CpuId::new(c)).lock().len()).sum()
}

/// A timer of an unloaded vCPU was changed by somebody else (toolstack): queue it anew.
pub fn requeue_timer(vcpu: &Arc<Vcpu>) {
    if vcpu.running_on().is_none() {
        queue_timer(vcpu);
    }
}

/// One turn of a vCPU on this pCPU.
fn run_vcpu(this: CpuId, vcpu: &Arc<Vcpu>, until: Ns) {
    let Some(domain) = vcpu.domain() else { return };
    vcpu.set_running_on(Some(this));
    unqueue_timer(vcpu);
    let mut context = vcpu.context.lock();
    load(this, &domain, vcpu, &mut context);
    let local = LOCAL.this();
    loop {
        let now = time::now();
        heartbeat::beat(now);
        if now >= vcpu.next_deadline() {
            timers::fire(vcpu, now);
        }
        if now.raw() >= local.next_sleeper.load(Ordering::Relaxed) {
            wake_sleepers(now);
        }
        if local.reschedule.load(Ordering::SeqCst) || now >= until || !vcpu.runnable(&domain) {
            break;
        }
        if core::mem::take(&mut context.blocking) {
            vcpu.set_blocked();
            if !inject::waiting(&domain, vcpu, &context) && vcpu.next_deadline() > time::now() {
                break;
            }
            vcpu.clear_blocked();
        }
        if !inject::prepare(&domain, vcpu, &mut context) {
            // Halted with nothing to deliver.
            if block(&domain, vcpu, &mut context) {
                break;
            }
            continue;
        }
        let next_sleeper = Ns::new(local.next_sleeper.load(Ordering::Relaxed));
        arm(until.min(vcpu.next_deadline()).min(next_sleeper));
        if let Some(exit) = enter(&domain, vcpu, &mut context) {
            exits::handle(&domain, vcpu, &mut context, exit);
        }
    }
    unload(this, &domain, vcpu, &mut context);
    drop(context);
    queue_timer(vcpu);
    vcpu.set_running_on(None);
}

/// Enters the guest once. `None`: work turned up between the last look and the entry.
fn enter(domain: &Domain, vcpu: &Arc<Vcpu>, context: &mut Context) -> Option<Exit> {
    let generation = domain.tlb_generation.load(Ordering::SeqCst);
    vcpu.enter_guest(generation);
    fence(Ordering::SeqCst);
    if domain.tlb_generation.load(Ordering::SeqCst) != generation || vcpu.attention.load(Ordering::SeqCst) {
        vcpu.leave_guest();
        return None;
    }
    if context.tlb_generation != generation {
        context.backend.flush_tlb();
        context.tlb_generation = generation;
    }
    let exit = context.backend.run();
    vcpu.leave_guest();
    context.pending = context.backend.interrupted_event();
    match exit {
        Exit::Interrupt | Exit::Nmi => {
            irq::window();
            crate::hardware::forward_interrupts();
            None
        }
        other => Some(other),
    }
}

/// The vCPU waits. Returns false if something arrived since the entry path looked last ([`inject::prepare`], which takes the
/// request for attention back): whoever ended a poll then saw a vCPU that was not blocked yet.
pub fn block(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context) -> bool {
    vcpu.set_blocked();
    if vcpu.attention.load(Ordering::SeqCst)
        || inject::deliverable(domain, vcpu, context)
        || vcpu.next_deadline() <= time::now()
    {
        vcpu.clear_blocked();
        return false;
    }
    true
}

fn load(this: CpuId, domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context) {
    let now = time::now();
    // State given to the vCPU from outside (toolstack, or its very first) is not what this pCPU may still hold of it.
    let moved = vcpu.last_cpu.swap(this.raw(), Ordering::Relaxed) != this.raw() || !context.loaded_before;
    if moved || !context.loaded_before {
        context.backend.migrated();
        context.loaded_before = true;
    }
    let local = LOCAL.this();
    if moved || local.fpu_owner.swap(vcpu.key(), Ordering::Relaxed) != vcpu.key() {
        context.fpu.restore(context.xcr0);
    }
    local.fpu_owner.store(vcpu.key(), Ordering::Relaxed);
    context.backend.load();
    crate::msr::load_host_visible(context);
    vcpu.runstate.lock().change(State::Running, now);
    crate::clock::publish(domain, vcpu, context);
    crate::clock::publish_runstate(domain, vcpu, context);
}

fn unload(_this: CpuId, domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context) {
    context.fpu.save();
    context.backend.unload();
    let now = time::now();
    let state = if vcpu.is_blocked() {
        State::Blocked
    } else if vcpu.runnable(domain) {
        State::Runnable
    } else {
        State::Offline
    };
    vcpu.runstate.lock().change(state, now);
    crate::clock::publish_runstate(domain, vcpu, context);
}
