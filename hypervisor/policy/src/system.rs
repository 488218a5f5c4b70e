//! The policies of this machine, derived once.

use spin::Once;
use xen_abi::Errno;

use crate::build::Machine;
use crate::features::FeatureSet;
use crate::leaves::Policy;

struct System {
    raw: Policy,
    host: Policy,
    guest_max: Policy,
    guest_default: Policy,
    hardware_domain: Policy,
}

static SYSTEM: Once<System> = Once::new();

fn system() -> &'static System {
    SYSTEM.call_once(|| {
        let machine = Machine {
            cpuid: &|leaf, subleaf| {
                let r = radon_hw::cpuid::leaf(leaf, subleaf);
                [r.eax, r.ebx, r.ecx, r.edx]
            },
            arch_caps: radon_hw::msr::try_read(0x10a).unwrap_or(0),
            xcr0: radon_hw::fpu::max_xcr0(),
            tsc_khz: u32::try_from(radon_hw::time::tsc_khz()).unwrap_or(u32::MAX),
        };
        let host = Policy::host_of(&machine);
        System {
            raw: Policy::raw_of(&machine),
            guest_max: Policy::guest_max_of(&host),
            guest_default: Policy::guest_default_of(&host),
            hardware_domain: Policy::hardware_domain_of(&host),
            host,
        }
    })
}

impl Policy {
    /// The processor as the hypervisor knows it.
    pub fn host() -> Policy {
        system().host.clone()
    }

    /// dom0's.
    pub fn hardware_domain() -> Policy {
        system().hardware_domain.clone()
    }

    /// The most a guest can have.
    pub fn guest_max() -> &'static Policy {
        &system().guest_max
    }

    /// A new guest's.
    pub fn guest_default() -> Policy {
        system().guest_default.clone()
    }

    /// The policy with an index of `XEN_SYSCTL_get_cpu_policy`: 0 raw, 1 host, 3 HVM max, 5 HVM default.
    /// `EOPNOTSUPP` for PV's (2, 4), `EINVAL` beyond.
    pub fn of_index(index: u32) -> Result<&'static Policy, Errno> {
        let s = system();
        match index {
            0 => Ok(&s.raw),
            1 => Ok(&s.host),
            3 => Ok(&s.guest_max),
            5 => Ok(&s.guest_default),
            2 | 4 => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The features with an index of `XEN_SYSCTL_get_cpu_featureset`: 0 raw, 1 host, 3 HVM, 5 HVM max.
    /// `EOPNOTSUPP` for PV's (2, 4), `EINVAL` beyond.
    pub fn featureset_of_index(index: u32) -> Result<FeatureSet, Errno> {
        let policy = match index {
            3 => 5,
            5 => 3,
            other => other,
        };
        Ok(Policy::of_index(policy)?.features())
    }
}
