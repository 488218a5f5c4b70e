//! More than one vCPU: each test in a child with two.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use harness::apic::{self, register};
use harness::hypercall::{vcpu_op, vcpu_op_plain};
use harness::trap::{self, vector};
use harness::{Verdict, cpu, ensure, ensure_eq, event, smp, tests, time};
use xen_abi::Errno;
use xen_abi::vcpu::*;
use xen_abi::xen::VIRQ_TIMER;
use zerocopy::FromZeros;

tests! {
    child_smp: smp_start_by_init_sipi, smp_start_by_x2apic, smp_start_by_vcpuop, smp_down_and_up, smp_is_up,
        smp_ipi_both_ways, smp_broadcast, smp_event_on_second_vcpu, smp_evtchn_ipi, smp_timer_per_vcpu, smp_nmi_to_other,
        smp_memory_is_coherent, smp_registers_are_each_vcpus_own, smp_init_stops, smp_vcpu_op_errors;
    child_128: smp_128_vcpus;
}

const VECTOR: u8 = 0x52;
static BEATS: AtomicU64 = AtomicU64::new(0);
static SECOND: AtomicU32 = AtomicU32::new(0);

/// What the second vCPU does: takes interrupts, and shows that it lives.
fn beat() {
    apic::enable();
    SECOND.store(1, Ordering::SeqCst);
    loop {
        cpu::sti();
        BEATS.fetch_add(1, Ordering::SeqCst);
        cpu::pause();
    }
}

fn start() -> Verdict {
    apic::enable();
    trap::acknowledge(VECTOR, true);
    smp::prepare(beat);
    ensure!(smp::start_by_apic(2), "the second vCPU did not start");
    ensure!(time::wait(2000, || SECOND.load(Ordering::SeqCst) == 1), "it does not run");
    Ok(())
}

fn lives() -> bool {
    let before = BEATS.load(Ordering::SeqCst);
    time::wait(1000, || BEATS.load(Ordering::SeqCst) > before + 2)
}

/// INIT and start-up interrupts start the second vCPU in real mode at the given page.
fn smp_start_by_init_sipi() -> Verdict {
    start()?;
    ensure!(lives(), "it stands still");
    Ok(())
}

/// The same from x2APIC mode.
fn smp_start_by_x2apic() -> Verdict {
    apic::enable_x2apic();
    start()
}

fn initialise() -> Result<u64, Errno> {
    let (rip, cr3) = smp::entry();
    let regs = VcpuHvmX8664 {
        rip,
        rflags: 2,
        cr0: 0x8000_0033,
        cr3,
        cr4: 0x620,
        efer: 0x500,
        ..VcpuHvmX8664::new_zeroed()
    };
    let mut context = VcpuHvmContext { mode: VCPU_HVM_MODE_64B, ..VcpuHvmContext::new_zeroed() };
    context.set_payload(&regs);
    vcpu_op(VCPUOP_INITIALISE, 1, &mut context)
}

/// `VCPUOP_initialise` and `VCPUOP_up` start it straight in 64-bit mode.
fn smp_start_by_vcpuop() -> Verdict {
    smp::prepare(beat);
    ensure_eq!(vcpu_op_plain(VCPUOP_UP, 1), Err(Errno::EINVAL), "up before initialise");
    ensure_eq!(initialise(), Ok(0), "initialise");
    ensure_eq!(initialise(), Err(Errno::EEXIST), "second initialise");
    ensure_eq!(vcpu_op_plain(VCPUOP_UP, 1), Ok(0), "up");
    ensure!(time::wait(2000, || SECOND.load(Ordering::SeqCst) == 1), "it does not run");
    Ok(())
}

/// A vCPU that is down stands still, and goes on where it was when it is up.
fn smp_down_and_up() -> Verdict {
    start()?;
    ensure_eq!(vcpu_op_plain(VCPUOP_DOWN, 1), Ok(0), "down");
    time::sleep_ms(5);
    let before = BEATS.load(Ordering::SeqCst);
    time::sleep_ms(20);
    ensure_eq!(BEATS.load(Ordering::SeqCst), before, "beats while down");
    ensure_eq!(vcpu_op_plain(VCPUOP_UP, 1), Ok(0), "up");
    ensure!(lives(), "it stands still after up");
    Ok(())
}

/// `VCPUOP_is_up` tells.
fn smp_is_up() -> Verdict {
    ensure_eq!(vcpu_op_plain(VCPUOP_IS_UP, 0), Ok(1), "vCPU 0");
    ensure_eq!(vcpu_op_plain(VCPUOP_IS_UP, 1), Ok(0), "vCPU 1 before its start");
    start()?;
    ensure_eq!(vcpu_op_plain(VCPUOP_IS_UP, 1), Ok(1), "vCPU 1");
    ensure_eq!(vcpu_op_plain(VCPUOP_IS_UP, 2), Err(Errno::ENOENT), "vCPU 2");
    Ok(())
}

