//! Brings up the further CPUs, one at a time.
#![allow(unsafe_code)] // entered from assembly

use crate::{layout, paging, segments};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use radon_addr::{CpuId, Maddr, Ns};
use radon_hw::{apic, console, cpu, cpuid, fpu, mem, time};

/// How long a CPU may take from the start-up IPI to [`ap_main`]; emulators are slow.
const TIMEOUT_NS: u64 = 5_000 * Ns::MS;

/// 1 + the id of the CPU that last reported itself ready.
static READY: AtomicU32 = AtomicU32::new(0);

/// Starts the CPUs with these local APIC ids (the running one is skipped), at most `limit` in all. `page` is a free page
/// below 640 KiB.
pub fn start_others(apic_ids: &[u32], limit: usize, page: Maddr) {
    let code = layout::trampoline();
    mem::copy(page, code.start, (code.end.raw() - code.start.raw()) as usize);
    let own = apic::id();
    for &apic_id in apic_ids.iter().filter(|id| **id != own) {
        let id = CpuId::new(cpu::count() as u32);
        if id.index() >= limit.min(cpu::MAX_CPUS) {
            break;
        }
        if !start(id, apic_id, page) {
            radon_hw::error!("CPU{}: APIC id {apic_id:#x} did not start", id.raw());
            // It may still come, and would then run with the next one's stack.
            apic::send_init(apic_id);
        }
    }
}

/// Is this APIC id the first thread of its core (`smt=no` starts no other)?
pub fn is_first_thread(apic_id: u32) -> bool {
    // Bits of the thread within the core: the extended topology leaf, else AMD's threads per core.
    let topology = cpuid::checked(0xb, 0);
    let bits = if topology.ebx & 0xffff != 0 {
        topology.eax & 0x1f
    } else {
        let threads = (cpuid::checked(0x8000_001e, 0).ebx >> 8 & 0xff) + 1;
        threads.next_power_of_two().trailing_zeros()
    };
    apic_id & (1u32 << bits).wrapping_sub(1) == 0
}

fn start(id: CpuId, apic_id: u32, page: Maddr) -> bool {
    let (tables, stack, cpu_id) = layout::ap_mailbox();
    tables.store(paging::root().raw(), Relaxed);
    stack.store(paging::map_stack(id), Relaxed);
    cpu_id.store(id.raw(), Release);
    let ready = || READY.load(Acquire) == id.raw() + 1;
    let page = page.mfn().raw() as u8;
    // Intel MultiProcessor Specification B.4: INIT, 10 ms, start-up, 200 us, start-up again.
    apic::send_init(apic_id);
    time::busy_wait(10 * Ns::MS);
    apic::send_startup(apic_id, page);
    time::busy_wait(Ns::MS);
    if !ready() {
        apic::send_startup(apic_id, page);
    }
    let until = time::now().saturating_add(TIMEOUT_NS);
    while !ready() {
        if time::now() >= until {
            return false;
        }
        cpu::pause();
    }
    true
}

/// The 64-bit entry of a further CPU, on its own stack.
#[unsafe(no_mangle)]
extern "C" fn ap_main(id: u32) -> ! {
    let id = CpuId::new(id);
    cpu::set_this(id);
    segments::init_this_cpu();
    fpu::init_this_cpu();
    apic::init_this_cpu();
    cpu::register(id, apic::id());
    READY.store(id.raw() + 1, Release);
    crate::run_cpu()
}

/// One line about the CPUs that are up.
pub fn report() {
    let ids: Vec<u32> = (0..cpu::count() as u32).filter_map(|c| cpu::apic_id(CpuId::new(c))).collect();
    console::print(format_args!("Brought up {} CPUs (APIC ids {ids:?})\n", ids.len()));
}
