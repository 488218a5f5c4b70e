//! System time from the shared-info page, deadlines, waiting.

use crate::{cpu, event, hypercall, memory};
use core::sync::atomic::{AtomicU64, Ordering};
use xen_abi::xen::VcpuTimeInfo;

/// TSC ticks in 2^20 ns, for waiting when Xen's time cannot be trusted; measured once.
static TSC_PER_2_20_NS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn init() {
    let (mul, shift) = (info().tsc_to_system_mul, info().tsc_shift);
    // ns = (ticks << shift) * mul >> 32, so ticks in 2^20 ns = 2^52 / mul >> shift.
    let ticks = if mul == 0 { 1 << 21 } else { (1_u64 << 52) / u64::from(mul) };
    let ticks = if shift >= 0 { ticks >> shift } else { ticks << -shift };
    TSC_PER_2_20_NS.store(ticks.max(1), Ordering::Relaxed);
}

/// A consistent copy of vCPU 0's time information.
pub fn info() -> VcpuTimeInfo {
    info_at(event::vcpu_info(0) + 32)
}

/// A consistent copy of the time information at an address.
pub fn info_at(address: u64) -> VcpuTimeInfo {
    loop {
        let version: u32 = memory::read(address);
        let info: VcpuTimeInfo = memory::read(address);
        if version & 1 == 0 && memory::read::<u32>(address) == version {
            return info;
        }
    }
}

/// System time in nanoseconds since Xen's start at TSC `tsc`, by `info`.
pub fn convert(info: &VcpuTimeInfo, tsc: u64) -> u64 {
    let delta = tsc.wrapping_sub(info.tsc_timestamp);
    let delta = if info.tsc_shift >= 0 { delta << info.tsc_shift } else { delta >> -info.tsc_shift };
    let scaled = (u128::from(delta) * u128::from(info.tsc_to_system_mul)) >> 32;
    info.system_time.wrapping_add(scaled as u64)
}

/// System time in nanoseconds.
pub fn now() -> u64 {
    loop {
        let (before, tsc) = (info(), cpu::tsc());
        if memory::read::<u32>(event::vcpu_info(0) + 32) == before.version {
            return convert(&before, tsc);
        }
    }
}

/// The TSC value `ms` milliseconds from now.
pub fn deadline_ms(ms: u64) -> u64 {
    cpu::tsc() + ms * TSC_PER_2_20_NS.load(Ordering::Relaxed)
}

/// Whether a deadline has passed.
pub fn passed(deadline: u64) -> bool {
    cpu::tsc() > deadline
}

/// Sleeps in the hypervisor, so that other domains run.
pub fn sleep_ms(ms: u64) {
    hypercall::sleep_until(now() + ms * 1_000_000);
}

/// Spins.
pub fn spin_ms(ms: u64) {
    let deadline = deadline_ms(ms);
    while !passed(deadline) {
        cpu::pause();
    }
}

/// Waits with interrupts on, giving way to other domains, until the condition holds; false after `ms` milliseconds.
pub fn wait(ms: u64, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = deadline_ms(ms);
    loop {
        cpu::sti();
        cpu::cli();
        if condition() {
            return true;
        }
        if passed(deadline) {
            return false;
        }
        hypercall::yield_now();
    }
}

/// Waits with interrupts on without ever leaving the CPU to others; false after `ms` milliseconds.
pub fn spin(ms: u64, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = deadline_ms(ms);
    loop {
        cpu::sti();
        cpu::cli();
        if condition() {
            return true;
        }
        if passed(deadline) {
            return false;
        }
        cpu::pause();
    }
}
