//! Time as guests see it: the record in `vcpu_info`, the wall clock in `shared_info`, and the run-state area.

use alloc::sync::Arc;
use core::sync::atomic::{Ordering, fence};

use radon_addr::{Gva, Maddr, Ns};
use radon_hw::{mem, time};
use xen_abi::compat::{CompatArchSharedInfo, CompatSharedInfo, CompatVcpuRunstateInfo};
use xen_abi::vcpu::{VcpuRunstateInfo, XEN_RUNSTATE_UPDATE};
use xen_abi::xen::{VcpuTimeInfo, XEN_PVCLOCK_TSC_STABLE_BIT};
use zerocopy::FromZeros;

use crate::context::Context;
use crate::domain::Domain;
use crate::guest_access::{self, AddressSpace};
use crate::layout;
use crate::vcpu::Vcpu;

/// Offset of `time` in `struct vcpu_info` (64-bit layout; the 32-bit one agrees).
const TIME_OFFSET: u64 = 32;
/// Offsets of the wall clock in `struct shared_info` and of `wc_sec_hi`, 64-bit and 32-bit.
const WALL_CLOCK_64: (u64, u64) = (0xc00, 0xc0c);
const WALL_CLOCK_32: (u64, u64) = (
    core::mem::offset_of!(CompatSharedInfo, wc_version) as u64,
    (core::mem::offset_of!(CompatSharedInfo, arch) + core::mem::offset_of!(CompatArchSharedInfo, wc_sec_hi))
        as u64,
);

/// Writes the vCPU's clock record where the guest looks for it: in `vcpu_info`, and in the area it registered.
pub fn publish(domain: &Domain, vcpu: &Arc<Vcpu>, context: &Context) {
    let record = record(context);
    if let Some(info) = vcpu.vcpu_info() {
        write_record(Maddr::new(info.raw() + TIME_OFFSET), record);
    }
    let area = vcpu.time_area.load(Ordering::Relaxed);
    if area != 0 {
        copy_record(domain, &AddressSpace::of(context), area, record);
    }
}

/// The clock now: guest time = system_time + (guest TSC - tsc_timestamp) scaled.
fn record(context: &Context) -> VcpuTimeInfo {
    let scale = time::scale();
    let (now, tsc) = time::now_and_tsc();
    VcpuTimeInfo {
        tsc_timestamp: tsc.wrapping_add(context.backend.tsc_offset()),
        system_time: now.raw(),
        tsc_to_system_mul: scale.mul,
        tsc_shift: scale.shift,
        // One TSC, one scale for all pCPUs.
        flags: XEN_PVCLOCK_TSC_STABLE_BIT,
        ..VcpuTimeInfo::new_zeroed()
    }
}

/// An odd version says that the record is being written.
fn write_record(at: Maddr, record: VcpuTimeInfo) {
    let version = mem::read::<u32>(at) | 1;
    mem::write(at, &version);
    fence(Ordering::SeqCst);
    mem::write(at, &VcpuTimeInfo { version, ..record });
    fence(Ordering::SeqCst);
    mem::write(at, &version.wrapping_add(1));
}

/// The same in the guest's own memory, by an address that is the guest's affair: if it is bad, nothing is written.
fn copy_record(domain: &Domain, space: &AddressSpace, area: u64, record: VcpuTimeInfo) {
    let at = Gva::new(area);
    let _ = (|| {
        let version = guest_access::read::<u32>(domain, space, at)? | 1;
        guest_access::write(domain, space, at, &version)?;
        fence(Ordering::SeqCst);
        guest_access::write(domain, space, at, &VcpuTimeInfo { version, ..record })?;
        fence(Ordering::SeqCst);
        guest_access::write(domain, space, at, &version.wrapping_add(1))?;
        Ok::<(), xen_abi::Errno>(())
    })();
}

/// Writes the wall clock (time of day at system time 0) of one domain.
pub fn publish_wall_clock(domain: &Domain) {
    let base = domain.shared_info.maddr().raw();
    let (clock, high) = if layout::is_compat(domain) { WALL_CLOCK_32 } else { WALL_CLOCK_64 };
    let at = base + clock;
    let ns = time::wall_clock_at_boot_ns();
    let offset = domain.time_offset_s.load(Ordering::Relaxed) as i64;
    let seconds = (ns / 1_000_000_000).wrapping_add_signed(offset);
    let version = mem::read::<u32>(Maddr::new(at)) | 1;
    mem::write(Maddr::new(at), &version);
    fence(Ordering::SeqCst);
    mem::write(Maddr::new(at + 4), &(seconds as u32));
    mem::write(Maddr::new(at + 8), &((ns % 1_000_000_000) as u32));
    mem::write(Maddr::new(base + high), &((seconds >> 32) as u32));
    fence(Ordering::SeqCst);
    mem::write(Maddr::new(at), &version.wrapping_add(1));
}

/// Copies the run-state to the area the guest registered, if any.
pub fn publish_runstate(domain: &Domain, vcpu: &Arc<Vcpu>, context: &Context) {
    let (area, state, entered, times) = {
        let clock = vcpu.runstate.lock();
        let Some(area) = clock.area else { return };
        let (state, entered, times) = clock.published();
        (area, state, entered, times)
    };
    write_runstate(domain, &AddressSpace::of(context), area, state as u32, entered, times);
}

fn write_runstate(
    domain: &Domain,
    space: &AddressSpace,
    area: u64,
    state: u32,
    entered: Ns,
    times: [u64; 4],
) {
    let mut record =
        VcpuRunstateInfo { state: state as i32, _pad: [0; 4], state_entry_time: entered.raw(), time: times };
    let flag = domain.runstate_update_flag.load(Ordering::Relaxed);
    let compat = layout::is_compat(domain);
    let entry_at = area.wrapping_add(if compat { 4 } else { 8 });
    // A guest that unmapped its own area only loses the update.
    let _ = (|| {
        if flag {
            record.state_entry_time |= XEN_RUNSTATE_UPDATE;
            guest_access::write(domain, space, Gva::new(entry_at), &record.state_entry_time)?;
            fence(Ordering::SeqCst);
        }
        if compat {
            guest_access::write(domain, space, Gva::new(area), &CompatVcpuRunstateInfo::from(record))?;
        } else {
            guest_access::write(domain, space, Gva::new(area), &record)?;
        }
        fence(Ordering::SeqCst);
        if flag {
            guest_access::write(domain, space, Gva::new(entry_at), &entered.raw())?;
        }
        Ok::<(), xen_abi::Errno>(())
    })();
}
