//! Data that exists once per physical CPU.
//!
//! There is no preemption and interrupt handlers only touch atomics, so `T: Sync` with atomics inside is enough.

#![allow(unsafe_code)] // moving an array's elements onto cache lines of their own in a constant expression

use crate::cpu::{self, MAX_CPUS};
use core::mem::{ManuallyDrop, MaybeUninit};
use radon_addr::CpuId;

/// A value on cache lines of its own.
#[repr(align(64))]
#[derive(Debug)]
struct Padded<T>(T);

/// One `T` per CPU. Build it with [`per_cpu!`](crate::per_cpu) (also in a `static`) or [`PerCpu::from_fn`].
#[derive(Debug)]
pub struct PerCpu<T>([Padded<T>; MAX_CPUS]);

impl<T> PerCpu<T> {
    /// Wraps one value per CPU.
    pub const fn new(values: [T; MAX_CPUS]) -> Self {
        let values = ManuallyDrop::new(values);
        let from = (&raw const values).cast::<T>();
        let mut slots = [const { MaybeUninit::<Padded<T>>::uninit() }; MAX_CPUS];
        let mut i = 0;
        while i < MAX_CPUS {
            // SAFETY: `values` is the array (ManuallyDrop is transparent); each element is moved out once, never dropped there.
            slots[i] = MaybeUninit::new(Padded(unsafe { from.add(i).read() }));
            i += 1;
        }
        // SAFETY: every slot has been written; the array of MaybeUninit has the same layout and drops nothing.
        PerCpu(unsafe { (&raw const slots).cast::<[Padded<T>; MAX_CPUS]>().read() })
    }

    /// Makes each CPU's value.
    pub fn from_fn(mut init: impl FnMut(CpuId) -> T) -> Self {
        PerCpu(core::array::from_fn(|i| Padded(init(CpuId::new(i as u32)))))
    }

    /// The running CPU's value.
    #[inline]
    pub fn this(&self) -> &T {
        self.of(cpu::this())
    }

    /// A CPU's value; an id beyond [`MAX_CPUS`] (which nothing hands out) counts as CPU 0.
    #[inline]
    pub fn of(&self, cpu: CpuId) -> &T {
        let slot = self.0.get(cpu.index()).unwrap_or(&self.0[0]);
        &slot.0
    }

    /// Every CPU's value, in order, also of CPUs that do not exist.
    pub fn iter(&self) -> impl Iterator<Item = (CpuId, &T)> {
        self.0.iter().enumerate().map(|(i, slot)| (CpuId::new(i as u32), &slot.0))
    }
}

/// A [`PerCpu`](crate::percpu::PerCpu) whose every slot starts as the given constant expression:
/// `static X: PerCpu<AtomicU64> = per_cpu!(AtomicU64::new(0));`
#[macro_export]
macro_rules! per_cpu {
    ($init:expr) => {
        $crate::percpu::PerCpu::new([const { $init }; $crate::cpu::MAX_CPUS])
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

    #[test]
    fn values_keep_their_places_and_are_dropped_once() {
        let alive = std::sync::Arc::new(());
        let all = PerCpu::new(core::array::from_fn::<_, MAX_CPUS, _>(|i| (i, alive.clone())));
        assert!(all.iter().all(|(cpu, v)| v.0 == cpu.index()));
        assert_eq!((std::sync::Arc::strong_count(&alive), align_of_val(&all)), (MAX_CPUS + 1, 64));
        drop(all);
        assert_eq!(std::sync::Arc::strong_count(&alive), 1);
    }

    #[test]
    fn each_cpu_has_its_own() {
        static X: PerCpu<AtomicU32> = per_cpu!(AtomicU32::new(5));
        X.this().store(6, Relaxed);
        let mine = cpu::this();
        std::thread::spawn(move || {
            assert_ne!(cpu::this(), mine);
            assert_eq!(X.this().load(Relaxed), 5);
            assert_eq!(X.of(mine).load(Relaxed), 6);
        })
        .join()
        .unwrap();
        assert_eq!(X.iter().filter(|(_, v)| v.load(Relaxed) == 6).count(), 1);
    }
}
