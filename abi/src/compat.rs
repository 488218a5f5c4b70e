//! Layouts of a 32-bit caller, where they differ from the native ones.
//!
//! On i386 `unsigned long`, frame numbers and pointers are 4 bytes wide and no field is aligned to more than 4 bytes.
//! Structures not listed here (event channels, most HVM operations) are the same for both. Each structure converts
//! [`From`] and into its native form; into the 32-bit form, values are truncated as Xen does.
//!
//! **Arrays keep their element width**: a converted `Handle<u64>` of frames still points to `u32` elements in the
//! memory of a 32-bit caller (`extent_start`, `idxs`, `gpfns`, `frame_list`), so the code that walks it must know.

use core::marker::PhantomData;

use crate::{
    e820::E820Entry,
    grant_table::{GnttabCopy, GnttabCopyPtr, GnttabGetStatusFrames, GnttabSetupTable, GnttabTransfer},
    handle::Handle,
    macros::c_struct,
    memory::{
        AddToPhysmap, AddToPhysmapBatch, ForeignMemoryMap, MemAcquireResource, MemoryExchange, MemoryMap,
        MemoryReservation, PodTarget, RemoveFromPhysmap, VnumaTopologyInfo,
    },
    physdev::{PhysdevApic, PhysdevMapPirq, PhysdevPirqEoiGmfn, PhysdevSetIobitmap},
    sched::SchedPoll,
    vcpu::{VcpuRunstateInfo, VcpuSetSingleshotTimer},
    version::PlatformParameters,
    xen::{MulticallEntry, VcpuTimeInfo, XEN_LEGACY_MAX_VCPUS},
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// A [`Handle`] of a 32-bit caller.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct CompatHandle<T>(u32, PhantomData<T>);

impl<T> CompatHandle<T> {
    /// Wraps a linear address.
    pub const fn new(address: u32) -> Self {
        Self(address, PhantomData)
    }

    /// The linear address.
    pub const fn raw(self) -> u32 {
        self.0
    }
}

impl<T> Clone for CompatHandle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for CompatHandle<T> {}

impl<T> PartialEq for CompatHandle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for CompatHandle<T> {}

impl<T> core::fmt::Debug for CompatHandle<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "CompatHandle({:#x})", self.0)
    }
}

impl<T, U> From<CompatHandle<T>> for Handle<U> {
    fn from(handle: CompatHandle<T>) -> Self {
        Self::new(handle.0.into())
    }
}

/// Conversion into the form of a 32-bit caller, truncating.
trait Narrow<T> {
    fn narrow(self) -> T;
}

macro_rules! narrow_as_is {
    ($($t:ty),*) => { $(impl Narrow<$t> for $t { fn narrow(self) -> $t { self } })* };
}
narrow_as_is!(u16, i16, u32, i32, u64, [u64; 4]);

impl Narrow<u32> for u64 {
    fn narrow(self) -> u32 {
        self as u32
    }
}

impl Narrow<[u32; 6]> for [u64; 6] {
    fn narrow(self) -> [u32; 6] {
        self.map(|v| v as u32)
    }
}

impl<T, U> Narrow<CompatHandle<U>> for Handle<T> {
    fn narrow(self) -> CompatHandle<U> {
        CompatHandle::new(self.raw() as u32)
    }
}

/// Conversion of one value of a 32-bit caller into its native form.
trait Widen<T> {
    fn widen(self) -> T;
}

impl<T, U: From<T>> Widen<U> for T {
    fn widen(self) -> U {
        self.into()
    }
}

macro_rules! convert {
    ($compat:ident <=> $native:ident { $($field:ident),* }) => {
        #[allow(clippy::needless_update, reason = "not every structure has padding")]
        impl From<$compat> for $native {
            fn from(v: $compat) -> Self {
                Self { $($field: Widen::widen(v.$field),)* ..Self::new_zeroed() }
            }
        }

        #[allow(clippy::needless_update, reason = "not every structure has padding")]
        impl From<$native> for $compat {
            fn from(v: $native) -> Self {
                Self { $($field: Narrow::narrow(v.$field),)* ..Self::new_zeroed() }
            }
        }

        impl Narrow<$compat> for $native {
            fn narrow(self) -> $compat {
                self.into()
            }
        }
    };
}

