//! The FIFO ABI against a consumer that works like Linux's: no event is lost, none is invented, and a guest
//! that breaks the protocol only hurts itself.
mod common;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use common::*;
use proptest::prelude::*;
use radon_addr::Port;
use radon_evtchn::*;

const PENDING: u32 = 1 << 31;
const MASKED: u32 = 1 << 30;
const LINKED: u32 = 1 << 29;
const BUSY: u32 = 1 << 28;
const LINK: u32 = (1 << 17) - 1;

/// Where a vCPU is in handling its upcall; other things may happen between any two steps.
#[derive(Clone, Copy, Debug)]
enum Step {
    Idle,
    HaveHead { queue: u32, port: u32 },
    Unlinked { queue: u32, port: u32, next: u32 },
}

/// Guest side of one vCPU: private heads and ready bits, as in Linux's `events_fifo.c`.
#[derive(Clone, Debug)]
struct Consumer {
    woken: bool,
    step: Step,
    ready: u32,
    heads: [u32; 16],
}

impl Consumer {
    fn new() -> Consumer {
        Consumer { woken: false, step: Step::Idle, ready: 0, heads: [0; 16] }
    }

    /// One step of the upcall handler; the port that is handled in it, if any.
    fn step(&mut self, dom: &Dom, fifo: &FifoMemory, vcpu: u32) -> Option<u32> {
        match self.step {
            Step::Idle if !self.woken => None,
            Step::Idle => {
                radon_hw::mem::atomic_u8(dom.info(vcpu)).store(0, SeqCst);
                self.ready |= fifo.ready(vcpu).swap(0, SeqCst);
                if self.ready == 0 {
                    self.woken = false;
                    return None;
                }
                let queue = self.ready.trailing_zeros();
                let mut port = self.heads[queue as usize];
                if port == 0 {
                    port = fifo.head(vcpu, queue).load(SeqCst);
                }
                self.step = Step::HaveHead { queue, port };
                None
            }
            Step::HaveHead { queue, port } => {
                let old = fifo.word(port).fetch_and(!(LINKED | LINK), SeqCst);
                let next = old & LINK;
                if next == 0 {
                    self.ready &= !(1 << queue);
                }
                self.step = Step::Unlinked { queue, port, next };
                None
            }
            Step::Unlinked { queue, port, next } => {
                self.heads[queue as usize] = next;
                self.step = Step::Idle;
                let word = fifo.word(port);
                if word.load(SeqCst) & (PENDING | MASKED) == PENDING {
                    word.fetch_and(!PENDING, SeqCst);
                    Some(port)
                } else {
                    None
                }
            }
        }
    }
}

