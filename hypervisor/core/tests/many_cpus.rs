//! Several CPUs at once: threads that run the real loop of a pCPU, guests that access their memory through a TLB of their
//! own and call what they like, a control domain that calls what it may, and a toolstack that kills, revives and inspects.
//!
//! What only shows when CPUs race: a guest that reaches a frame by a stale translation after it was taken away, a wake-up
//! that is lost, a lock taken twice, a page that is never freed. `RADON_STRESS_MS` lengthens the run.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod random;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use radon_addr::{CpuId, DomId, Gfn, Maddr, Mfn, Ns, VcpuId};
use radon_core::domain::{Domain, Dying};
use radon_core::processor::Processor;
use radon_core::vcpu::Vcpu;
use radon_core::{destroy, domains, domctl, grants, inject, physmap, run};
use radon_cpu::{Backend, Control, Exit, Gpr, SegmentReg};
use radon_frames::{Kind, frames};
use radon_hw::{mem, sim};
use random::backend::{FakeBackend, Program};
use random::source::Source;
use random::world::{GUESTS, LARGE_GFN, RUNNING, SMALL_PAGES, WRITABLE, World, build_domain, translate};
use random::{calls, world};
use xen_abi::domctl as d;

const CPUS: u32 = 4;
/// The toolstack is none of the machine's CPUs.
const OUTSIDE: CpuId = CpuId::new(200);
/// Pages in which guests keep what they pass to hypercalls: the toolstack gives them back.
const KEPT: u64 = 12;
const CODE: u64 = 0x9000;
const INTERRUPTS_ON: u64 = 1 << 9;
/// As little as a lost wake-up or a lock-up would last.
const STUCK: Duration = Duration::from_secs(60);

/// A vCPU that sleeps this long although something waits for it is not just late.
const LOST: Duration = Duration::from_secs(10);

static STOP: AtomicBool = AtomicBool::new(false);
static SEED: AtomicU64 = AtomicU64::new(1);
/// What guests did: accesses to memory, hypercalls, flushes seen.
static ACCESSES: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);
static FLUSHES: AtomicU64 = AtomicU64::new(0);

fn clock() -> Ns {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    Ns::new(START.get_or_init(Instant::now).elapsed().as_nanos() as u64)
}

/// One vCPU's guest code.
struct Guest {
    domain: Weak<Domain>,
    id: DomId,
    privileged: bool,
    root: u64,
    grant_table: Maddr,
    source: Source<'static>,
    /// gfn -> frame, may be written.
    tlb: BTreeMap<u64, (u64, bool)>,
    flushes: u64,
    /// A hypercall that has not been answered: the guest executes it again.
    calling: bool,
}

impl Guest {
    fn new(domain: &Arc<Domain>) -> Guest {
        let root = domain.p2m.read().root().unwrap().maddr().raw();
        Guest {
            domain: Arc::downgrade(domain),
            id: domain.id,
            privileged: domain.privileged(),
            root,
            grant_table: grants::table_frame(domain, 0, false).unwrap().maddr(),
            source: Source::seeded(SEED.fetch_add(1, SeqCst)),
            tlb: BTreeMap::new(),
            flushes: 0,
            calling: false,
        }
    }

    fn program(mut self) -> Program {
        Box::new(move |b| {
            RUNNING.set(self.root);
            let exit = self.run(b);
            RUNNING.set(0);
            exit
        })
    }

    fn run(&mut self, b: &mut FakeBackend) -> Exit {
        b.injected = None;
        if b.flushes != self.flushes {
            self.flushes = b.flushes;
            self.tlb.clear();
            FLUSHES.fetch_add(1, SeqCst);
        }
        if self.calling && b.rip == CODE {
            return Exit::Hypercall;
        }
        self.calling = false;
        b.rip = CODE;
        b.next_rip = Some(CODE + 3);
        b.rflags = 2 | INTERRUPTS_ON;
        let work = if self.source.chance(10) { 2000 } else { self.source.below(40) };
        for _ in 0..work {
            self.access();
            if sim::kicked() {
                return Exit::Interrupt;
            }
        }
        match self.source.below(20) {
            0 => Exit::Hlt,
            1 => Exit::Cpuid,
            2 => {
                self.grant();
                Exit::Pause
            }
            _ => self.call(b),
        }
    }