c_struct! { @packed4
    /// [`MulticallEntry`].
    pub struct CompatMulticallEntry = "struct multicall_entry", 32 {
        op: u32,
        result: u32,
        args: [u32; 6],
    }

    /// [`ArchVcpuInfo`](crate::xen::ArchVcpuInfo).
    pub struct CompatArchVcpuInfo = "struct arch_vcpu_info", 24 {
        cr2: u32,
        _pad: [u32; 5],
    }

    /// [`VcpuInfo`](crate::xen::VcpuInfo).
    pub struct CompatVcpuInfo = "struct vcpu_info", 64 {
        evtchn_upcall_pending: u8,
        evtchn_upcall_mask: u8,
        _pad0: [u8; 2],
        evtchn_pending_sel: u32,
        arch: CompatArchVcpuInfo,
        time: VcpuTimeInfo,
    }

    /// [`ArchSharedInfo`](crate::xen::ArchSharedInfo), with the high half of the wall clock's seconds.
    pub struct CompatArchSharedInfo = "struct arch_shared_info", 28 {
        max_pfn: u32,
        pfn_to_mfn_frame_list_list: u32,
        nmi_reason: u32,
        p2m_cr3: u32,
        p2m_vaddr: u32,
        p2m_generation: u32,
        wc_sec_hi: u32,
    }

    /// [`SharedInfo`](crate::xen::SharedInfo): 1024 event channels.
    pub struct CompatSharedInfo = "struct shared_info", 2344 {
        vcpu_info: [CompatVcpuInfo; XEN_LEGACY_MAX_VCPUS],
        evtchn_pending: [u32; 32],
        evtchn_mask: [u32; 32],
        wc_version: u32,
        wc_sec: u32,
        wc_nsec: u32,
        arch: CompatArchSharedInfo,
    }

    /// [`VcpuRunstateInfo`].
    pub struct CompatVcpuRunstateInfo = "struct vcpu_runstate_info", 44 {
        state: i32,
        state_entry_time: u64,
        time: [u64; 4],
    }

    /// [`VcpuSetSingleshotTimer`].
    pub struct CompatVcpuSetSingleshotTimer = "struct vcpu_set_singleshot_timer", 12 {
        timeout_abs_ns: u64,
        flags: u32,
    }

    /// [`SchedPoll`].
    pub struct CompatSchedPoll = "struct sched_poll", 16 {
        ports: CompatHandle<u32>,
        nr_ports: u32,
        timeout: u64,
    }

    /// [`PlatformParameters`].
    pub struct CompatPlatformParameters = "struct xen_platform_parameters", 4 {
        virt_start: u32,
    }

    /// [`MemoryReservation`].
    pub struct CompatMemoryReservation = "struct xen_memory_reservation", 20 {
        extent_start: CompatHandle<u32>,
        nr_extents: u32,
        extent_order: u32,
        mem_flags: u32,
        domid: u16,
        _pad: [u8; 2],
    }

    /// [`MemoryExchange`].
    pub struct CompatMemoryExchange = "struct xen_memory_exchange", 44 {
        input ("in"): CompatMemoryReservation,
        out: CompatMemoryReservation,
        nr_exchanged: u32,
    }

    /// [`AddToPhysmap`].
    pub struct CompatAddToPhysmap = "struct xen_add_to_physmap", 16 {
        domid: u16,
        size: u16,
        space: u32,
        idx: u32,
        gpfn: u32,
    }

    /// [`AddToPhysmapBatch`].
    pub struct CompatAddToPhysmapBatch = "struct xen_add_to_physmap_batch", 20 {
        domid: u16,
        space: u16,
        size: u16,
        foreign_domid ("u.foreign_domid"): u16,
        idxs: CompatHandle<u32>,
        gpfns: CompatHandle<u32>,
        errs: CompatHandle<i32>,
    }

    /// [`RemoveFromPhysmap`].
    pub struct CompatRemoveFromPhysmap = "struct xen_remove_from_physmap", 8 {
        domid: u16,
        _pad: [u8; 2],
        gpfn: u32,
    }

    /// [`MemoryMap`]; the entries are the same.
    pub struct CompatMemoryMap = "struct xen_memory_map", 8 {
        nr_entries: u32,
        buffer: CompatHandle<E820Entry>,
    }

    /// [`ForeignMemoryMap`].
    pub struct CompatForeignMemoryMap = "struct xen_foreign_memory_map", 12 {
        domid: u16,
        _pad: [u8; 2],
        map: CompatMemoryMap,
    }

    /// [`PodTarget`].
    pub struct CompatPodTarget = "struct xen_pod_target", 36 {
        target_pages: u64,
        tot_pages: u64,
        pod_cache_pages: u64,
        pod_entries: u64,
        domid: u16,
        _pad: [u8; 2],
    }

    /// [`MemAcquireResource`].
    pub struct CompatMemAcquireResource = "struct xen_mem_acquire_resource", 28 {
        domid: u16,
        kind ("type"): u16,
        id: u32,
        nr_frames: u32,
        _pad: u32,
        frame: u64,
        frame_list: CompatHandle<u32>,
    }

    /// [`VnumaTopologyInfo`].
    pub struct CompatVnumaTopologyInfo = "struct xen_vnuma_topology_info", 40 {
        domid: u16,
        _pad: u16,
        nr_vnodes: u32,
        nr_vcpus: u32,
        nr_vmemranges: u32,
        vdistance ("vdistance.h"): CompatHandle<u32>,
        _pad0: u32,
        vcpu_to_vnode ("vcpu_to_vnode.h"): CompatHandle<u32>,
        _pad1: u32,
        vmemrange ("vmemrange.h"): CompatHandle<crate::memory::Vmemrange>,
        _pad2: u32,
    }

    /// [`GnttabSetupTable`].
    pub struct CompatGnttabSetupTable = "struct gnttab_setup_table", 16 {
        dom: u16,
        _pad0: [u8; 2],
        nr_frames: u32,
        status: i16,
        _pad1: [u8; 2],
        frame_list: CompatHandle<u32>,
    }

    /// [`GnttabTransfer`].
    pub struct CompatGnttabTransfer = "struct gnttab_transfer", 16 {
        mfn: u32,
        domid: u16,
        _pad0: [u8; 2],
        gref ("ref"): u32,
        status: i16,
        _pad1: [u8; 2],
    }

    /// [`GnttabCopyPtr`].
    pub struct CompatGnttabCopyPtr = "struct gnttab_copy_ptr", 8 {
        u: u32,
        domid: u16,
        offset: u16,
    }

    /// [`GnttabCopy`].
    pub struct CompatGnttabCopy = "struct gnttab_copy", 24 {
        source: CompatGnttabCopyPtr,
        dest: CompatGnttabCopyPtr,
        len: u16,
        flags: u16,
        status: i16,
        _pad: [u8; 2],
    }

    /// [`GnttabGetStatusFrames`]; its frames are 64 bits wide here too.
    pub struct CompatGnttabGetStatusFrames = "struct gnttab_get_status_frames", 12 {
        nr_frames: u32,
        dom: u16,
        status: i16,
        frame_list: CompatHandle<u64>,
    }

    /// [`PhysdevPirqEoiGmfn`].
    pub struct CompatPhysdevPirqEoiGmfn = "struct physdev_pirq_eoi_gmfn", 4 {
        gmfn: u32,
    }

    /// [`PhysdevSetIobitmap`].
    pub struct CompatPhysdevSetIobitmap = "struct physdev_set_iobitmap", 8 {
        bitmap: CompatHandle<u8>,
        nr_ports: u32,
    }

    /// [`PhysdevApic`].
    pub struct CompatPhysdevApic = "struct physdev_apic", 12 {
        apic_physbase: u32,
        reg: u32,
        value: u32,
    }

    /// [`PhysdevMapPirq`].
    pub struct CompatPhysdevMapPirq = "struct physdev_map_pirq", 36 {
        domid: u16,
        _pad0: [u8; 2],
        kind ("type"): i32,
        index: i32,
        pirq: i32,
        bus: i32,
        devfn: i32,
        entry_nr: i32,
        table_base: u64,
    }
}

