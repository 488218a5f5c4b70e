//! Time: the shared record, wall clock, run states, timers, waiting.

use harness::hypercall::{self, check, raw, sched_op, vcpu_op, vcpu_op_plain};
use harness::memory::{self, Page};
use harness::{Outcome, Verdict, cpu, ensure, ensure_eq, event, tests, time};
use xen_abi::hypercall::*;
use xen_abi::platform::*;
use xen_abi::sched::*;
use xen_abi::vcpu::*;
use xen_abi::xen::{VIRQ_TIMER, VcpuTimeInfo};
use xen_abi::{Errno, Handle};
use zerocopy::FromZeros;

tests! {
    here: time_is_monotonic, time_record_is_sane, wall_clock_is_sane, wall_clock_set_by_dom0, singleshot_not_early,
        singleshot_in_the_past_fires, singleshot_stop, periodic_timer, periodic_timer_refuses, set_timer_op,
        poll_times_out, poll_pending_returns, poll_limits, block_until_timer, halt_until_timer, runstate_info;
    child: vcpu_info_registration, runstate_area, runstate_update_flag, time_memory_area, timers_in_child;
}

const MS: u64 = 1_000_000;

fn singleshot(timeout_abs_ns: u64, flags: u32) -> Result<u64, Errno> {
    let mut op = VcpuSetSingleshotTimer { timeout_abs_ns, flags, ..VcpuSetSingleshotTimer::new_zeroed() };
    vcpu_op(VCPUOP_SET_SINGLESHOT_TIMER, 0, &mut op)
}

/// VIRQ_TIMER's port, and how often it was handled so far.
fn timer_port() -> Result<(u32, u32), Outcome> {
    let port = event::bind_virq(VIRQ_TIMER, 0)?;
    let _ = vcpu_op_plain(VCPUOP_STOP_SINGLESHOT_TIMER, 0);
    event::clear_pending(port);
    Ok((port, event::handled(port)))
}

/// System time never goes back.
fn time_is_monotonic() -> Verdict {
    let mut last = time::now();
    for _ in 0..5000 {
        let now = time::now();
        ensure!(now >= last, "{now} after {last}");
        last = now;
    }
    Ok(())
}

/// The record has a plausible rate, its time is behind the present, and it stays close to real time over a sleep.
fn time_record_is_sane() -> Verdict {
    let info = time::info();
    ensure!(info.tsc_to_system_mul != 0 && info.version & 1 == 0, "{info:?}");
    ensure!(info.system_time <= time::now(), "the record is ahead");
    let khz = (1_000_000_u64 << 32) / u64::from(info.tsc_to_system_mul);
    let khz = if info.tsc_shift >= 0 { khz >> info.tsc_shift } else { khz << -info.tsc_shift };
    ensure!((10_000..20_000_000).contains(&khz), "TSC of {khz} kHz");
    Ok(())
}

fn wall_clock() -> (u64, u32) {
    let at = event::shared_page().at(event::shared::WALL_CLOCK);
    loop {
        let version: u32 = memory::read(at);
        let low: u32 = memory::read(at + 4);
        let nanoseconds: u32 = memory::read(at + 8);
        let high: u32 = memory::read(at + 12);
        if version & 1 == 0 && memory::read::<u32>(at) == version {
            return (u64::from(high) << 32 | u64::from(low), nanoseconds);
        }
    }
}

/// The wall clock is after 2020, its nanoseconds below 10^9.
fn wall_clock_is_sane() -> Verdict {
    let (seconds, nanoseconds) = wall_clock();
    ensure!(seconds > 1_577_836_800, "{seconds} s since 1970");
    ensure!(nanoseconds < 1_000_000_000, "{nanoseconds} ns");
    Ok(())
}

/// dom0 sets the wall clock; the shared-info page says so.
fn wall_clock_set_by_dom0() -> Verdict {
    let (before, _) = wall_clock();
    let set = |secs: u64| {
        let mut op = PlatformOp::new_zeroed();
        op.cmd = XENPF_SETTIME64;
        op.interface_version = XENPF_INTERFACE_VERSION;
        let settime = XenpfSettime64 { secs, system_time: time::now(), ..XenpfSettime64::new_zeroed() };
        op.set_payload(&settime);
        check(raw(u64::from(HYPERVISOR_PLATFORM_OP), [hypercall::address(&mut op), 0, 0, 0, 0]))
    };
    let uptime = time::now() / 1_000_000_000;
    set(2_000_000_000)?;
    let (after, _) = wall_clock();
    set(before + uptime)?;
    ensure!((after + uptime).abs_diff(2_000_000_000) <= 2, "{after} s at start, {uptime} s of running");
    Ok(())
}