    /// Reads or writes memory: through the TLB, which may be stale only while nobody else has the frame.
    fn access(&mut self) {
        let s = &mut self.source;
        let gfn = match s.below(4) {
            0 => LARGE_GFN + s.below(520),
            1 => SMALL_PAGES + s.below(64),
            _ => KEPT + s.below(SMALL_PAGES - KEPT),
        };
        let found = self.tlb.get(&gfn).copied().or_else(|| {
            let (mfn, raw) = translate(self.root, gfn)?;
            self.tlb.insert(gfn, (mfn, raw & WRITABLE != 0));
            Some((mfn, raw & WRITABLE != 0))
        });
        let Some((mfn, writable)) = found else { return };
        let look = || frames().info(Mfn::new(mfn)).filter(|f| f.count > 0);
        let info = look().unwrap_or_else(|| panic!("{} reaches free frame {mfn:#x} at {gfn:#x}", self.id));
        let shared = matches!(info.kind, Kind::GuestRam | Kind::XenShared);
        assert!(shared, "{} reaches {info:?} at {gfn:#x}", self.id);
        if info.owner != self.id {
            // Granted, or mapped by the control domain, which also acquires grant tables (`XENMEM_acquire_resource`).
            let may = info.kind == Kind::GuestRam || self.privileged;
            assert!(may, "{} at {gfn:#x}: {info:?}", self.id);
        }
        if writable && info.kind == Kind::GuestRam && s.chance(50) {
            mem::write(Maddr::new((mfn << 12) + s.below(512) * 8), &s.odd_word());
        }
        // It was in the guest's hands for all of the access.
        assert_eq!(look().map(|f| f.owner), Some(info.owner), "{} lost {mfn:#x} while it used it", self.id);
        ACCESSES.fetch_add(1, SeqCst);
    }

    fn grant(&mut self) {
        let s = &mut self.source;
        let (to, i, gfn) = (u64::from(s.pick(&GUESTS)), s.below(24), calls::gfn(s));
        let at = Maddr::new(self.grant_table.raw() + i * 8);
        mem::write(at, &(gfn << 32 | to << 16 | s.pick(&[1u64, 1, 5, 0])));
    }

    fn call(&mut self, b: &mut FakeBackend) -> Exit {
        let Some(domain) = self.domain.upgrade() else { return Exit::Interrupt };
        let (number, args) = loop {
            let (number, args) = calls::any(&mut self.source, &domain);
            if !domain.privileged() || harmless(self.root, number, args[0]) {
                break (number, args);
            }
        };
        b.gprs[Gpr::Rax as usize] = number;
        for (r, v) in [Gpr::Rdi, Gpr::Rsi, Gpr::Rdx, Gpr::R10, Gpr::R8, Gpr::R9].into_iter().zip(args) {
            b.gprs[r as usize] = v;
        }
        self.calling = true;
        CALLS.fetch_add(1, SeqCst);
        Exit::Hypercall
    }
}

/// Calls of the control domain that neither end the machine nor make domains without a guest in them.
fn harmless(root: u64, number: u64, arg: u64) -> bool {
    let word =
        || translate(root, arg >> 12).map(|(mfn, _)| mem::read::<u32>(Maddr::new(mfn << 12 | arg & 0xfff)));
    match number {
        12 | 20 | 32 | 35 => true,
        36 => word().is_some_and(|cmd| {
            !matches!(cmd, d::XEN_DOMCTL_CREATEDOMAIN | d::XEN_DOMCTL_MAX_VCPUS | d::XEN_DOMCTL_MAX_MEM)
        }),
        _ => false,
    }
}

/// Puts guest code into a domain's vCPUs and lets them run.
fn start(domain: &Arc<Domain>) {
    for v in domain.vcpus() {
        // 64-bit mode without paging: guest-virtual is guest-physical.
        let mut guest = FakeBackend::new();
        guest.set_control(Control::Efer, 0x501);
        guest.segments[SegmentReg::Cs as usize].attributes = 0xa9b;
        guest.program = Some(Guest::new(domain).program());
        v.context.lock().backend = Processor::Other(Box::new(guest));
    }
    while domain.remove_pause() {}
    up(domain);
    // Those that the control domain set up meanwhile were paused then.
    domain.vcpus().iter().for_each(run::reschedule);
}