/// Interrupts from the first to the second vCPU and back.
fn smp_ipi_both_ways() -> Verdict {
    fn answer(_: &mut trap::Frame) {
        apic::command(0, u32::from(VECTOR));
    }
    start()?;
    trap::acknowledge(VECTOR + 1, true);
    trap::handle(VECTOR + 1, answer);
    for n in 1..=10 {
        apic::command(2, u32::from(VECTOR) + 1);
        ensure!(time::wait(1000, || trap::count(VECTOR) == n), "no answer to interrupt {n}");
    }
    ensure_eq!((trap::taker(VECTOR + 1), trap::taker(VECTOR)), (2, 0), "APIC ids of the takers");
    Ok(())
}

/// All-but-self reaches the other one only.
fn smp_broadcast() -> Verdict {
    start()?;
    apic::command(0, 0xc_0000 | u32::from(VECTOR));
    ensure!(time::wait(1000, || trap::count(VECTOR) == 1), "no interrupt");
    time::wait(10, || false);
    ensure_eq!((trap::count(VECTOR), trap::taker(VECTOR)), (1, 2), "interrupts and taker");
    apic::command(0, 0x8_0000 | u32::from(VECTOR));
    ensure!(time::wait(1000, || trap::count(VECTOR) == 3), "{} interrupts, not 3", trap::count(VECTOR));
    Ok(())
}

/// A channel bound to the second vCPU makes its upcall there.
fn smp_event_on_second_vcpu() -> Verdict {
    start()?;
    let (first, second) = event::loopback()?;
    ensure_eq!(event::bind_vcpu(first, 1), Ok(0), "bind_vcpu");
    event::send(second)?;
    ensure!(time::wait(1000, || event::handled(first) == 1), "the event was not handled");
    ensure_eq!(trap::taker(event::UPCALL), 2, "APIC id of the taker");
    Ok(())
}

/// An IPI channel notifies the vCPU it was bound to.
fn smp_evtchn_ipi() -> Verdict {
    start()?;
    let port = event::bind_ipi(1)?;
    event::send(port)?;
    ensure!(time::wait(1000, || event::handled(port) == 1), "the event was not handled");
    ensure_eq!(trap::taker(event::UPCALL), 2, "APIC id of the taker");
    Ok(())
}

/// Each vCPU has a timer VIRQ of its own; only a vCPU itself sets its one-shot timer.
fn smp_timer_per_vcpu() -> Verdict {
    static SET: AtomicU64 = AtomicU64::new(u64::MAX);
    fn set(_: &mut trap::Frame) {
        let due = time::now() + 2_000_000;
        let mut op = VcpuSetSingleshotTimer { timeout_abs_ns: due, ..VcpuSetSingleshotTimer::new_zeroed() };
        let done = vcpu_op(VCPUOP_SET_SINGLESHOT_TIMER, 1, &mut op);
        SET.store(done.unwrap_or(u64::MAX - 1), Ordering::SeqCst);
    }
    start()?;
    let (ours, theirs) = (event::bind_virq(VIRQ_TIMER, 0)?, event::bind_virq(VIRQ_TIMER, 1)?);
    let mut op = VcpuSetSingleshotTimer { timeout_abs_ns: 1, ..VcpuSetSingleshotTimer::new_zeroed() };
    ensure_eq!(vcpu_op(VCPUOP_SET_SINGLESHOT_TIMER, 1, &mut op), Err(Errno::EINVAL), "timer of another vCPU");
    let before = event::handled(ours);
    trap::handle(VECTOR, set);
    apic::command(2, u32::from(VECTOR));
    ensure!(
        time::wait(2000, || event::handled(theirs) == 1),
        "it did not fire; set {}",
        SET.load(Ordering::SeqCst)
    );
    ensure_eq!(event::handled(ours), before, "events of the first vCPU's timer");
    Ok(())
}

/// `VCPUOP_send_nmi` to the other vCPU.
fn smp_nmi_to_other() -> Verdict {
    start()?;
    let before = trap::count(vector::NMI);
    vcpu_op_plain(VCPUOP_SEND_NMI, 1)?;
    ensure!(time::wait(1000, || trap::count(vector::NMI) == before + 1), "no NMI");
    ensure_eq!(trap::taker(vector::NMI), 2, "APIC id of the taker");
    Ok(())
}

