//! Ranked spin locks.
//!
//! A lock may be taken only while every lock already held on this CPU has a lower rank; debug builds panic otherwise
//! (`try_*` cannot deadlock and is exempt). Two locks of one rank are taken with [`lock_pair`] or [`write_pair`]. Nothing is
//! poisoned by a panic.
//!
//! # Order of service
//! None is promised: who looks while the lock is free takes it. Strict order (tickets) hands a lock to a CPU that may not be
//! running at all: where the CPUs are threads of a host with fewer processors, every turn of the queue then costs a time
//! slice of the host, and four CPUs stand still for seconds. Waiters are counted instead, and who comes while somebody waits
//! steps back once, for a bounded time, before it tries. So a CPU in a loop of lock and unlock cannot starve another.
#![allow(unsafe_code)] // a lock hands out `&mut T` from a shared cell

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

mod held;

/// Place of a lock in the lock order (see `docs/architecture.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(pub u8);

/// The lock order: a lock may be taken only while holding locks of lower rank.
pub mod rank {
    use super::Rank;
    /// One toolstack operation at a time.
    pub const DOMCTL: Rank = Rank(10);
    /// The list of domains.
    pub const DOMLIST: Rank = Rank(20);
    /// A vCPU's context: held by the pCPU that runs it through every exit, so below everything else.
    pub const VCPU: Rank = Rank(5);
    /// A domain's life cycle and parameters.
    pub const LIFECYCLE: Rank = Rank(40);
    /// A grant table.
    pub const GRANT: Rank = Rank(50);
    /// A domain's event channels.
    pub const EVTCHN: Rank = Rank(60);
    /// A p2m.
    pub const P2M: Rank = Rank(70);
    /// Virtual interrupt controllers and PCI configuration space.
    pub const VAPIC: Rank = Rank(90);
    /// A run queue.
    pub const SCHED: Rank = Rank(100);
    /// A timer queue.
    pub const TIMER: Rank = Rank(110);
    /// The heap.
    pub const HEAP: Rank = Rank(120);
    /// The frame allocator: the heap asks it for pages, whatever else is held.
    pub const FRAMES: Rank = Rank(125);
    /// The console.
    pub const CONSOLE: Rank = Rank(130);
}

/// A wait that grows, for who has found a lock taken.
struct Backoff {
    looks: u32,
}

impl Backoff {
    /// Looks between two pauses at most. Each look is a load of a line that stays in the cache until somebody writes to it. A
    /// PAUSE is cheap for a processor, but an emulator leaves its loop and takes its own big lock for each.
    const MOST: u32 = 64;

    const fn new() -> Backoff {
        Backoff { looks: 4 }
    }

    /// Waits for a while, or until `ready`.
    #[inline]
    fn wait(&mut self, ready: impl Fn() -> bool) {
        for _ in 0..self.looks {
            if ready() {
                return;
            }
        }
        self.looks = (self.looks * 2).min(Self::MOST);
        // Host threads share processors with the one they wait for, so they step aside.
        #[cfg(target_os = "none")]
        core::hint::spin_loop();
        #[cfg(not(target_os = "none"))]
        std::thread::yield_now();
    }

    /// Steps back once for those who wait already: until none does, and for a bounded time.
    fn step_back(&mut self, nobody_waits: impl Fn() -> bool) {
        for _ in 0..4 {
            if nobody_waits() {
                return;
            }
            self.wait(&nobody_waits);
        }
    }
}

/// Waits until another CPU has made `ready` true.
pub fn wait_until(ready: impl Fn() -> bool) {
    let mut backoff = Backoff::new();
    while !ready() {
        backoff.wait(&ready);
    }
}

/// Mutual exclusion.
pub struct SpinLock<T> {
    /// [`HELD`], and [`WAITER`] for each CPU that waits.
    state: AtomicU32,
    rank: Rank,
    value: UnsafeCell<T>,
}

/// In the state of a [`SpinLock`]: somebody holds it.
const HELD: u32 = 1;
/// In the state of a [`SpinLock`]: one more waits.
const WAITER: u32 = 2;

// SAFETY: the lock gives access to one CPU at a time, which is as if the value were sent from one to the next.
unsafe impl<T: Send> Sync for SpinLock<T> {}