/// A guest clears MASKED unless the event is pending: then, and only then, it needs the hypercall.
fn guest_unmask(fifo: &FifoMemory, port: u32) -> bool {
    let word = fifo.word(port);
    let mut old = word.load(SeqCst);
    loop {
        if old & MASKED == 0 {
            return true;
        }
        if old & PENDING != 0 {
            return false;
        }
        old &= !BUSY;
        match word.compare_exchange(old, old & !MASKED, SeqCst, SeqCst) {
            Ok(_) => return true,
            Err(seen) => old = seen,
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Raise(usize),
    Mask(usize),
    Unmask(usize),
    BindVcpu(usize, u32),
    Priority(usize, u32),
    Step(u32),
    Close(usize),
    Open,
}

fn op() -> impl Strategy<Value = Op> {
    let port = 0..12usize;
    prop_oneof![
        6 => port.clone().prop_map(Op::Raise),
        1 => port.clone().prop_map(Op::Mask),
        2 => port.clone().prop_map(Op::Unmask),
        1 => (port.clone(), 0..VCPUS).prop_map(|(p, v)| Op::BindVcpu(p, v)),
        1 => (port.clone(), 0..16u32).prop_map(|(p, q)| Op::Priority(p, q)),
        12 => (0..VCPUS).prop_map(Op::Step),
        1 => port.prop_map(Op::Close),
        1 => Just(Op::Open),
    ]
}

struct World {
    dom: Dom,
    fifo: FifoMemory,
    consumers: Vec<Consumer>,
    /// Open ports: pending and masked as they must be.
    ports: BTreeMap<u32, (bool, bool)>,
}

impl World {
    fn new() -> World {
        let mut dom = Dom::new(1, Layout::Native64, 5000);
        let fifo = FifoMemory::install(&mut dom.ec, 1, |_| panic!("nothing was pending"));
        World { dom, fifo, consumers: vec![Consumer::new(); VCPUS as usize], ports: BTreeMap::new() }
    }
    fn pick(&self, n: usize) -> Option<u32> {
        self.ports.keys().nth(n % self.ports.len().max(1)).copied()
    }
    fn woken(&mut self, n: Notify) {
        if let Some(vcpu) = n.upcall {
            self.consumers[vcpu.index()].woken = true;
        }
    }
    fn step(&mut self, vcpu: u32) {
        if let Some(port) = self.consumers[vcpu as usize].step(&self.dom, &self.fifo, vcpu) {
            let known = self.ports.get_mut(&port).expect("event on a closed port");
            assert_eq!(*known, (true, false), "port {port} handled though not pending and unmasked");
            known.0 = false;
        }
    }
    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Open => {
                let port = self.dom.ec.alloc_unbound(d(2)).unwrap().raw();
                let word = self.fifo.word(port).load(SeqCst);
                assert_eq!(word & (LINKED | PENDING), 0, "port {port} reused too early");
                self.ports.insert(port, (false, word & MASKED != 0));
            }
            Op::Step(vcpu) => self.step(vcpu),
            Op::Raise(n)
            | Op::Mask(n)
            | Op::Unmask(n)
            | Op::BindVcpu(n, _)
            | Op::Priority(n, _)
            | Op::Close(n) => {
                let Some(port) = self.pick(n) else { return };
                let state = self.ports.get_mut(&port).unwrap();
                match *op {
                    Op::Raise(_) => {
                        let was = std::mem::replace(&mut state.0, true);
                        let masked = state.1;
                        let n = self.dom.ec.set_pending(p(port));
                        assert!(!masked || n.upcall.is_none(), "a masked event wakes nobody");
                        assert_eq!(n.pollers, (!was).then_some(p(port)));
                        self.woken(n);
                    }
                    Op::Mask(_) => {
                        self.fifo.word(port).fetch_or(MASKED, SeqCst);
                        state.1 = true;
                    }
                    Op::Unmask(_) => {
                        state.1 = false;
                        if !guest_unmask(&self.fifo, port) {
                            let n = self.dom.ec.unmask(p(port)).unwrap();
                            self.woken(n);
                        }
                    }
                    Op::BindVcpu(_, vcpu) => self.dom.ec.bind_vcpu(p(port), v(vcpu)).unwrap(),
                    Op::Priority(_, priority) => self.dom.ec.set_priority(p(port), priority).unwrap(),
                    _ => {
                        assert_eq!(self.dom.ec.close(p(port), Closer::Guest), Ok(Closed::Done));
                        self.ports.remove(&port);
                    }
                }
            }
        }
        for (&port, &(pending, masked)) in &self.ports {
            assert_eq!((self.dom.ec.is_pending(p(port)), self.dom.ec.is_masked(p(port))), (pending, masked));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]
    #[test]
    fn every_event_is_seen(ops in prop::collection::vec(op(), 1..400)) {
        let mut w = World::new();
        for _ in 0..5 {
            w.apply(&Op::Open);
        }
        for op in &ops {
            w.apply(op);
        }
        // Only vCPUs that were woken may run; then nothing may be left.
        for _ in 0..200 {
            for vcpu in 0..VCPUS {
                w.step(vcpu);
            }
        }
        for (port, state) in &w.ports {
            prop_assert_ne!(*state, (true, false), "event on port {} was lost", port);
        }
    }

    /// A guest may write anything into its words at any time: operations end, and leave other ports' states
    /// alone.
    #[test]
    fn hostile_words(ops in prop::collection::vec((op(), 0..12u32, any::<u32>()), 1..200)) {
        let mut w = World::new();
        for _ in 0..5 {
            w.apply(&Op::Open);
        }
        for (op, port, junk) in ops {
            w.fifo.word(port).store(junk, SeqCst);
            match op {
                Op::Raise(n) => { if let Some(port) = w.pick(n) { let _ = w.dom.ec.set_pending(p(port)); } }
                Op::Unmask(n) => { if let Some(port) = w.pick(n) { let _ = w.dom.ec.unmask(p(port)); } }
                Op::BindVcpu(n, vcpu) => { if let Some(port) = w.pick(n) { w.dom.ec.bind_vcpu(p(port), v(vcpu)).unwrap(); } }
                Op::Priority(n, q) => { if let Some(port) = w.pick(n) { w.dom.ec.set_priority(p(port), q).unwrap(); } }
                Op::Close(n) => { if let Some(port) = w.pick(n) {
                    let _ = w.dom.ec.close(p(port), Closer::Guest).unwrap();
                    w.ports.remove(&port);
                } }
                Op::Open => {
                    let port = w.dom.ec.alloc_unbound(d(2)).unwrap().raw();
                    prop_assert!(w.ports.insert(port, (false, false)).is_none());
                }
                _ => {}
            }
            for &port in w.ports.keys() {
                prop_assert_eq!(w.dom.ec.status(p(port)).unwrap().state, State::Unbound { remote: d(2) });
            }
        }
    }
}

#[test]
fn ports_beyond_the_array_wait_for_their_page() {
    let mut dom = Dom::new(1, Layout::Native64, 5000);
    let mut fifo = FifoMemory::install(&mut dom.ec, 1, |_| ());
    let ports: Vec<Port> = (0..1030).map(|_| dom.ec.alloc_unbound(d(2)).unwrap()).collect();
    let far = ports[1028];
    dom.ec.set_priority(far, 2).unwrap();
    assert_eq!(dom.ec.set_pending(far), Notify::NONE);
    assert!(!dom.ec.is_pending(far) && dom.ec.is_masked(far));
    let page = radon_hw::sim::fresh_ram(1);
    let mut seen = Vec::new();
    dom.ec.expand_array(page, |n| seen.push((n.pollers, n.upcall))).unwrap();
    fifo.pages.push(page);
    assert_eq!(seen, [(Some(far), Some(v(0)))]);
    assert_eq!(fifo.head(0, 2).load(SeqCst), far.raw());
    assert!(dom.ec.is_pending(far));
}

/// The real thing: a consumer on another CPU. Each event carries a counter; after the last one all must have
/// arrived.
#[test]
fn concurrent_consumer_loses_nothing() {
    const PORTS: u32 = 8;
    let mut dom = Dom::new(1, Layout::Native64, 100);
    let fifo = FifoMemory::install(&mut dom.ec, 1, |_| ());
    let ports: Vec<u32> = (0..PORTS).map(|_| dom.ec.alloc_unbound(d(2)).unwrap().raw()).collect();
    let info = dom.info(0);
    let dom = Mutex::new(dom);
    let (woken, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let handled: Vec<AtomicBool> = (0..=PORTS).map(|_| AtomicBool::new(false)).collect();
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut heads = [0u32; 16];
            loop {
                let last_round = done.load(SeqCst);
                if woken.swap(false, SeqCst) {
                    radon_hw::mem::atomic_u8(info).store(0, SeqCst);
                    let mut ready = fifo.ready(0).swap(0, SeqCst);
                    while ready != 0 {
                        let queue = ready.trailing_zeros();
                        let mut port = heads[queue as usize];
                        if port == 0 {
                            port = fifo.head(0, queue).load(SeqCst);
                        }
                        let next = fifo.word(port).fetch_and(!(LINKED | LINK), SeqCst) & LINK;
                        if next == 0 {
                            ready &= !(1 << queue);
                        }
                        heads[queue as usize] = next;
                        if fifo.word(port).load(SeqCst) & (PENDING | MASKED) == PENDING {
                            // As Linux does for a level-style handler: mask, acknowledge, handle, unmask.
                            fifo.word(port).fetch_or(MASKED, SeqCst);
                            fifo.word(port).fetch_and(!PENDING, SeqCst);
                            handled[port as usize].store(true, SeqCst);
                            if !guest_unmask(&fifo, port)
                                && dom.lock().unwrap().ec.unmask(p(port)).unwrap().upcall.is_some()
                            {
                                woken.store(true, SeqCst);
                            }
                        }
                        ready |= fifo.ready(0).swap(0, SeqCst);
                    }
                } else if last_round {
                    break;
                } else {
                    std::thread::yield_now();
                }
            }
        });
        for round in 0..if cfg!(miri) { 60 } else { 8_000u32 } {
            let port = ports[(round.wrapping_mul(2_654_435_761) >> 20) as usize % ports.len()];
            handled[port as usize].store(false, SeqCst);
            let mut dom = dom.lock().unwrap();
            if round % 97 == 0 {
                dom.ec.set_priority(p(port), round % 16).unwrap();
            }
            if dom.ec.set_pending(p(port)).upcall.is_some() {
                woken.store(true, SeqCst);
            }
        }
        done.store(true, SeqCst);
    });
    for port in ports {
        assert!(handled[port as usize].load(SeqCst), "the last event on port {port} was lost");
        assert_eq!(fifo.word(port).load(SeqCst) & (PENDING | MASKED), 0);
    }
}
