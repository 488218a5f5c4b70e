//! Figures: instructions per operation, on a machine whose TSC counts one tick per instruction (QEMU's `-icount shift=0`).
//!
//! Each is the mean over a loop; the cost of reading the TSC itself (which some hypervisors emulate) is taken off.

use crate::services;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use harness::apic::{self, register};
use harness::domain::{self, Child, Config};
use harness::grant::{self, End, Mapping, copy};
use harness::hypercall::{raw, vcpu_op, vcpu_op_plain};
use harness::memory::scratch;
use harness::{Outcome, Page, boot, cpu, event, mailbox, say, time, trap};
use xen_abi::Errno;
use xen_abi::hypercall::*;
use xen_abi::memory::{XENMAPSPACE_GRANT_TABLE, XENMEM_DECREASE_RESERVATION};
use xen_abi::sched::SCHEDOP_YIELD;
use xen_abi::vcpu::*;
use xen_abi::xen::{DOMID_SELF, VIRQ_TIMER};
use zerocopy::FromZeros;

const ROUNDS: u64 = 200;

/// Name, whether only dom0 can do it, and what it does.
type Part = (&'static str, bool, fn() -> Result<(), Outcome>);

/// Prints the figures of the parts named in `wanted`, or of all.
pub fn run(wanted: &str) {
    let parts: [Part; 7] = [
        ("calls", false, calls),
        ("events", false, events),
        ("timers", false, timers),
        ("memory", true, memory),
        ("grants", true, grants),
        ("domains", true, domains),
        ("apic", false, local_apic),
    ];
    for (name, only_dom0, part) in parts {
        if only_dom0 && !boot::is_dom0() || wanted != "all" && !wanted.split(',').any(|w| w == name) {
            continue;
        }
        if let Err(outcome) = harness::verdict::run_part(part) {
            let (word, why) = outcome.parts();
            say!("NOTE bench {name}: {word} {why}");
        }
    }
    say!("VERDICT-END");
}

fn figure(name: &str, value: u64) {
    say!("FIGURE {name} {value} instructions");
}

/// What reading the TSC costs.
fn tsc_cost() -> u64 {
    let start = cpu::tsc();
    for _ in 0..16 {
        cpu::tsc();
    }
    (cpu::tsc() - start) / 17
}

/// Ticks of `f`: the median of the means of some batches. What happens once in a while (a turn of the scheduler, output) falls
/// into one batch and does not count as the operation's.
fn mean<R>(rounds: u64, mut f: impl FnMut() -> R) -> u64 {
    const BATCHES: u64 = 9;
    black_box(f());
    let each = rounds.div_ceil(BATCHES);
    let mut batches = [0; BATCHES as usize];
    for batch in &mut batches {
        let start = cpu::tsc();
        for _ in 0..each {
            black_box(f());
        }
        *batch = (cpu::tsc() - start).saturating_sub(tsc_cost()) / each;
    }
    batches.sort_unstable();
    batches[batches.len() / 2]
}

fn measure<R>(name: &str, f: impl FnMut() -> R) {
    figure(name, mean(ROUNDS, f));
}

fn calls() -> Result<(), Outcome> {
    figure("tsc-read", tsc_cost());
    measure("hypercall-empty", || raw(u64::from(HYPERVISOR_XEN_VERSION), [0; 5]));
    measure("hypercall-unknown", || raw(63, [0; 5]));
    measure("cpuid-1", || cpu::cpuid(1, 0));
    measure("cpuid-xen", || cpu::cpuid(0x4000_0000, 0));
    measure("msr-read-efer", || cpu::rdmsr(0xc000_0080));
    measure("msr-read-apic-base", || cpu::rdmsr(apic::APIC_BASE));
    measure("port-read-unclaimed", || cpu::in8(0x21));
    measure("port-write-unclaimed", || cpu::out8(0x21, 0));
    let args = [u64::from(SCHEDOP_YIELD), 0, 0, 0, 0];
    measure("yield", || raw(u64::from(HYPERVISOR_SCHED_OP), args));
    Ok(())
}

static HANDLED_AT: AtomicU64 = AtomicU64::new(0);

fn note_time(_: &mut trap::Frame) {
    HANDLED_AT.store(cpu::tsc(), Ordering::Relaxed);
    event::take();
}

fn events() -> Result<(), Outcome> {
    let (first, second) = event::loopback()?;
    trap::handle(event::UPCALL, note_time);
    cpu::sti();
    let (mut until, mut round) = (0, 0);
    for _ in 0..ROUNDS {
        let start = cpu::tsc();
        event::send_quietly(second);
        let end = cpu::tsc();
        until += HANDLED_AT.load(Ordering::Relaxed).saturating_sub(start);
        round += end - start;
    }
    cpu::cli();
    let cost = tsc_cost();
    figure("event-send-to-handler", (until / ROUNDS).saturating_sub(cost));
    figure("event-round", (round / ROUNDS).saturating_sub(2 * cost));
    measure("event-send-pending", || event::send_quietly(second));
    event::clear_pending(first);
    measure("event-alloc-close", || {
        let _ = event::alloc_unbound(DOMID_SELF).and_then(event::close);
    });
    if boot::is_dom0() {
        ping_pong()?;
    }
    Ok(())
}

fn ping_pong() -> Result<(), Outcome> {
    const COUNT: u64 = 50;
    let child = Child::serving()?;
    let port = event::alloc_unbound(child.domid)?;
    let theirs = child.call(services::bind_interdomain, [0, u64::from(port), 0, 0, 0, 0])?;
    let already = child.call(services::handled, [theirs, 0, 0, 0, 0, 0])?;
    mailbox::begin(child.mailbox, services::echo_halting, [theirs, COUNT + 1 + already, 0, 0, 0, 0]);
    time::sleep_ms(20);
    cpu::sti();
    cpu::cli();
    let base = event::handled(port);
    let round = |n: u32| {
        event::send_quietly(port);
        while event::handled(port) < base + n {
            cpu::sti_halt();
        }
    };
    round(1);
    let start = cpu::tsc();
    (2..=COUNT as u32 + 1).for_each(round);
    figure("event-ping-pong", (cpu::tsc() - start) / COUNT);
    child.destroy()
}

fn singleshot(timeout_abs_ns: u64) -> Result<u64, Errno> {
    let mut op = VcpuSetSingleshotTimer { timeout_abs_ns, ..VcpuSetSingleshotTimer::new_zeroed() };
    vcpu_op(VCPUOP_SET_SINGLESHOT_TIMER, 0, &mut op)
}

fn timers() -> Result<(), Outcome> {
    let port = event::bind_virq(VIRQ_TIMER, 0)?;
    let far = time::now() + 1_000_000_000_000;
    measure("timer-set-far", || singleshot(far));
    measure("timer-op-set-far", || raw(u64::from(HYPERVISOR_SET_TIMER_OP), [far, 0, 0, 0, 0]));
    let _ = vcpu_op_plain(VCPUOP_STOP_SINGLESHOT_TIMER, 0);
    let _ = raw(u64::from(HYPERVISOR_SET_TIMER_OP), [0; 5]);
    trap::handle(event::UPCALL, note_time);
    // Lateness: from the due time to the handler's first instructions, the vCPU asleep meanwhile.
    let rounds = 50;
    let mut late = 0;
    for _ in 0..rounds {
        let before = event::handled(port);
        let due = time::now() + 1_000_000;
        singleshot(due)?;
        while event::handled(port) == before {
            cpu::sti_halt();
        }
        let at = time::convert(&time::info(), HANDLED_AT.load(Ordering::Relaxed));
        late += at.saturating_sub(due);
    }
    figure("timer-lateness", late / rounds);
    // Set and fire while the vCPU runs: a time that has passed fires at once.
    cpu::sti();
    measure("timer-set-and-fire", || singleshot(1));
    cpu::cli();
    Ok(())
}

fn memory() -> Result<(), Outcome> {
    let (mut populate, mut decrease) = (0, 0);
    let mut one = [scratch(1)];
    let rounds = 50;
    for _ in 0..rounds {
        let start = cpu::tsc();
        domain::populate(DOMID_SELF, &mut one, 0)?;
        let middle = cpu::tsc();
        domain::reservation(XENMEM_DECREASE_RESERVATION, DOMID_SELF, &mut one, 0)?;
        populate += middle - start;
        decrease += cpu::tsc() - middle;
    }
    let cost = tsc_cost();
    figure("populate-1", (populate / rounds).saturating_sub(cost));
    figure("decrease-1", (decrease / rounds).saturating_sub(cost));
    let first = scratch(256);
    let mut many: Vec<u64> = (first..first + 256).collect();
    (populate, decrease) = (0, 0);
    for _ in 0..4 {
        let start = cpu::tsc();
        domain::populate(DOMID_SELF, &mut many, 0)?;
        let middle = cpu::tsc();
        domain::reservation(XENMEM_DECREASE_RESERVATION, DOMID_SELF, &mut many, 0)?;
        populate += middle - start;
        decrease += cpu::tsc() - middle;
    }
    figure("populate-256-per-page", populate / 4 / 256);
    figure("decrease-256-per-page", decrease / 4 / 256);
    let table = scratch(1);
    measure("grant-frame-add-to-physmap", || grant::add_to_physmap(XENMAPSPACE_GRANT_TABLE, 0, table));
    grant::remove_from_physmap(table)?;
    Ok(())
}

fn grants() -> Result<(), Outcome> {
    const GREF: u32 = 9;
    let child = Child::serving()?;
    let table = child.call(services::grant_table, [0; 6])?;
    let gfn = child.call(services::page, [0; 6])?;
    child.call(services::grant, [table, u64::from(GREF), 0, gfn, 0, 0])?;
    let (page, own) = (Page::scratch(), Page::new());
    let (mut map, mut unmap) = (0, 0);
    for _ in 0..ROUNDS {
        let start = cpu::tsc();
        let mapping: Mapping = grant::map_at(page, child.domid, GREF, 0)
            .map_err(|s| Outcome::Error(harness::verdict::text(format_args!("map: status {s}"))))?;
        let middle = cpu::tsc();
        let _ = grant::unmap(mapping);
        map += middle - start;
        unmap += cpu::tsc() - middle;
    }
    let cost = tsc_cost();
    figure("grant-map", (map / ROUNDS).saturating_sub(cost));
    figure("grant-unmap", (unmap / ROUNDS).saturating_sub(cost));
    let from = End::Grant(child.domid, GREF);
    measure("grant-copy-4096", || copy(from, 0, End::Own(own.gfn), 0, 4096));
    measure("grant-copy-64", || copy(from, 0, End::Own(own.gfn), 0, 64));
    let window = scratch(1);
    measure("grant-foreign-map-unmap", || {
        let _ = domain::map_foreign_at(child.domid, &[gfn], window);
        let _ = grant::remove_from_physmap(window);
    });
    child.destroy()
}

fn free_pages() -> Result<u64, Errno> {
    crate::tests::physinfo().map(|i| i.free_pages)
}

fn domains() -> Result<(), Outcome> {
    let minimal = Config { pages: 512, image: false, ..Config::default() };
    domain::destroy(domain::create_empty(&minimal)?)?;
    let rounds = 5;
    let start = cpu::tsc();
    for _ in 0..rounds {
        domain::destroy(domain::create_empty(&minimal)?)?;
    }
    figure("create-destroy-2MiB", (cpu::tsc() - start) / rounds);
    let before = free_pages()?;
    let domid = domain::create_empty(&Config { pages: 16384, ..minimal })?;
    let overhead = before - free_pages()? - 16384;
    say!("FIGURE memory-bare-guest-64 {} KiB", 4 * overhead);
    domain::destroy(domid)?;
    Ok(())
}

fn local_apic() -> Result<(), Outcome> {
    const VECTOR: u8 = 0x51;
    apic::enable();
    trap::acknowledge(VECTOR, true);
    if !apic::is_x2apic() {
        measure("apic-mmio-read", || apic::mmio_read(register::TPR));
        measure("apic-mmio-write", || apic::mmio_write(register::TPR, 0));
        apic::enable_x2apic();
    }
    measure("x2apic-read", || cpu::rdmsr(0x808));
    measure("x2apic-write", || cpu::wrmsr(0x808, 0));
    measure("x2apic-eoi", || cpu::wrmsr(0x80b, 0));
    trap::acknowledge(VECTOR, false);
    trap::handle(VECTOR, |_| {
        HANDLED_AT.store(cpu::tsc(), Ordering::Relaxed);
        cpu::wrmsr(0x80b, 0);
    });
    cpu::sti();
    let (mut until, mut round) = (0, 0);
    for _ in 0..ROUNDS {
        let start = cpu::tsc();
        cpu::wrmsr(0x83f, u64::from(VECTOR));
        let end = cpu::tsc();
        until += HANDLED_AT.load(Ordering::Relaxed).saturating_sub(start);
        round += end - start;
    }
    cpu::cli();
    let cost = tsc_cost();
    figure("x2apic-self-ipi-to-handler", (until / ROUNDS).saturating_sub(cost));
    figure("x2apic-self-ipi-with-eoi", (round / ROUNDS).saturating_sub(2 * cost));
    Ok(())
}