/// Access to the value of a [`SpinLock`]; releases it when dropped.
#[must_use]
pub struct Guard<'a, T> {
    lock: &'a SpinLock<T>,
    /// A lock is released on the CPU that took it.
    here: PhantomData<*const ()>,
}

impl<T> SpinLock<T> {
    /// An unlocked lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        SpinLock { state: AtomicU32::new(0), rank, value: UnsafeCell::new(value) }
    }

    /// Waits for the lock.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> Guard<'_, T> {
        held::check(self.rank);
        self.acquire()
    }

    #[inline]
    fn acquire(&self) -> Guard<'_, T> {
        if self.state.compare_exchange(0, HELD, Acquire, Relaxed).is_err() {
            self.wait();
        }
        held::push(self.rank);
        Guard { lock: self, here: PhantomData }
    }

    /// Takes the lock that was not simply free.
    #[cold]
    fn wait(&self) {
        let mut backoff = Backoff::new();
        backoff.step_back(|| self.state.load(Relaxed) < WAITER);
        self.state.fetch_add(WAITER, Relaxed);
        loop {
            let now = self.state.load(Relaxed);
            if now & HELD == 0 {
                // No longer waiting, but holding.
                if self.state.compare_exchange_weak(now, now - WAITER + HELD, Acquire, Relaxed).is_ok() {
                    return;
                }
            } else {
                backoff.wait(|| self.state.load(Relaxed) & HELD == 0);
            }
        }
    }

    /// Waits for the lock without the check of the lock order: for a second lock of the same rank whose holder is known
    /// not to wait for the caller (the context of a vCPU that is not running).
    #[inline]
    pub fn lock_nested(&self) -> Guard<'_, T> {
        self.acquire()
    }

    /// Takes the lock if nobody holds it or waits for it.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.state.compare_exchange(0, HELD, Acquire, Relaxed).ok()?;
        held::push(self.rank);
        Some(Guard { lock: self, here: PhantomData })
    }

    /// The value, without locking: `&mut` proves that nobody else can.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Unwraps the value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// True while somebody holds the lock (stale as soon as it is returned).
    pub fn is_locked(&self) -> bool {
        self.state.load(Relaxed) & HELD != 0
    }

    /// Takes the lock no matter who holds it and whatever else is held. Only for the last words of a crashing machine,
    /// which nobody else gets in the way of: the other CPUs have been stopped or are crashing too.
    pub(crate) fn seize(&self) -> Guard<'_, T> {
        self.state.store(HELD, Relaxed);
        held::push(self.rank);
        Guard { lock: self, here: PhantomData }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        held::pop(self.lock.rank);
        self.lock.state.fetch_and(!HELD, Release);
    }
}
impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}
impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock, and `&mut self` makes this the only reference.
        unsafe { &mut *self.lock.value.get() }
    }
}

/// Guards of two locks, or of one when both arguments were the same lock.
pub enum Pair<G> {
    /// Both arguments were the same lock.
    Same(G),
    /// Guards in the order of the arguments.
    Two(G, G),
}

impl<G: DerefMut> Pair<G> {
    /// What the first argument protects.
    pub fn first(&mut self) -> &mut G::Target {
        match self {
            Pair::Same(g) | Pair::Two(g, _) => g,
        }
    }
    /// What the second argument protects.
    pub fn second(&mut self) -> &mut G::Target {
        match self {
            Pair::Same(g) | Pair::Two(_, g) => g,
        }
    }
    /// Both at once, `None` for the second when they are the same.
    pub fn both(&mut self) -> (&mut G::Target, Option<&mut G::Target>) {
        match self {
            Pair::Same(g) => (g, None),
            Pair::Two(a, b) => (a, Some(b)),
        }
    }
}

/// Takes two locks of one rank, lower address first.
#[track_caller]
pub fn lock_pair<'a, T>(a: &'a SpinLock<T>, b: &'a SpinLock<T>) -> Pair<Guard<'a, T>> {
    held::check(a.rank.min(b.rank));
    match (&raw const *a).cmp(&(&raw const *b)) {
        core::cmp::Ordering::Equal => Pair::Same(a.acquire()),
        core::cmp::Ordering::Less => {
            let first = a.acquire();
            Pair::Two(first, b.acquire())
        }
        core::cmp::Ordering::Greater => {
            let first = b.acquire();
            Pair::Two(a.acquire(), first)
        }
    }
}

