//! A triple fault ends the domain for the reason that its toolstack chose.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod random;

use radon_addr::VcpuId;
use radon_core::exits;
use radon_cpu::Exit;
use random::world::World;
use xen_abi::hvm_op::HVM_PARAM_TRIPLE_FAULT_REASON;
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_REBOOT};

#[test]
fn it_is_a_restart_unless_the_parameter_says_otherwise() {
    let world = World::new();
    for (id, set, code) in [(1, None, SHUTDOWN_REBOOT), (2, Some(SHUTDOWN_CRASH), SHUTDOWN_CRASH)] {
        let domain = world.domain(id);
        if let Some(value) = set {
            domain.params.lock().set(HVM_PARAM_TRIPLE_FAULT_REASON, u64::from(value)).unwrap();
        }
        let vcpu = domain.vcpu(VcpuId::new(0)).unwrap().clone();
        exits::handle(&domain, &vcpu, &mut vcpu.context.lock(), Exit::Shutdown);
        assert_eq!(domain.shutdown_code().map(u32::from), Some(code));
    }
    world.end();
}
