//! HVM parameters (`hvm/params.h`): numbers that the toolstack and the guest leave for each other.

use xen_abi::Errno;
use xen_abi::hvm_op::{
    HVM_PARAM_ACPI_IOPORTS_LOCATION, HVM_PARAM_ALTP2M, HVM_PARAM_BUFIOREQ_EVTCHN, HVM_PARAM_BUFIOREQ_PFN,
    HVM_PARAM_DM_DOMAIN, HVM_PARAM_IOREQ_PFN, HVM_PARAM_IOREQ_SERVER_PFN, HVM_PARAM_MCA_CAP,
    HVM_PARAM_MEMORY_EVENT_CR0, HVM_PARAM_MEMORY_EVENT_CR3, HVM_PARAM_MEMORY_EVENT_CR4,
    HVM_PARAM_MEMORY_EVENT_INT3, HVM_PARAM_MEMORY_EVENT_MSR, HVM_PARAM_MEMORY_EVENT_SINGLE_STEP,
    HVM_PARAM_NESTEDHVM, HVM_PARAM_NR_IOREQ_SERVER_PAGES, HVM_PARAM_PAE_ENABLED, HVM_PARAM_TIMER_MODE,
    HVM_PARAM_TRIPLE_FAULT_REASON, HVM_PARAM_VIRIDIAN, HVM_PARAM_X87_FIP_WIDTH,
};
use xen_abi::sched::{SHUTDOWN_MAX, SHUTDOWN_REBOOT};

/// Number of parameters (`HVM_NR_PARAMS` rounded up for newer tools).
pub const COUNT: usize = 48;

/// The parameter table of one domain.
pub struct Params {
    values: [u64; COUNT],
}

impl Params {
    /// What a new domain has: a triple fault restarts it, as on a real machine; the rest is zero.
    pub const fn new() -> Params {
        let mut values = [0; COUNT];
        values[HVM_PARAM_TRIPLE_FAULT_REASON as usize] = SHUTDOWN_REBOOT as u64;
        Params { values }
    }
    /// A parameter's value; `None` for an unknown index.
    pub fn get(&self, index: u32) -> Option<u64> {
        self.values.get(index as usize).copied()
    }
    /// Sets it. `EINVAL`: no such parameter or no such value; `EEXIST`: it has another value for good.
    pub fn set(&mut self, index: u32, value: u64) -> Result<(), Errno> {
        let slot = self.values.get_mut(index as usize).ok_or(Errno::EINVAL)?;
        if is_set_once(index) && *slot != 0 && *slot != value {
            return Err(Errno::EEXIST);
        }
        check_value(index, value)?;
        *slot = value;
        Ok(())
    }
}

/// Numbers that have lost their meaning.
pub fn is_deprecated(index: u32) -> bool {
    matches!(
        index,
        HVM_PARAM_PAE_ENABLED
            | HVM_PARAM_DM_DOMAIN
            | HVM_PARAM_MEMORY_EVENT_CR0
            | HVM_PARAM_MEMORY_EVENT_CR3
            | HVM_PARAM_MEMORY_EVENT_CR4
            | HVM_PARAM_MEMORY_EVENT_INT3
            | HVM_PARAM_NESTEDHVM
            | HVM_PARAM_MEMORY_EVENT_SINGLE_STEP
            | HVM_PARAM_BUFIOREQ_EVTCHN
            | HVM_PARAM_MEMORY_EVENT_MSR
    )
}

/// Keeps its first value that is not 0.
fn is_set_once(index: u32) -> bool {
    matches!(
        index,
        HVM_PARAM_VIRIDIAN
            | HVM_PARAM_IOREQ_PFN
            | HVM_PARAM_BUFIOREQ_PFN
            | HVM_PARAM_IOREQ_SERVER_PFN
            | HVM_PARAM_NR_IOREQ_SERVER_PAGES
            | HVM_PARAM_ALTP2M
            | HVM_PARAM_MCA_CAP
    )
}

/// What a parameter can mean at all.
fn check_value(index: u32, value: u64) -> Result<(), Errno> {
    /// `HVMPTM_one_missed_tick_pending`, the last of the timer modes.
    const LAST_TIMER_MODE: u64 = 3;
    /// Bits in the mask of pages that Xen keeps for this.
    const IOREQ_SERVER_PAGES: u64 = 64;
    let ok = match index {
        HVM_PARAM_TIMER_MODE => value <= LAST_TIMER_MODE,
        HVM_PARAM_TRIPLE_FAULT_REASON => value <= u64::from(SHUTDOWN_MAX),
        HVM_PARAM_NR_IOREQ_SERVER_PAGES => (1..=IOREQ_SERVER_PAGES).contains(&value),
        HVM_PARAM_X87_FIP_WIDTH => matches!(value, 0 | 4 | 8),
        // A PVH domain has no PM timer to move.
        HVM_PARAM_ACPI_IOPORTS_LOCATION => return Err(Errno::ENODEV),
        _ => true,
    };
    if ok { Ok(()) } else { Err(Errno::EINVAL) }
}

impl Default for Params {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_parameters_keep_their_first_value() {
        let mut p = Params::new();
        assert_eq!(p.set(HVM_PARAM_IOREQ_SERVER_PFN, 0x111), Ok(()));
        assert_eq!(p.set(HVM_PARAM_IOREQ_SERVER_PFN, 0x111), Ok(()));
        assert_eq!(p.set(HVM_PARAM_IOREQ_SERVER_PFN, 0x222), Err(Errno::EEXIST));
        assert_eq!(p.get(HVM_PARAM_IOREQ_SERVER_PFN), Some(0x111));
    }

    #[test]
    fn a_triple_fault_restarts_unless_said_otherwise() {
        let mut p = Params::new();
        assert_eq!(p.get(HVM_PARAM_TRIPLE_FAULT_REASON), Some(u64::from(SHUTDOWN_REBOOT)));
        assert_eq!(p.set(HVM_PARAM_TRIPLE_FAULT_REASON, 3), Ok(()));
        assert_eq!(p.get(HVM_PARAM_TRIPLE_FAULT_REASON), Some(3));
    }

    #[test]
    fn values_without_meaning_are_refused() {
        let mut p = Params::new();
        assert_eq!(p.set(HVM_PARAM_TIMER_MODE, 4), Err(Errno::EINVAL));
        assert_eq!(p.set(HVM_PARAM_TRIPLE_FAULT_REASON, 6), Err(Errno::EINVAL));
        assert_eq!(p.set(HVM_PARAM_X87_FIP_WIDTH, 5), Err(Errno::EINVAL));
        assert_eq!(p.set(HVM_PARAM_NR_IOREQ_SERVER_PAGES, 0), Err(Errno::EINVAL));
        assert_eq!(p.set(COUNT as u32, 0), Err(Errno::EINVAL));
    }
}