/// Many readers or one writer. A reader that comes while a writer waits steps back once.
pub struct RwLock<T> {
    /// [`WRITING`], or the number of readers.
    state: AtomicU32,
    /// Writers that wait.
    writers: AtomicU32,
    rank: Rank,
    value: UnsafeCell<T>,
}

/// In the state of an [`RwLock`]: a writer holds it.
const WRITING: u32 = 1 << 31;

// SAFETY: readers share `&T` (T: Sync), a writer is alone (T: Send).
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}

/// Shared access to the value of an [`RwLock`].
#[must_use]
pub struct ReadGuard<'a, T> {
    lock: &'a RwLock<T>,
    here: PhantomData<*const ()>,
}
/// Exclusive access to the value of an [`RwLock`].
#[must_use]
pub struct WriteGuard<'a, T> {
    lock: &'a RwLock<T>,
    here: PhantomData<*const ()>,
}

impl<T> RwLock<T> {
    /// An unlocked lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        RwLock { state: AtomicU32::new(0), writers: AtomicU32::new(0), rank, value: UnsafeCell::new(value) }
    }

    /// One reader more, unless somebody writes.
    #[inline]
    fn add_reader(&self) -> bool {
        let add = |now: u32| (now < WRITING - 1).then_some(now + 1);
        self.state.try_update(Acquire, Relaxed, add).is_ok()
    }

    /// Writes, unless somebody reads or writes.
    #[inline]
    fn add_writer(&self) -> bool {
        self.state.compare_exchange(0, WRITING, Acquire, Relaxed).is_ok()
    }

    /// Waits for shared access.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> ReadGuard<'_, T> {
        held::check(self.rank);
        if self.writers.load(Relaxed) != 0 || !self.add_reader() {
            self.wait_to_read();
        }
        held::push(self.rank);
        ReadGuard { lock: self, here: PhantomData }
    }

    #[cold]
    fn wait_to_read(&self) {
        let mut backoff = Backoff::new();
        backoff.step_back(|| self.writers.load(Relaxed) == 0);
        while !self.add_reader() {
            backoff.wait(|| self.state.load(Relaxed) < WRITING);
        }
    }

    /// Waits for exclusive access.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> WriteGuard<'_, T> {
        held::check(self.rank);
        self.acquire_write()
    }

    #[inline]
    fn acquire_write(&self) -> WriteGuard<'_, T> {
        if !self.add_writer() {
            self.wait_to_write();
        }
        held::push(self.rank);
        WriteGuard { lock: self, here: PhantomData }
    }

    #[cold]
    fn wait_to_write(&self) {
        let mut backoff = Backoff::new();
        self.writers.fetch_add(1, Relaxed);
        while !self.add_writer() {
            backoff.wait(|| self.state.load(Relaxed) == 0);
        }
        self.writers.fetch_sub(1, Relaxed);
    }

    /// Shared access, if no writer holds the lock.
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        self.add_reader().then(|| {
            held::push(self.rank);
            ReadGuard { lock: self, here: PhantomData }
        })
    }

    /// Exclusive access, if nobody holds the lock.
    pub fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        self.add_writer().then(|| {
            held::push(self.rank);
            WriteGuard { lock: self, here: PhantomData }
        })
    }

    /// The value, without locking: `&mut` proves that nobody else can.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        held::pop(self.lock.rank);
        self.lock.state.fetch_sub(1, Release);
    }
}
impl<T> Drop for WriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        held::pop(self.lock.rank);
        self.lock.state.store(0, Release);
    }
}
impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: no writer can hold the lock while this guard lives.
        unsafe { &*self.lock.value.get() }
    }
}
impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock alone.
        unsafe { &*self.lock.value.get() }
    }
}
impl<T> DerefMut for WriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock alone, and `&mut self` makes this the only reference.
        unsafe { &mut *self.lock.value.get() }
    }
}