fn up(domain: &Arc<Domain>) {
    for v in domain.vcpus() {
        if !v.is_up() && domain.dying() == Dying::No {
            v.set_up(true);
            run::reschedule(v);
        }
    }
}

/// Since when vCPUs have been asleep.
#[derive(Default)]
struct Sleepers(BTreeMap<(u16, u32), Instant>);

impl Sleepers {
    /// Rouses those that have slept for a while. One for which something was waiting all the time had its wake-up lost.
    fn rouse(&mut self, domain: &Arc<Domain>) {
        for v in domain.vcpus() {
            let key = (domain.id.raw(), v.id.raw());
            if !v.is_blocked() || !v.is_up() || !domain.may_run() {
                self.0.remove(&key);
                continue;
            }
            let slept = self.0.entry(key).or_insert_with(Instant::now).elapsed();
            if is_stuck(domain, v) {
                assert!(slept < LOST, "{} v{} sleeps with an interrupt waiting", domain.id, v.id.raw());
            } else if slept > Duration::from_millis(3) {
                v.nmi_pending.store(true, SeqCst);
                run::kick(v);
            }
        }
    }
}

/// Makes a domain's vCPUs go on: takes back shutdowns, gives pages back, makes the dead anew.
fn revive(id: u16) {
    let Some(domain) = domains::find(DomId::new(id)) else {
        start(&build_domain(DomId::new(id), id == 0));
        return;
    };
    if domain.dying() != Dying::No {
        if let Some(_alone) = domctl::exclusive() {
            let _ = destroy::destroy(&domain, || true).unwrap();
        }
        return;
    }
    if domain.clear_shutdown() {
        run::unpause_domain(&domain);
    }
    for gfn in 0..KEPT {
        if domain.lookup(Gfn::new(gfn)).is_none() {
            let _ = physmap::populate(&domain, Gfn::new(gfn), 0, 64);
        }
    }
    up(&domain);
}

fn cpu(this: CpuId) {
    sim::set_this(this);
    sim::follow(clock);
    let mut ran = None;
    while !STOP.load(SeqCst) {
        let _ = sim::take_kicks();
        drop(sim::take_console());
        ran = run::step(this, ran);
        std::thread::yield_now();
    }
}

/// Nothing of the machine moves: what must hold of it now?
fn inspect(world: &World) {
    let all = domains::all();
    all.iter().for_each(run::pause_domain);
    world.check(false);
    all.iter().for_each(run::unpause_domain);
}

/// Each vCPU that may run gets its turn.
fn everybody_gets_on() {
    let end = Instant::now() + LOST;
    let mut waiting = Vec::new();
    for domain in domains::all() {
        let reasons = domain.controller_pauses.load(SeqCst) > 0
            || domain.shutdown_code().is_some()
            || domain.dying() != Dying::No;
        assert!(domain.may_run() || reasons, "{} is paused for no reason", domain.id);
        // Under a cap of 1 % a turn that the test's machine held up for 100 ms is paid back by ten seconds of waiting.
        // A dying one may be unknown to the scheduler.
        let _ = run::SCHEDULER.lock().set_params(domain.id, 0, 0);
        for v in domain.vcpus() {
            waiting.push((domain.clone(), v.clone(), ran(v)));
        }
    }
    while !waiting.is_empty() {
        waiting.retain(|(domain, v, before)| {
            let alive = domain.dying() == Dying::No;
            alive && v.runnable(domain) && v.running_on().is_none() && ran(v) == *before
        });
        let left = || waiting.iter().map(|(d, v, _)| (d.id, v.id)).collect::<Vec<_>>();
        assert!(Instant::now() < end, "could run, but nobody runs them: {:?}. {}", left(), vcpus());
        std::thread::yield_now();
    }
}

/// How long it has been running.
fn ran(v: &Vcpu) -> u64 {
    v.runstate.lock().at(clock()).2[0]
}

fn is_stuck(domain: &Domain, v: &Vcpu) -> bool {
    let waiting = || v.context.try_lock().is_some_and(|c| inject::deliverable(domain, v, &c));
    domain.may_run() && v.is_up() && v.is_blocked() && v.running_on().is_none() && waiting()
}

