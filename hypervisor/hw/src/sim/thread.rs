//! State of one simulated CPU (= one host thread).

use radon_addr::{CpuId, Ns};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;

/// Identities in use, so that a finished thread's is given out again.
static TAKEN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

pub(crate) struct Thread {
    own: u32,
    pub cpu: Cell<u32>,
    pub now: Cell<u64>,
    pub clock: Cell<Option<fn() -> Ns>>,
    pub wall_offset: Cell<u64>,
    pub armed: Cell<Option<Ns>>,
    pub kicks: RefCell<Vec<CpuId>>,
    pub console: RefCell<Vec<u8>>,
    pub input: RefCell<VecDeque<u8>>,
    pub pending: RefCell<VecDeque<u8>>,
    pub msrs: RefCell<BTreeMap<u32, u64>>,
    pub ports: RefCell<BTreeMap<u16, u32>>,
    pub port_writes: RefCell<Vec<(u16, u8, u32)>>,
    pub ranks: RefCell<Vec<u8>>,
}

impl Thread {
    fn new() -> Thread {
        let mut taken = TAKEN.lock().unwrap_or_else(|e| e.into_inner());
        let own = (0..).find(|id| !taken.contains(id)).unwrap_or(0);
        assert!((own as usize) < crate::cpu::MAX_CPUS, "too many simulated CPUs");
        taken.insert(own);
        Thread {
            own,
            cpu: Cell::new(own),
            now: Cell::new(0),
            clock: Cell::new(None),
            wall_offset: Cell::new(0),
            armed: Cell::new(None),
            kicks: RefCell::default(),
            console: RefCell::default(),
            input: RefCell::default(),
            pending: RefCell::default(),
            msrs: RefCell::default(),
            ports: RefCell::default(),
            port_writes: RefCell::default(),
            ranks: RefCell::default(),
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        TAKEN.lock().unwrap_or_else(|e| e.into_inner()).remove(&self.own);
    }
}

thread_local!(static THREAD: Thread = Thread::new());

pub(crate) fn with<R>(f: impl FnOnce(&Thread) -> R) -> R {
    THREAD.with(f)
}