/// Atomic additions of both vCPUs add up.
fn smp_memory_is_coherent() -> Verdict {
    static SUM: AtomicU64 = AtomicU64::new(0);
    static DONE: AtomicU32 = AtomicU32::new(0);
    fn add() {
        for _ in 0..20_000 {
            SUM.fetch_add(1, Ordering::SeqCst);
        }
        DONE.fetch_add(1, Ordering::SeqCst);
    }
    smp::prepare(add);
    ensure!(smp::start_by_apic(2), "the second vCPU did not start");
    add();
    ensure!(time::wait(5000, || DONE.load(Ordering::SeqCst) == 2), "the second vCPU is not done");
    ensure_eq!(SUM.load(Ordering::SeqCst), 40_000, "sum");
    Ok(())
}

/// INIT stops a running vCPU until the next start-up interrupt.
fn smp_init_stops() -> Verdict {
    start()?;
    apic::command(2, 0x4500);
    time::sleep_ms(10);
    let before = BEATS.load(Ordering::SeqCst);
    time::sleep_ms(20);
    ensure_eq!(BEATS.load(Ordering::SeqCst), before, "beats after INIT");
    SECOND.store(0, Ordering::SeqCst);
    start()
}

/// vCPUs that do not exist, and operations that do not.
fn smp_vcpu_op_errors() -> Verdict {
    ensure_eq!(vcpu_op_plain(VCPUOP_UP, 77), Err(Errno::ENOENT), "vCPU 77");
    ensure_eq!(vcpu_op_plain(60, 0), Err(Errno::ENOSYS), "operation 60");
    ensure_eq!(apic::get(register::ID) >> 24, 0, "our APIC id");
    Ok(())
}

/// Rounds of the second vCPU in [`smp_registers_are_each_vcpus_own`], and those that found a wrong register.
static ROUNDS: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);

/// Fills debug and extended registers, and looks again later; true if all is as it was.
fn keeps_registers(pattern: u64, microseconds: u64) -> bool {
    let addresses = [pattern, pattern + 8, pattern + 16, pattern + 24];
    cpu::set_breakpoint_addresses(addresses);
    cpu::fill_extended(pattern);
    let until = time::now() + 1000 * microseconds;
    while time::now() < until {
        if cpu::breakpoint_addresses() != addresses || !cpu::extended_holds(pattern) {
            return false;
        }
    }
    true
}

fn second_keeps_registers() {
    for round in 0_u64.. {
        if !keeps_registers(0x2222_0000_0000 + 64 * round + 1, 3000) {
            WRONG.fetch_add(1, Ordering::SeqCst);
        }
        ROUNDS.fetch_add(1, Ordering::SeqCst);
    }
}

/// DR0 to DR3, SSE and x87 registers, while another vCPU with other values runs in turn on the same processor.
fn smp_registers_are_each_vcpus_own() -> Verdict {
    ensure!(keeps_registers(0x1111_0000, 100), "alone");
    apic::enable();
    smp::prepare(second_keeps_registers);
    ensure!(smp::start_by_apic(2), "the second vCPU did not start");
    ensure!(time::wait(5000, || ROUNDS.load(Ordering::SeqCst) > 0), "it does not run");
    let before = ROUNDS.load(Ordering::SeqCst);
    let mut own = 0_u64;
    let until = time::now() + 5_000_000_000;
    // Both must have had turns in between, on one processor or two.
    while ROUNDS.load(Ordering::SeqCst) < before + 20 && time::now() < until {
        ensure!(keeps_registers(0x1111_0000_0000 + 64 * own + 2, 5000), "in round {own}");
        own += 1;
    }
    ensure_eq!(WRONG.load(Ordering::SeqCst), 0, "wrong rounds of the second vCPU");
    ensure!(ROUNDS.load(Ordering::SeqCst) >= before + 20 && own > 2, "{own} rounds of the first vCPU");
    Ok(())
}

/// One bit for each vCPU that has reported.
static REPORTED: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];

fn reported() -> u32 {
    REPORTED.iter().map(|word| word.load(Ordering::SeqCst).count_ones()).sum()
}

fn report() {
    let id = smp::vcpu_id();
    if let Some(word) = REPORTED.get(id as usize / 32) {
        word.fetch_or(1 << (id % 32), Ordering::SeqCst);
    }
}

/// A domain has up to 128 vCPUs; each starts, knows its number, and has an event channel of its own.
fn smp_128_vcpus() -> Verdict {
    const VCPUS: u32 = 128;
    apic::enable();
    report();
    for vcpu in 1..VCPUS {
        smp::prepare(report);
        ensure!(smp::start_by_apic(2 * vcpu), "vCPU {vcpu} did not start");
        ensure!(time::wait(2000, || reported() == vcpu + 1), "vCPU {vcpu}: {} have reported", reported());
    }
    for vcpu in 0..VCPUS {
        ensure_eq!(vcpu_op_plain(VCPUOP_IS_UP, vcpu), Ok(1), "vCPU {vcpu} is up");
    }
    ensure_eq!(vcpu_op_plain(VCPUOP_IS_UP, VCPUS), Err(Errno::ENOENT), "vCPU 128");
    Ok(())
}