/// Tells the other threads to end, whatever becomes of this one: else a failed check of the toolstack's would wait for them for ever.
struct StopAtEnd;

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        STOP.store(true, SeqCst);
    }
}

/// Says something now: what `eprintln` says is kept until the end of the test, which an abort has not.
fn say(text: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "many_cpus: {text}");
}

/// Ends the process when it makes no progress: threads that wait for each other cannot be unwound.
fn watch() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The others may wait for what this thread will never do.
        say(panic);
        before(panic);
    }));
    std::thread::spawn(|| {
        let mut seen = u64::MAX;
        loop {
            std::thread::sleep(STUCK);
            let now = CALLS.load(SeqCst);
            if now == seen && !STOP.load(SeqCst) {
                say(&format_args!("no hypercall for {STUCK:?}: CPUs wait for each other. {}", vcpus()));
                std::process::abort();
            }
            seen = now;
        }
    });
}

/// What the vCPUs are doing.
fn vcpus() -> String {
    let mut text = String::new();
    for domain in domains::all() {
        let scheduler = run::SCHEDULER.lock();
        let (pool, params) = (scheduler.pool_of(domain.id), scheduler.params(domain.id));
        let cpus = pool.and_then(|id| scheduler.pool_cpus(id)).map(|c| c.iter().collect::<Vec<_>>());
        drop(scheduler);
        text += &format!(
            "\n{} {:?}, may run: {}, {params:?}, pool {pool:?} of {cpus:?}: ",
            domain.id,
            domain.dying(),
            domain.may_run()
        );
        for v in domain.vcpus() {
            let (up, blocked, on) = (v.is_up(), v.is_blocked(), v.running_on());
            let may_be_on = run::SCHEDULER
                .lock()
                .affinity(v.key())
                .map(|(hard, _)| hard.iter().take(8).collect::<Vec<_>>());
            let runstate = v.runstate.lock().at(clock());
            text += &format!(
                "\n  v{} up {up} blocked {blocked} on {on:?} of {may_be_on:?} {runstate:?};",
                v.id.raw()
            );
        }
    }
    text
}

#[test]
fn guests_on_many_cpus() {
    let time = std::env::var("RADON_STRESS_MS").ok().and_then(|v| v.parse().ok()).unwrap_or(5_000);
    SEED.store(std::env::var("RADON_SEED").ok().and_then(|v| v.parse().ok()).unwrap_or(1), SeqCst);
    let world = World::new();
    sim::set_this(OUTSIDE);
    sim::follow(clock);
    domains::all().iter().for_each(start);
    watch();
    let (mut rounds, mut sleepers) = (0u32, Sleepers::default());
    let panicked = std::thread::scope(|s| {
        let stop = StopAtEnd;
        let cpus: Vec<_> = (0..CPUS).map(|n| s.spawn(move || cpu(CpuId::new(n)))).collect();
        let end = Instant::now() + Duration::from_millis(time);
        while Instant::now() < end && cpus.iter().all(|c| !c.is_finished()) {
            rounds += 1;
            [0, GUESTS[0], GUESTS[1]].into_iter().for_each(revive);
            domains::all().iter().for_each(|d| sleepers.rouse(d));
            if rounds % 20 == 0 {
                inspect(&world);
            }
            drop(sim::take_kicks());
            std::thread::sleep(Duration::from_millis(1));
        }
        if cpus.iter().all(|c| !c.is_finished()) {
            everybody_gets_on();
        }
        drop(stop);
        cpus.into_iter().any(|c| c.join().is_err())
    });
    assert!(!panicked, "a CPU panicked");
    println!(
        "{rounds} rounds, {} calls, {} accesses, {} flushes",
        CALLS.load(SeqCst),
        ACCESSES.load(SeqCst),
        FLUSHES.load(SeqCst)
    );
    assert!(CALLS.load(SeqCst) > 100 && FLUSHES.load(SeqCst) > 10, "the guests did not get to work");
    sim::set_this(CpuId::new(0));
    world.check(false);
    let _ = (VcpuId::new(0), world::SMALL_PAGES);
    world.end();
}