convert!(CompatVcpuRunstateInfo <=> VcpuRunstateInfo { state, state_entry_time, time });
convert!(CompatVcpuSetSingleshotTimer <=> VcpuSetSingleshotTimer { timeout_abs_ns, flags });
convert!(CompatSchedPoll <=> SchedPoll { ports, nr_ports, timeout });
convert!(CompatPlatformParameters <=> PlatformParameters { virt_start });
convert!(CompatMemoryReservation <=> MemoryReservation { extent_start, nr_extents, extent_order, mem_flags, domid });
convert!(CompatMemoryExchange <=> MemoryExchange { input, out, nr_exchanged });
convert!(CompatAddToPhysmap <=> AddToPhysmap { domid, size, space, idx, gpfn });
convert!(CompatAddToPhysmapBatch <=> AddToPhysmapBatch { domid, space, size, foreign_domid, idxs, gpfns, errs });
convert!(CompatRemoveFromPhysmap <=> RemoveFromPhysmap { domid, gpfn });
convert!(CompatMemoryMap <=> MemoryMap { nr_entries, buffer });
convert!(CompatForeignMemoryMap <=> ForeignMemoryMap { domid, map });
convert!(CompatPodTarget <=> PodTarget { target_pages, tot_pages, pod_cache_pages, pod_entries, domid });
convert!(CompatMemAcquireResource <=> MemAcquireResource { domid, kind, id, nr_frames, _pad, frame, frame_list });
convert!(CompatVnumaTopologyInfo <=> VnumaTopologyInfo {
    domid, _pad, nr_vnodes, nr_vcpus, nr_vmemranges, vdistance, vcpu_to_vnode, vmemrange
});
convert!(CompatGnttabSetupTable <=> GnttabSetupTable { dom, nr_frames, status, frame_list });
convert!(CompatGnttabTransfer <=> GnttabTransfer { mfn, domid, gref, status });
convert!(CompatGnttabCopyPtr <=> GnttabCopyPtr { u, domid, offset });
convert!(CompatGnttabCopy <=> GnttabCopy { source, dest, len, flags, status });
convert!(CompatGnttabGetStatusFrames <=> GnttabGetStatusFrames { nr_frames, dom, status, frame_list });
convert!(CompatPhysdevPirqEoiGmfn <=> PhysdevPirqEoiGmfn { gmfn });
convert!(CompatPhysdevSetIobitmap <=> PhysdevSetIobitmap { bitmap, nr_ports });
convert!(CompatPhysdevApic <=> PhysdevApic { apic_physbase, reg, value });
convert!(CompatPhysdevMapPirq <=> PhysdevMapPirq { domid, kind, index, pirq, bus, devfn, entry_nr, table_base });

