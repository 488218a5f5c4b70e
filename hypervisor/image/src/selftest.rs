//! `radon-selftest`: checks of what start-up set up, then out of the emulator with a verdict.

use crate::{crash, paging};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use radon_addr::{CpuId, Ns};
use radon_hw::percpu::PerCpu;
use radon_hw::{console, cpu, ipi, mem, per_cpu, time};

/// Times a CPU left its sleep.
static WOKEN: PerCpu<AtomicU32> = per_cpu!(AtomicU32::new(0));

/// Called by idle CPUs after each interrupt.
pub fn woken() {
    WOKEN.this().fetch_add(1, Relaxed);
}

/// Runs all checks and leaves the emulator.
pub fn run() {
    let checks: &[(&str, fn() -> bool)] = &[
        ("heap: objects keep their content across sizes", heap),
        ("timer: fires, and not early", timer),
        ("CPUs: each answers a kick", kicks),
        ("memory: stacks and tables are RAM", tables),
    ];
    let mut ok = true;
    for (name, check) in checks {
        let passed = check();
        ok &= passed;
        console::print(format_args!("selftest: {} {name}\n", if passed { "ok  " } else { "FAIL" }));
    }
    console::print(format_args!("selftest: {}\n", if ok { "SUCCESS" } else { "FAILURE" }));
    crash::exit_emulator(ok);
}

fn heap() -> bool {
    let mut objects: Vec<Box<[u8]>> =
        (0..2000usize).map(|i| alloc::vec![i as u8; 1 + i * 7 % 5000].into_boxed_slice()).collect();
    objects.retain(|o| o.first().is_some_and(|b| b % 3 != 0));
    objects.extend((0..500usize).map(|i| alloc::vec![0xa5; i].into_boxed_slice()));
    objects.iter().all(|o| o.windows(2).all(|w| w[0] == w[1]))
}

fn timer() -> bool {
    let start = time::now();
    time::arm(Some(start.saturating_add(20 * Ns::MS)));
    cpu::halt_until_interrupt();
    let slept = time::now().since(start);
    (20 * Ns::MS..2000 * Ns::MS).contains(&slept)
}

fn kicks() -> bool {
    (1..cpu::count() as u32).map(CpuId::new).all(|id| {
        let before = WOKEN.of(id).load(Relaxed);
        ipi::kick(id);
        let until = time::now().saturating_add(2000 * Ns::MS);
        while WOKEN.of(id).load(Relaxed) == before && time::now() < until {
            cpu::pause();
        }
        WOKEN.of(id).load(Relaxed) != before
    })
}

fn tables() -> bool {
    let local = 0u8;
    mem::is_ram(paging::root()) && mem::is_ram(mem::image_maddr(&raw const local))
}
