//! `radon-selftest`: checks of what start-up set up, then out of the emulator with a verdict.

#![allow(unsafe_code)] // a fault on purpose

use crate::{crash, paging};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use radon_addr::{CpuId, DomId, Ns};
use radon_cmdline::{Options, SelfTest};
use radon_frames::{Kind, Request, frames};
use radon_hw::percpu::PerCpu;
use radon_hw::{console, cpu, heartbeat, ipi, mem, per_cpu, time};

/// Times a CPU left its sleep.
static WOKEN: PerCpu<AtomicU32> = per_cpu!(AtomicU32::new(0));

/// The next CPU that wakes hangs.
static HANG: AtomicBool = AtomicBool::new(false);

/// Called by idle CPUs after each interrupt.
pub fn woken() {
    WOKEN.this().fetch_add(1, Relaxed);
    if HANG.swap(false, Relaxed) {
        heartbeat::beat(time::now());
        hangs_here();
    }
}

/// Interrupts are off, as everywhere: only an NMI ends this.
#[inline(never)]
fn hangs_here() {
    loop {
        cpu::pause();
    }
}

/// Another CPU hangs; the watchdog, which the command line switched on, finds it.
fn hang() {
    HANG.store(true, Relaxed);
    ipi::kick(CpuId::new(1));
    loop {
        heartbeat::beat(time::now());
        cpu::pause();
    }
}

/// Runs a test and leaves the emulator. A frame of its own: the crash reports are looked through for its name.
#[inline(never)]
pub fn run(test: SelfTest, options: &Options) {
    match test {
        SelfTest::Checks => checks(),
        SelfTest::Panic => panic!("as asked for"),
        SelfTest::Fault => {
            // SAFETY: none: the null page is not mapped, which is what the crash report shall say.
            unsafe { core::ptr::without_provenance_mut::<u64>(8).write_volatile(1) };
        }
        SelfTest::Overflow => {
            core::hint::black_box(endless(1));
        }
        SelfTest::Wait => {
            console::print(format_args!("selftest: waiting\n"));
            loop {
                cpu::halt_until_interrupt();
            }
        }
        SelfTest::Hang => hang(),
        SelfTest::Reboot => {
            console::print(format_args!("selftest: restarting: {:?}\n", options.reboot));
            crash::reboot()
        }
    }
}

#[inline(never)]
#[allow(unconditional_recursion)]
fn endless(n: u64) -> u64 {
    let room = core::hint::black_box([n; 64]);
    endless(room[0] ^ 1).wrapping_add(core::hint::black_box(room)[1])
}

struct Check {
    name: &'static str,
    passes: fn() -> bool,
}

fn checks() {
    let checks = [
        Check { name: "heap: objects keep their content across sizes", passes: || heap(2000) },
        Check { name: "heap: serves without free frames", passes: reserve },
        Check { name: "timer: fires, and not early", passes: timer },
        Check { name: "CPUs: each answers a kick", passes: kicks },
        Check { name: "memory: stacks and tables are RAM", passes: tables },
    ];
    let mut ok = true;
    for Check { name, passes } in checks {
        let passed = passes();
        ok &= passed;
        console::print(format_args!("selftest: {} {name}\n", if passed { "ok  " } else { "FAIL" }));
    }
    console::print(format_args!("selftest: {}\n", if ok { "SUCCESS" } else { "FAILURE" }));
    crash::exit_emulator(ok);
}

fn heap(objects: usize) -> bool {
    let mut objects: Vec<Box<[u8]>> =
        (0..objects).map(|i| alloc::vec![i as u8; 1 + i * 7 % 5000].into_boxed_slice()).collect();
    objects.retain(|o| o.first().is_some_and(|b| b % 3 != 0));
    objects.extend((0..500usize).map(|i| alloc::vec![0xa5; i].into_boxed_slice()));
    objects.iter().all(|o| o.windows(2).all(|w| w[0] == w[1]))
}

/// With every frame taken, the heap still serves.
fn reserve() -> bool {
    let mut taken = Vec::new();
    for order in (0..=radon_frames::MAX_ORDER).rev() {
        let request = Request::new(order, DomId::XEN, Kind::Heap).overwritten();
        while let Ok(mfn) = frames().alloc(request) {
            taken.push((mfn, order));
        }
    }
    let served = frames().free_pages() == 0 && heap(500);
    taken.iter().all(|(mfn, order)| frames().free(*mfn, *order).is_ok()) && served
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