/// A one-shot timer fires once, not before its time, and soon after.
fn singleshot_not_early() -> Verdict {
    let (port, before) = timer_port()?;
    for _ in 0..5 {
        let before = event::handled(port);
        let due = time::now() + 5 * MS;
        singleshot(due, 0)?;
        ensure!(time::spin(2000, || event::handled(port) > before), "it did not fire");
        let now = time::now();
        ensure!(now >= due, "it fired {} ns early", due - now);
    }
    time::spin_ms(10);
    ensure_eq!(event::handled(port), before + 5, "events");
    event::close(port)?;
    Ok(())
}

/// A time that has passed fires at once; with the future flag, Xen may say -ETIME instead.
fn singleshot_in_the_past_fires() -> Verdict {
    let (port, before) = timer_port()?;
    singleshot(time::now() - MS, 0)?;
    ensure!(time::spin(100, || event::handled(port) == before + 1), "it did not fire");
    match singleshot(1, VCPU_SSHOTTMR_FUTURE) {
        Err(e) => ensure_eq!(e, Errno::ETIME, "error with the future flag"),
        Ok(_) => {
            ensure!(time::spin(100, || event::handled(port) == before + 2), "it did not fire, with the flag")
        }
    }
    Ok(())
}

/// A stopped one-shot timer does not fire.
fn singleshot_stop() -> Verdict {
    let (port, before) = timer_port()?;
    singleshot(time::now() + 10 * MS, 0)?;
    vcpu_op_plain(VCPUOP_STOP_SINGLESHOT_TIMER, 0)?;
    time::spin(30, || false);
    ensure_eq!(event::handled(port), before, "events");
    Ok(())
}

/// A periodic timer fires at its period until it is stopped.
fn periodic_timer() -> Verdict {
    let (port, _) = timer_port()?;
    vcpu_op(VCPUOP_SET_PERIODIC_TIMER, 0, &mut VcpuSetPeriodicTimer { period_ns: 5 * MS })?;
    let mut best = 0;
    // An emulator that is held up loses ticks: one window of many must have nine in ten of them. Too many are too many.
    for _ in 0..40 {
        let (before, start) = (event::handled(port), time::now());
        time::spin(100, || false);
        let (ticks, elapsed) = (u64::from(event::handled(port) - before), time::now() - start);
        ensure!(ticks <= elapsed / (5 * MS) + 2, "{ticks} ticks in {} ms", elapsed / MS);
        best = best.max(ticks * 5 * MS * 100 / elapsed);
        if best >= 90 {
            break;
        }
    }
    vcpu_op_plain(VCPUOP_STOP_PERIODIC_TIMER, 0)?;
    ensure!(best >= 90, "{best} % of the ticks in the best window");
    time::spin(5, || false);
    let stopped = event::handled(port);
    time::spin(20, || false);
    ensure_eq!(event::handled(port), stopped, "events after the stop");
    Ok(())
}

/// Periods below a millisecond are -EINVAL, timers of other vCPUs that do not exist -ENOENT.
fn periodic_timer_refuses() -> Verdict {
    let set =
        |vcpu, period_ns| vcpu_op(VCPUOP_SET_PERIODIC_TIMER, vcpu, &mut VcpuSetPeriodicTimer { period_ns });
    ensure_eq!(set(0, 999_999), Err(Errno::EINVAL), "period of 999,999 ns");
    ensure_eq!(set(77, 5 * MS), Err(Errno::ENOENT), "vCPU 77");
    Ok(())
}

/// The `set_timer_op` hypercall is a one-shot timer too.
fn set_timer_op() -> Verdict {
    let (port, before) = timer_port()?;
    let due = time::now() + 5 * MS;
    check(raw(u64::from(HYPERVISOR_SET_TIMER_OP), [due, 0, 0, 0, 0]))?;
    ensure!(time::spin(2000, || event::handled(port) == before + 1), "it did not fire");
    ensure!(time::now() >= due, "it fired early");
    Ok(())
}

