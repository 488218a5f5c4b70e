//! `XEN_DOMCTL_createdomain` and `max_vcpus`: a domain begins.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU16, Ordering};

use radon_addr::{DOMID_FIRST_RESERVED, DomId};
use radon_hw::info;
use radon_policy::Policy;
use xen_abi::Errno;
use xen_abi::domctl::{
    Domctl, DomctlCreatedomain, DomctlMaxVcpus, XEN_DOMCTL_CDF_HAP, XEN_DOMCTL_CDF_HVM,
    XEN_DOMCTL_CDF_OOS_OFF, XEN_DOMCTL_CDF_S3_INTEGRITY, XEN_DOMCTL_CDF_XS_DOMAIN,
    XEN_DOMCTL_GRANT_VERSION_MASK, XEN_X86_EMU_LAPIC, XEN_X86_MSR_RELAXED,
};

use super::memory::MIN_TABLES;
use super::{Outcome, Result, not_myself};
use crate::create::{self, MAX_VCPUS};
use crate::domain::{Config, Domain};
use crate::hypercall::Caller;
use crate::{destroy, domains, machine, run};

/// Every domain is HVM with nested paging.
const REQUIRED: u32 = XEN_DOMCTL_CDF_HVM | XEN_DOMCTL_CDF_HAP;
/// Flags without effect here: shadow paging does not exist, and one domain may be xenstore's.
const ACCEPTED: u32 =
    REQUIRED | XEN_DOMCTL_CDF_S3_INTEGRITY | XEN_DOMCTL_CDF_OOS_OFF | XEN_DOMCTL_CDF_XS_DOMAIN;
/// Highest event-channel port that a signed 32-bit number holds.
const PORT_MAX: u32 = i32::MAX as u32;
/// Versions of the grant-table ABI.
const GRANT_VERSIONS: core::ops::RangeInclusive<u32> = 1..=2;

/// Id given out last.
static LAST_ID: AtomicU16 = AtomicU16::new(0);

/// Creates the domain, paused and without vCPUs or memory; returns its id in the header.
pub fn create(op: &mut Domctl) -> Result {
    destroy::reap();
    let asked: DomctlCreatedomain = op.payload();
    let config = checked(&asked).inspect_err(|e| info!("createdomain refused ({e}): {asked:x?}"))?;
    let id = choose_id(op.domain)?;
    run::SCHEDULER.lock().add_domain(id, asked.cpupool_id)?;
    match create::create(id, config, asked.handle, Policy::guest_default()) {
        Ok(domain) => domain.p2m.write().set_table_limit(MIN_TABLES),
        Err(e) => {
            run::SCHEDULER.lock().remove_domain(id);
            return Err(e);
        }
    }
    op.domain = id.raw();
    Ok(Outcome::Back)
}

/// The id wanted, or the next free one after that given out last.
fn choose_id(wanted: u16) -> Result<DomId> {
    if (1..DOMID_FIRST_RESERVED).contains(&wanted) {
        let id = DomId::new(wanted);
        return if domains::find(id).is_none() { Ok(id) } else { Err(Errno::EEXIST) };
    }
    let id = domains::free_id(LAST_ID.load(Ordering::Relaxed)).ok_or(Errno::ENOMEM)?;
    LAST_ID.store(id.raw(), Ordering::Relaxed);
    Ok(id)
}

/// What the toolstack asked for, if this hypervisor offers it (`EINVAL`).
fn checked(c: &DomctlCreatedomain) -> Result<Config> {
    let (frames_limit, track_limit) = machine::facts()
        .map_or((64, 1024), |f| (f.options.gnttab_max_frames, f.options.gnttab_max_maptrack_frames));
    let limit = |asked: i32, most: u32| match u32::try_from(asked) {
        Ok(n) if n > most => Err(Errno::EINVAL),
        Ok(n) => Ok(n),
        Err(_) => Ok(most),
    };
    let version = c.grant_opts & XEN_DOMCTL_GRANT_VERSION_MASK;
    let ok = c.flags & REQUIRED == REQUIRED
        && c.flags & !ACCEPTED == 0
        && c.iommu_opts == 0
        && c.vmtrace_size == 0
        && (1..=MAX_VCPUS).contains(&c.max_vcpus)
        && c.grant_opts & !XEN_DOMCTL_GRANT_VERSION_MASK == 0
        && GRANT_VERSIONS.contains(&version)
        && c.arch.emulation_flags & !XEN_X86_EMU_LAPIC == 0
        && c.arch.misc_flags & !XEN_X86_MSR_RELAXED == 0;
    let max_grant_frames = limit(c.max_grant_frames, frames_limit)?;
    if !ok || max_grant_frames == 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Config {
        max_vcpus: c.max_vcpus,
        max_evtchn_port: c.max_evtchn_port.min(PORT_MAX),
        max_grant_version: version,
        max_grant_frames,
        max_maptrack_frames: limit(c.max_maptrack_frames, track_limit)?,
        flags: c.flags,
        emulation_flags: c.arch.emulation_flags,
        ssidref: c.ssidref,
        hardware: false,
    })
}

/// `XEN_DOMCTL_max_vcpus`: makes the vCPUs, as many as createdomain said, all down.
pub fn max_vcpus(caller: &Caller<'_>, domain: &Arc<Domain>, op: &Domctl) -> Result {
    not_myself(caller, domain)?;
    let asked: DomctlMaxVcpus = op.payload();
    if asked.max != domain.config.max_vcpus {
        return Err(Errno::EINVAL);
    }
    if domain.vcpus().is_empty() {
        create::create_vcpus(domain, asked.max, None)?;
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn pvh() -> DomctlCreatedomain {
        DomctlCreatedomain {
            flags: REQUIRED,
            max_vcpus: 2,
            max_evtchn_port: 1023,
            max_grant_frames: -1,
            max_maptrack_frames: -1,
            grant_opts: 2,
            ..DomctlCreatedomain::new_zeroed()
        }
    }

    #[test]
    fn what_xl_asks_for_is_accepted() {
        let mut c = pvh();
        c.arch.emulation_flags = XEN_X86_EMU_LAPIC;
        let config = checked(&c).unwrap();
        assert_eq!((config.max_grant_frames, config.max_maptrack_frames), (64, 1024));
        assert_eq!(config.max_evtchn_port, 1023);
    }

    #[test]
    fn the_rest_is_refused() {
        let bad: [fn(&mut DomctlCreatedomain); 9] = [
            |c| c.flags = XEN_DOMCTL_CDF_HVM,
            |c| c.flags = 0,
            |c| c.flags |= 1 << 31,
            |c| c.max_vcpus = 0,
            |c| c.max_vcpus = MAX_VCPUS + 1,
            |c| c.max_grant_frames = 0,
            |c| c.grant_opts = 0,
            |c| c.arch.emulation_flags = 0x7ff,
            |c| c.iommu_opts = 1,
        ];
        for spoil in bad {
            let mut c = pvh();
            spoil(&mut c);
            assert_eq!(checked(&c).err(), Some(Errno::EINVAL), "{c:?}");
        }
    }
}
