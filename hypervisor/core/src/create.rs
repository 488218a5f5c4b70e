//! Making domains and vCPUs.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use radon_addr::{DomId, Maddr, Mfn, VcpuId};
use radon_cmdline::Options;
use radon_evtchn::EventChannels;
use radon_frames::{Kind as FrameKind, Request, frames};
use radon_grant::{GrantTable, MapTrack};
use radon_hw::fpu::FpuState;
use radon_hw::mem;
use radon_p2m::P2m;
use radon_policy::Policy;
use radon_svm::{MsrMap, SvmVcpu};
use radon_vapic::LocalApic;
use spin::Once;
use xen_abi::Errno;

use crate::context::{Context, FetchMemo, Msrs, OwnedFrames};
use crate::domain::{Config, Domain, Parts};
use crate::processor::Processor;
use crate::vcpu::Vcpu;
use crate::{clock, domains, machine, run};

/// vCPUs whose `vcpu_info` has a place in `shared_info` (`XEN_LEGACY_MAX_VCPUS`).
const LEGACY_VCPUS: u32 = 32;
/// Size of `struct vcpu_info`.
const VCPU_INFO_SIZE: u64 = 64;
/// Most vCPUs of one domain.
pub const MAX_VCPUS: u32 = 128;
/// Guest-physical address width offered.
pub const GPA_BITS: u8 = 48;

/// Permission maps shared by all guests.
struct SharedMaps {
    ports: Maddr,
    msrs: Maddr,
}

static MAPS: Once<SharedMaps> = Once::new();

/// Frames of the hypervisor's own.
pub fn heap_frames(order: u8) -> Result<Mfn, Errno> {
    frames().alloc(Request::new(order, DomId::XEN, FrameKind::Heap)).map_err(|_| Errno::ENOMEM)
}

/// An I/O permission map (12 KiB, 16 allocated) that intercepts everything but what `open` names.
pub fn port_map(open: impl Fn(u16) -> bool) -> Result<Maddr, Errno> {
    let base = heap_frames(2)?.maddr();
    let mut bits = alloc::vec![0xffu8; 12 * 1024];
    for port in 0..=u16::MAX {
        if open(port)
            && let Some(byte) = bits.get_mut(usize::from(port / 8))
        {
            *byte &= !(1 << (port % 8));
        }
    }
    mem::write_bytes(base, &bits);
    Ok(base)
}

/// MSRs that a guest reads and writes without an exit: the processor keeps them in the control structure.
const FREE_MSRS: [u32; 11] = [
    0x174,
    0x175,
    0x176,
    0xc000_0081,
    0xc000_0082,
    0xc000_0083,
    0xc000_0084,
    0xc000_0100,
    0xc000_0101,
    0xc000_0102,
    0x277,
];

fn shared_maps() -> Result<&'static SharedMaps, Errno> {
    if let Some(maps) = MAPS.get() {
        return Ok(maps);
    }
    let ports = port_map(|_| false)?;
    let mut msrs = MsrMap::intercept_all(heap_frames(1)?.maddr());
    for msr in FREE_MSRS {
        msrs.allow(msr);
    }
    Ok(MAPS.call_once(|| SharedMaps { ports, msrs: msrs.maddr() }))
}

/// Largest pages of nested page tables. Without 2 MiB pages there are none of 1 GiB either.
fn max_order(options: &Options) -> u8 {
    match (options.hap_2mb, options.hap_1gb) {
        (false, _) => 0,
        (true, false) => 9,
        (true, true) => 18,
    }
}

