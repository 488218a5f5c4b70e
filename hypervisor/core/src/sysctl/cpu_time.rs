//! `XEN_SYSCTL_getcpuinfo`: how long each pCPU has been idle.

use radon_addr::CpuId;
use radon_hw::cpu;
use xen_abi::sysctl::{Sysctl, SysctlCpuinfo, SysctlGetcpuinfo};

use super::Result;
use crate::hypercall::Caller;
use crate::run;

pub fn get(caller: &Caller<'_>, op: &mut Sysctl) -> Result {
    let mut asked: SysctlGetcpuinfo = op.payload();
    let count = asked.max_cpus.min(cpu::count() as u32);
    for i in 0..count {
        let info = SysctlCpuinfo { idletime: run::idle_time_ns(CpuId::new(i)) };
        caller.write(caller.element::<SysctlCpuinfo>(asked.info.raw(), i.into())?, &info)?;
    }
    asked.nr_cpus = count;
    op.set_payload(&asked);
    Ok(())
}