fn poll(ports: &mut [u32], timeout: u64) -> Result<u64, Errno> {
    let mut op = SchedPoll {
        ports: hypercall::handle(ports),
        nr_ports: ports.len() as u32,
        timeout,
        ..SchedPoll::new_zeroed()
    };
    sched_op(SCHEDOP_POLL, &mut op)
}

/// Polling ports that stay quiet ends at the given time.
fn poll_times_out() -> Verdict {
    let (first, _) = event::loopback()?;
    let due = time::now() + 10 * MS;
    ensure_eq!(poll(&mut [first], due), Ok(0), "poll");
    let now = time::now();
    ensure!(now >= due, "it ended {} ns early", due - now);
    ensure!(now - due < 2000 * MS, "it ended {} ms late", (now - due) / MS);
    Ok(())
}

/// Polling a port that is pending returns at once.
fn poll_pending_returns() -> Verdict {
    let (first, second) = event::loopback()?;
    event::mask(first, true);
    event::send(second)?;
    let start = time::now();
    ensure_eq!(poll(&mut [first], start + 3000 * MS), Ok(0), "poll");
    ensure!(time::now() - start < 1000 * MS, "it slept");
    event::clear_pending(first);
    event::mask(first, false);
    Ok(())
}

/// More than 128 ports are -EINVAL, as is a port that cannot be; a bad pointer is -EFAULT.
fn poll_limits() -> Verdict {
    let soon = time::now() + MS;
    ensure_eq!(poll(&mut [1; 129], soon), Err(Errno::EINVAL), "129 ports");
    ensure_eq!(poll(&mut [1 << 20], soon), Err(Errno::EINVAL), "port 2^20");
    let args = [u64::from(SCHEDOP_POLL), super::hypercalls::UNMAPPED, 0, 0, 0];
    ensure_eq!(raw(u64::from(HYPERVISOR_SCHED_OP), args), Errno::EFAULT.to_ret(), "bad pointer");
    Ok(())
}

/// A blocked vCPU wakes by its timer.
fn block_until_timer() -> Verdict {
    let (port, before) = timer_port()?;
    let due = time::now() + 10 * MS;
    singleshot(due, 0)?;
    while event::handled(port) == before && time::now() < due + 3000 * MS {
        check(raw(u64::from(HYPERVISOR_SCHED_OP), [u64::from(SCHEDOP_BLOCK), 0, 0, 0, 0]))?;
        cpu::sti();
        cpu::cli();
    }
    ensure_eq!(event::handled(port), before + 1, "events");
    ensure!(time::now() >= due, "it woke early");
    Ok(())
}

/// HLT with interrupts on wakes by the timer.
fn halt_until_timer() -> Verdict {
    let (port, before) = timer_port()?;
    for n in 1..=5 {
        let due = time::now() + 3 * MS;
        singleshot(due, 0)?;
        while event::handled(port) < before + n && time::now() < due + 3000 * MS {
            cpu::sti_halt();
        }
        ensure!(time::now() >= due, "it woke early");
        ensure_eq!(event::handled(port), before + n, "events");
    }
    Ok(())
}

/// Run-state information: running now, and sleeping counts as blocked.
fn runstate_info() -> Verdict {
    let get = || {
        let mut info = VcpuRunstateInfo::new_zeroed();
        vcpu_op(VCPUOP_GET_RUNSTATE_INFO, 0, &mut info).map(|_| info)
    };
    let before = get()?;
    ensure_eq!(before.state, RUNSTATE_RUNNING, "state");
    time::sleep_ms(30);
    let after = get()?;
    let blocked = after.time[RUNSTATE_BLOCKED as usize] - before.time[RUNSTATE_BLOCKED as usize];
    ensure!(blocked >= 20 * MS, "blocked for {blocked} ns in a sleep of 30 ms");
    let sum: u64 = after.time.iter().sum::<u64>() - before.time.iter().sum::<u64>();
    ensure!(sum >= 29 * MS, "all states took {sum} ns");
    ensure!(after.time[0] >= before.time[0], "running time went back");
    Ok(())
}