/// A domain without vCPUs, listed and paused.
pub fn create(id: DomId, config: Config, handle: [u8; 16], policy: Policy) -> Result<Arc<Domain>, Errno> {
    let mut p2m = P2m::new(frames(), id, GPA_BITS).map_err(crate::physmap::p2m_errno)?;
    if let Some(facts) = machine::facts() {
        p2m.set_max_order(max_order(&facts.options));
    }
    let shared_info = frames().alloc(Request::new(0, id, FrameKind::XenShared)).map_err(|_| Errno::ENOMEM)?;
    let mut events = EventChannels::new(id, config.max_vcpus, config.max_evtchn_port)?;
    events.set_shared_info(shared_info.maddr());
    for v in 0..config.max_vcpus.min(LEGACY_VCPUS) {
        let at = shared_info.maddr().raw() + u64::from(v) * VCPU_INFO_SIZE;
        events.set_vcpu_info(VcpuId::new(v), Maddr::new(at))?;
    }
    let grants = GrantTable::new(id, config.max_grant_version, config.max_grant_frames)?;
    let maptrack = MapTrack::new(config.max_maptrack_frames);
    let domain = Arc::new(Domain::new(Parts {
        id,
        config,
        handle,
        p2m,
        events,
        grants,
        maptrack,
        shared_info,
        policy,
    }));
    if !domains::add(&domain) {
        return Err(Errno::EEXIST);
    }
    // As Xen: a table has its first frame from the beginning, for the toolstack's reserved entries.
    domain.grants.lock().grow(1, || crate::grants::new_frame(&domain))?;
    clock::publish_wall_clock(&domain);
    Ok(domain)
}

/// Gives a domain its vCPUs, all down. `ports`: I/O permission map of the hardware domain.
pub fn create_vcpus(domain: &Arc<Domain>, count: u32, ports: Option<Maddr>) -> Result<(), Errno> {
    if count == 0 || count > domain.config.max_vcpus || !domain.vcpus().is_empty() {
        return Err(Errno::EINVAL);
    }
    let mut vcpus = Vec::with_capacity(count as usize);
    for n in 0..count {
        vcpus.push(Arc::new(new_vcpu(domain, VcpuId::new(n), ports)?));
    }
    if !domain.set_vcpus(vcpus.into_boxed_slice()) {
        return Err(Errno::EINVAL);
    }
    let mut scheduler = run::SCHEDULER.lock();
    for v in domain.vcpus() {
        scheduler.add(v.key(), domain.id, v.clone());
    }
    Ok(())
}

fn new_vcpu(domain: &Arc<Domain>, id: VcpuId, ports: Option<Maddr>) -> Result<Vcpu, Errno> {
    let maps = shared_maps()?;
    let root = domain.p2m.read().root().ok_or(Errno::ESRCH)?;
    let svm = machine::facts().map(|f| f.svm).ok_or(Errno::ENODEV)?;
    let vmcb = heap_frames(0)?;
    let backend = SvmVcpu::new(svm, vmcb.maddr(), ports.unwrap_or(maps.ports), maps.msrs, root.maddr())
        .ok_or(Errno::ENOMEM)?;
    let context = Context {
        backend: Processor::Svm(backend),
        control_frame: OwnedFrames::new(vmcb, 0),
        fpu: Box::new(FpuState::new()),
        xcr0: 1,
        pending: None,
        blocking: false,
        settled: false,
        halted: false,
        msrs: Msrs::default(),
        fetch: FetchMemo::default(),
        tlb_generation: 0,
        initialised: false,
        loaded_before: false,
        clock_written: None,
    };
    let apic = LocalApic::new(id.raw().saturating_mul(2), id.raw() == 0, true);
    let vcpu = Vcpu::new(id, domain.id, Arc::downgrade(domain), context, apic);
    if id.raw() < LEGACY_VCPUS {
        let at = domain.shared_info.maddr().raw() + u64::from(id.raw()) * VCPU_INFO_SIZE;
        vcpu.vcpu_info.store(at, core::sync::atomic::Ordering::Release);
    }
    Ok(vcpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_of_the_command_line() {
        let order = |line| max_order(&radon_cmdline::parse(line).0);
        assert_eq!(order(""), 18);
        assert_eq!(order("hap_1gb=0"), 9);
        assert_eq!(order("hap_2mb=0"), 0);
        assert_eq!(order("no-hap_1gb no-hap_2mb"), 0);
    }
}
