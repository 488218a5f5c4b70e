//! A machine check while a guest runs: it costs the guest its life when its data are lost, the machine when the processor is.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod random;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard};

use radon_addr::VcpuId;
use radon_core::exits;
use radon_cpu::Exit;
use random::world::World;

const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const MC0_STATUS: u32 = 0x401;
const VALID: u64 = 1 << 63;
const UNCORRECTED: u64 = 1 << 61;
const CONTEXT_CORRUPT: u64 = 1 << 57;
const RESUMABLE: u64 = 1;

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

/// Whether the domain is shut down after a machine check with this state of the only bank; `Err` when the hypervisor gave up.
fn machine_check(global: u64, bank: u64) -> std::thread::Result<bool> {
    let _turn = turn();
    let world = World::new();
    let domain = world.domain(1);
    let vcpu = domain.vcpu(VcpuId::new(0)).unwrap().clone();
    for (msr, value) in [(MCG_CAP, 1), (MCG_STATUS, global), (MC0_STATUS, bank)] {
        radon_hw::sim::set_msr(msr, value);
    }
    let exit = Exit::Exception { vector: 18, code: None, address: 0 };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut context = vcpu.context.lock();
        exits::handle(&domain, &vcpu, &mut context, exit);
        assert!(context.pending.is_none(), "the guest is told nothing");
    }));
    let down = domain.shutdown_code().is_some();
    drop((domain, vcpu));
    world.end();
    outcome.map(|()| down)
}

#[test]
fn corrected_errors_change_nothing() {
    assert!(!machine_check(RESUMABLE, VALID).unwrap());
}

#[test]
fn lost_data_end_the_guest() {
    assert!(machine_check(RESUMABLE, VALID | UNCORRECTED).unwrap());
}

#[test]
fn a_corrupt_processor_ends_the_machine() {
    assert!(machine_check(RESUMABLE, VALID | UNCORRECTED | CONTEXT_CORRUPT).is_err());
    assert!(machine_check(0, 0).is_err());
}