fn register_vcpu_info(mfn: u64, offset: u32) -> Result<u64, Errno> {
    vcpu_op(VCPUOP_REGISTER_VCPU_INFO, 0, &mut VcpuRegisterVcpuInfo { mfn, offset, _rsvd: 0 })
}

/// The vCPU's information moves where it is told, once; events and time are there then.
fn vcpu_info_registration() -> Verdict {
    let page = Page::new();
    ensure_eq!(register_vcpu_info(page.gfn, 4095), Err(Errno::ENXIO), "offset 4095");
    ensure_eq!(register_vcpu_info(page.gfn, 4), Err(Errno::ENXIO), "offset 4");
    ensure!(register_vcpu_info(0xf_ffff_ffff, 0).is_err(), "frame without memory");
    ensure_eq!(register_vcpu_info(page.gfn, 128), Ok(0), "registration");
    event::set_vcpu_info(0, page.at(128));
    ensure_eq!(register_vcpu_info(page.gfn, 256), Err(Errno::EINVAL), "second registration");
    ensure!(page.get::<u32>(128 + 40) != 0 || page.get::<u64>(128 + 48) != 0, "no time in the new place");
    event::take();
    let (first, second) = event::loopback()?;
    event::send(second)?;
    ensure!(time::spin(100, || event::handled(first) == 1), "no event by the new place");
    let before = time::now();
    time::sleep_ms(5);
    ensure!(time::now() >= before + 4 * MS, "time stands still");
    Ok(())
}

fn register_runstate(page: Page) -> Result<u64, Errno> {
    vcpu_op(
        VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA,
        0,
        &mut VcpuRegisterRunstateMemoryArea { addr: Handle::new(page.at(0)) },
    )
}

/// The registered run-state area is kept up to date.
fn runstate_area() -> Verdict {
    let page = Page::new();
    register_runstate(page)?;
    let before: VcpuRunstateInfo = page.structure(0);
    ensure_eq!(before.state, RUNSTATE_RUNNING, "state");
    time::sleep_ms(30);
    let after: VcpuRunstateInfo = page.structure(0);
    ensure_eq!(after.state, RUNSTATE_RUNNING, "state after a sleep");
    ensure!(after.state_entry_time > before.state_entry_time, "entry time stands still");
    let blocked = after.time[RUNSTATE_BLOCKED as usize] - before.time[RUNSTATE_BLOCKED as usize];
    ensure!(blocked >= 20 * MS, "blocked for {blocked} ns in a sleep of 30 ms");
    Ok(())
}

/// The update flag can be switched on, and is clear when the guest reads the area.
fn runstate_update_flag() -> Verdict {
    let page = Page::new();
    let assist = [u64::from(VMASST_CMD_ENABLE), u64::from(VMASST_TYPE_RUNSTATE_UPDATE_FLAG), 0, 0, 0];
    ensure_eq!(raw(u64::from(HYPERVISOR_VM_ASSIST), assist), 0, "vm_assist");
    register_runstate(page)?;
    for _ in 0..5 {
        time::sleep_ms(2);
        let info: VcpuRunstateInfo = page.structure(0);
        ensure!(info.state_entry_time & XEN_RUNSTATE_UPDATE == 0, "the flag is set");
        ensure!(info.state_entry_time <= time::now(), "entry time {} is ahead", info.state_entry_time);
    }
    Ok(())
}

/// A second copy of the time record is kept where the guest wants it.
fn time_memory_area() -> Verdict {
    let page = Page::new();
    let mut op = VcpuRegisterTimeMemoryArea { addr: Handle::new(page.at(64)) };
    vcpu_op(VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA, 0, &mut op)?;
    time::sleep_ms(5);
    let info: VcpuTimeInfo = time::info_at(page.at(64));
    ensure!(info.tsc_to_system_mul != 0, "{info:?}");
    let (ours, shared) = (time::convert(&info, cpu::tsc()), time::now());
    ensure!(ours.abs_diff(shared) < 5 * MS, "{ours} in the copy, {shared} in the shared page");
    Ok(())
}

/// Timers work the same in a child.
fn timers_in_child() -> Verdict {
    singleshot_not_early()?;
    singleshot_in_the_past_fires()
}
