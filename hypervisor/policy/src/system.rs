//! The policies of this machine, derived once.

use spin::Once;
use xen_abi::Errno;
use xen_abi::featureset::X86_FEATURES;

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

/// What the command line (`cpuid=`, `dom0-cpuid=`) changes.
#[derive(Clone, Copy, Debug, Default)]
struct Changes {
    /// Features that nobody gets.
    removed: FeatureSet,
    /// Features that dom0 gets beyond its default, where guests can have them at all.
    dom0_added: FeatureSet,
    /// Features that dom0 does not get.
    dom0_removed: FeatureSet,
}

static CHANGES: Once<Changes> = Once::new();

/// The feature of this name: as in the toolstack, in lower case, words joined by `-`.
pub fn feature(name: &str) -> Option<u32> {
    let same = |known: &str| {
        let known = known.strip_prefix("X86_FEATURE_").unwrap_or(known);
        known.len() == name.len()
            && known.bytes().zip(name.bytes()).all(|(k, n)| {
                let n = if n == b'-' { b'_' } else { n.to_ascii_uppercase() };
                k == n
            })
    };
    X86_FEATURES.iter().find(|(known, _)| same(known)).and_then(|(_, f)| u32::try_from(*f).ok())
}

/// Takes the command line's changes over, before anybody asks for a policy. `all`: changes for everybody, of which only removals
/// mean something; `dom0`: those for dom0. False, and no effect, if a policy has been made already.
pub fn change(all: &[(u32, bool)], dom0: &[(u32, bool)]) -> bool {
    let pick = |list: &[(u32, bool)], on: bool| {
        let mut set = FeatureSet::default();
        list.iter().filter(|(_, o)| *o == on).for_each(|(f, _)| set.set(*f, true));
        set
    };
    let changes =
        Changes { removed: pick(all, false), dom0_added: pick(dom0, true), dom0_removed: pick(dom0, false) };
    CHANGES.call_once(|| changes);
    SYSTEM.get().is_none()
}

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
        let changes = CHANGES.get().copied().unwrap_or_default();
        let host = Policy::host_of(&machine).reduced(&changes.removed);
        let guest_max = Policy::guest_max_of(&host);
        let hardware_domain = Policy::hardware_domain_of(&host);
        System {
            raw: Policy::raw_of(&machine),
            guest_default: Policy::guest_default_of(&host),
            hardware_domain: hardware_domain.adjusted(&changes.dom0_added, &changes.dom0_removed, &guest_max),
            guest_max,
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