impl From<CompatMulticallEntry> for MulticallEntry {
    fn from(v: CompatMulticallEntry) -> Self {
        Self { op: v.op.into(), result: v.result.into(), args: { v.args }.map(u64::from) }
    }
}

impl From<MulticallEntry> for CompatMulticallEntry {
    fn from(v: MulticallEntry) -> Self {
        Self { op: v.op.narrow(), result: v.result.narrow(), args: v.args.narrow() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_survives_both_conversions() {
        let compat = CompatMemoryReservation {
            extent_start: CompatHandle::new(0xc010_0000),
            nr_extents: 3,
            extent_order: 9,
            mem_flags: 7,
            domid: 5,
            _pad: [0; 2],
        };
        let native = MemoryReservation::from(compat);
        assert_eq!((native.extent_start.raw(), native.nr_extents, native.domid), (0xc010_0000, 3, 5));
        assert_eq!(CompatMemoryReservation::from(native), compat);
    }

    #[test]
    fn a_negative_result_is_truncated_not_lost() {
        let native = MulticallEntry { op: 12, result: (-14i64) as u64, args: [1, 2, 3, 4, 5, 6] };
        let compat = CompatMulticallEntry::from(native);
        assert_eq!({ compat.result } as i32, -14);
        assert_eq!({ compat.args }, [1, 2, 3, 4, 5, 6]);
    }
}