/// Takes two locks of one rank for writing, lower address first.
#[track_caller]
pub fn write_pair<'a, T>(a: &'a RwLock<T>, b: &'a RwLock<T>) -> Pair<WriteGuard<'a, T>> {
    held::check(a.rank.min(b.rank));
    match (&raw const *a).cmp(&(&raw const *b)) {
        core::cmp::Ordering::Equal => Pair::Same(a.acquire_write()),
        core::cmp::Ordering::Less => {
            let first = a.acquire_write();
            Pair::Two(first, b.acquire_write())
        }
        core::cmp::Ordering::Greater => {
            let first = b.acquire_write();
            Pair::Two(a.acquire_write(), first)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Turns of each thread.
    const TURNS: u64 = if cfg!(miri) { 25 } else { 500 };

    #[test]
    fn spin_lock_excludes() {
        let lock = Arc::new(SpinLock::new(rank::P2M, 0u64));
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let lock = lock.clone();
                std::thread::spawn(move || {
                    for _ in 0..TURNS {
                        let mut g = lock.lock();
                        let v = *g;
                        std::thread::yield_now();
                        *g = v + 1;
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|w| w.join().unwrap());
        assert_eq!(*lock.lock(), 3 * TURNS);
        assert_eq!(lock.state.load(Relaxed), 0, "nobody holds it, nobody waits");
    }

    #[test]
    fn a_waiter_that_does_not_come_delays_nobody_for_long() {
        // A CPU that waits but does not run (its host has taken the processor away).
        let lock = SpinLock::new(rank::P2M, ());
        lock.state.fetch_add(WAITER, Relaxed);
        drop(lock.lock());
        assert!(lock.try_lock().is_none() && !lock.is_locked());
        assert_eq!(lock.state.load(Relaxed), WAITER);
        let lock = RwLock::new(rank::P2M, ());
        lock.writers.fetch_add(1, Relaxed);
        drop(lock.read());
        drop(lock.write());
        assert_eq!((lock.state.load(Relaxed), lock.writers.load(Relaxed)), (0, 1));
    }

    #[test]
    fn rw_lock_excludes_writers_and_shares_readers() {
        let lock = Arc::new(RwLock::new(rank::P2M, (0u64, 0u64)));
        let workers: Vec<_> = (0..3)
            .map(|i| {
                let lock = lock.clone();
                std::thread::spawn(move || {
                    for n in 0..TURNS {
                        if (n + i) % 3 == 0 {
                            let mut g = lock.write();
                            g.0 += 1;
                            std::thread::yield_now();
                            g.1 += 1;
                        } else {
                            let g = lock.read();
                            assert_eq!(g.0, g.1);
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|w| w.join().unwrap());
        let one = lock.try_read().unwrap();
        let two = lock.try_read().unwrap();
        assert!(one.0 == two.0 && lock.try_write().is_none());
        drop((one, two));
        let w = lock.try_write().unwrap();
        assert!(lock.try_read().is_none());
        drop(w);
        assert!(lock.try_read().is_some());
        assert_eq!((lock.state.load(Relaxed), lock.writers.load(Relaxed)), (0, 0));
    }

    #[test]
    fn try_lock_fails_only_while_held() {
        let lock = SpinLock::new(rank::HEAP, ());
        let g = lock.lock();
        assert!(lock.try_lock().is_none() && lock.is_locked());
        drop(g);
        assert!(lock.try_lock().is_some() && !lock.is_locked());
    }

    fn panics(f: impl FnOnce()) -> bool {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err()
    }

    #[test]
    fn rank_order_is_checked() {
        let low = SpinLock::new(rank::P2M, ());
        let high = RwLock::new(rank::FRAMES, ());
        assert!(!panics(|| drop((low.lock(), high.read()))));
        assert!(panics(|| {
            let _h = high.write();
            let _l = low.lock();
        }));
        assert!(panics(|| {
            let _a = high.read();
            let _b = high.read();
        }));
        // Unwinding gave everything back.
        drop((low.lock(), high.write()));
    }

    #[test]
    fn pairs_take_both_or_one() {
        let (a, b) = (SpinLock::new(rank::EVTCHN, 1), SpinLock::new(rank::EVTCHN, 2));
        let mut p = lock_pair(&b, &a);
        assert_eq!((*p.first(), *p.second()), (2, 1));
        drop(p);
        let mut p = lock_pair(&a, &a);
        *p.first() = 9;
        assert_eq!(*p.second(), 9);
        assert!(p.both().1.is_none());
        drop(p);
        let (a, b) = (RwLock::new(rank::P2M, 1), RwLock::new(rank::P2M, 2));
        let mut p = write_pair(&a, &b);
        let (x, y) = p.both();
        assert_eq!((*x, y.copied()), (1, Some(2)));
    }
}
