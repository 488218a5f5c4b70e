//! The toolstack's operations on domains: `domctl` (`xen/include/public/domctl.h`).
#![allow(unsafe_code, reason = "hypercalls")]

use crate::PAGE_SIZE;
use crate::privcmd::{Buffer, Privcmd};
use std::io;
use xen_abi::Handle;
use xen_abi::domctl::*;
use xen_abi::featureset::{CpuidLeaf, MsrEntry};
use xen_abi::hypercall::{HYPERVISOR_DOMCTL, HYPERVISOR_SYSCTL};
use xen_abi::sysctl::*;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Where a call's array begins in its buffer: behind the page with the structure.
const ARRAY: usize = PAGE_SIZE;

/// `ERESTART` of Xen: the operation is not done yet, call again.
const ERESTART: i32 = 85;

/// What a domain is, and what it is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainStatus {
    /// Its number.
    pub domid: u16,
    /// The UUID that its maker gave it.
    pub handle: [u8; 16],
    /// It is being torn down.
    pub dying: bool,
    /// Why it has shut down (`SHUTDOWN_*` of `sched.h`), if it has.
    pub shutdown: Option<u8>,
    /// The toolstack has paused it.
    pub paused: bool,
    /// Pages that it has.
    pub pages: u64,
    /// Pages that it may have.
    pub max_pages: u64,
    /// vCPUs that are online.
    pub online_vcpus: u32,
    /// Processor time in ns.
    pub cpu_time_ns: u64,
}

impl From<DomctlGetdomaininfo> for DomainStatus {
    fn from(info: DomctlGetdomaininfo) -> Self {
        let has = |flag| info.flags & flag != 0;
        let code = info.flags >> XEN_DOMINF_SHUTDOWNSHIFT & XEN_DOMINF_SHUTDOWNMASK;
        Self {
            domid: info.domain,
            handle: info.handle,
            dying: has(XEN_DOMINF_DYING),
            shutdown: has(XEN_DOMINF_SHUTDOWN).then_some(code as u8),
            paused: has(XEN_DOMINF_PAUSED),
            pages: info.tot_pages,
            max_pages: info.max_pages,
            online_vcpus: info.nr_online_vcpus,
            cpu_time_ns: info.cpu_time,
        }
    }
}

/// Memory of the machine in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineMemory {
    /// All of it.
    pub total: u64,
    /// Free.
    pub free: u64,
    /// Free, but not zeroed yet.
    pub scrub: u64,
}

impl Privcmd {
    /// `createdomain`; the number of the new domain.
    pub fn create_domain(&self, config: &DomctlCreatedomain) -> io::Result<u16> {
        // 0 lets Xen choose the number.
        // SAFETY: the structure holds no handle.
        unsafe { self.domctl(XEN_DOMCTL_CREATEDOMAIN, 0, config) }.map(|op| op.domain)
    }

    /// `destroydomain`, to its end. A domain whose frames others still map stays listed as dying.
    pub fn destroy_domain(&self, domid: u16) -> io::Result<()> {
        loop {
            // SAFETY: takes no argument.
            match unsafe { self.domctl(XEN_DOMCTL_DESTROYDOMAIN, domid, &()) } {
                Err(e) if again(&e) => {}
                result => return result.map(drop),
            }
        }
    }

    /// `pausedomain`.
    pub fn pause_domain(&self, domid: u16) -> io::Result<()> {
        // SAFETY: takes no argument.
        unsafe { self.domctl(XEN_DOMCTL_PAUSEDOMAIN, domid, &()) }.map(drop)
    }

    /// `unpausedomain`.
    pub fn unpause_domain(&self, domid: u16) -> io::Result<()> {
        // SAFETY: takes no argument.
        unsafe { self.domctl(XEN_DOMCTL_UNPAUSEDOMAIN, domid, &()) }.map(drop)
    }

    /// `max_vcpus`: makes the vCPUs.
    pub fn set_max_vcpus(&self, domid: u16, max: u32) -> io::Result<()> {
        // SAFETY: the structure holds no handle.
        unsafe { self.domctl(XEN_DOMCTL_MAX_VCPUS, domid, &DomctlMaxVcpus { max }) }.map(drop)
    }

    /// `max_mem`: the most memory it may have, in KiB.
    pub fn set_max_memory(&self, domid: u16, kib: u64) -> io::Result<()> {
        // SAFETY: the structure holds no handle.
        unsafe { self.domctl(XEN_DOMCTL_MAX_MEM, domid, &DomctlMaxMem { max_memkb: kib }) }.map(drop)
    }

    /// `set_paging_mempool_size`: memory for its nested page tables, in bytes (whole pages).
    pub fn set_paging_pool(&self, domid: u16, bytes: u64) -> io::Result<()> {
        let pool = DomctlPagingMempool { size: bytes };
        loop {
            // SAFETY: the structure holds no handle.
            match unsafe { self.domctl(XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, domid, &pool) } {
                Err(e) if again(&e) => {}
                result => return result.map(drop),
            }
        }
    }

    /// `settscinfo` with a mode (0: as Xen chooses).
    pub fn set_tsc_mode(&self, domid: u16, mode: u32) -> io::Result<()> {
        let info = DomctlTscInfo { tsc_mode: mode, ..DomctlTscInfo::new_zeroed() };
        // SAFETY: the structure holds no handle.
        unsafe { self.domctl(XEN_DOMCTL_SETTSCINFO, domid, &info) }.map(drop)
    }

    /// `gettscinfo`: the domain's clock.
    pub fn tsc_info(&self, domid: u16) -> io::Result<DomctlTscInfo> {
        // SAFETY: the structure holds no handle.
        let op = unsafe { self.domctl(XEN_DOMCTL_GETTSCINFO, domid, &DomctlTscInfo::new_zeroed()) }?;
        Ok(op.payload())
    }

    /// `settscinfo`: a clock that goes on from another domain's.
    pub fn set_tsc_info(&self, domid: u16, info: &DomctlTscInfo) -> io::Result<()> {
        // SAFETY: the structure holds no handle.
        unsafe { self.domctl(XEN_DOMCTL_SETTSCINFO, domid, info) }.map(drop)
    }

    /// `resumedomain`: a domain that has shut down goes on.
    pub fn resume_domain(&self, domid: u16) -> io::Result<()> {
        // SAFETY: takes no argument.
        unsafe { self.domctl(XEN_DOMCTL_RESUMEDOMAIN, domid, &()) }.map(drop)
    }

    /// `scheduler_op`: weight and cap (percent of one CPU, 0 for none) under credit2.
    pub fn set_credit2(&self, domid: u16, weight: u16, cap: u16) -> io::Result<()> {
        let mut op = DomctlSchedulerOp {
            sched_id: XEN_SCHEDULER_CREDIT2,
            cmd: XEN_DOMCTL_SCHEDOP_PUTINFO,
            ..DomctlSchedulerOp::new_zeroed()
        };
        op.set_payload(&DomctlSchedCredit2 { weight, cap });
        // SAFETY: this member of the structure's union holds no handle.
        unsafe { self.domctl(XEN_DOMCTL_SCHEDULER_OP, domid, &op) }.map(drop)
    }

    /// `gethvmcontext`: the stream of records (`hvm/save.h`).
    pub fn hvm_context(&self, domid: u16) -> io::Result<Vec<u8>> {
        // SAFETY: a null handle asks for the size.
        let op = unsafe { self.domctl(XEN_DOMCTL_GETHVMCONTEXT, domid, &DomctlHvmcontext::new_zeroed()) }?;
        let size = op.payload::<DomctlHvmcontext>().size;
        let buffer = self.buffer(ARRAY + size as usize)?;
        let argument =
            DomctlHvmcontext { size, buffer: Handle::new(buffer.address(ARRAY)), ..FromZeros::new_zeroed() };
        // SAFETY: the handle's `size` bytes are the buffer's.
        let op = unsafe { self.domctl_in(&buffer, XEN_DOMCTL_GETHVMCONTEXT, domid, &argument) }?;
        let got = op.payload::<DomctlHvmcontext>().size.min(size) as usize;
        Ok(buffer.get_bytes(ARRAY, got))
    }

    /// `sethvmcontext`.
    pub fn set_hvm_context(&self, domid: u16, stream: &[u8]) -> io::Result<()> {
        let buffer = self.buffer(ARRAY + stream.len())?;
        buffer.put_bytes(ARRAY, stream);
        let size = u32::try_from(stream.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let argument =
            DomctlHvmcontext { size, buffer: Handle::new(buffer.address(ARRAY)), ..FromZeros::new_zeroed() };
        // SAFETY: the handle's `size` bytes are the buffer's.
        unsafe { self.domctl_in(&buffer, XEN_DOMCTL_SETHVMCONTEXT, domid, &argument) }.map(drop)
    }

    /// `set_cpu_policy`; the error names what Xen refused.
    pub fn set_cpu_policy(&self, domid: u16, leaves: &[CpuidLeaf], msrs: &[MsrEntry]) -> io::Result<()> {
        let at_msrs = ARRAY + size_of_val(leaves);
        let buffer = self.buffer(at_msrs + size_of_val(msrs))?;
        buffer.put_bytes(ARRAY, leaves.as_bytes());
        buffer.put_bytes(at_msrs, msrs.as_bytes());
        let argument = DomctlCpuPolicy {
            nr_leaves: leaves.len() as u32,
            nr_msrs: msrs.len() as u32,
            leaves: Handle::new(buffer.address(ARRAY)),
            msrs: Handle::new(buffer.address(at_msrs)),
            ..DomctlCpuPolicy::new_zeroed()
        };
        // SAFETY: both arrays are in the buffer.
        match unsafe { self.domctl_in(&buffer, XEN_DOMCTL_SET_CPU_POLICY, domid, &argument) } {
            Ok(_) => Ok(()),
            Err(error) => {
                let refused = buffer.get::<Domctl>(0).payload::<DomctlCpuPolicy>();
                let (leaf, subleaf, msr) = (refused.err_leaf, refused.err_subleaf, refused.err_msr);
                let what = format!("CPUID leaf {leaf:#x}, {subleaf:#x}, MSR {msr:#x}: {error}");
                Err(io::Error::new(error.kind(), what))
            }
        }
    }

    /// `get_cpu_policy` of a domain.
    pub fn cpu_policy(&self, domid: u16) -> io::Result<(Vec<CpuidLeaf>, Vec<MsrEntry>)> {
        // Room for more than Xen 4.17 has of either.
        const MOST: u32 = 256;
        let at_msrs = ARRAY + MOST as usize * size_of::<CpuidLeaf>();
        let buffer = self.buffer(at_msrs + MOST as usize * size_of::<MsrEntry>())?;
        let argument = DomctlCpuPolicy {
            nr_leaves: MOST,
            nr_msrs: MOST,
            leaves: Handle::new(buffer.address(ARRAY)),
            msrs: Handle::new(buffer.address(at_msrs)),
            ..DomctlCpuPolicy::new_zeroed()
        };
        // SAFETY: the buffer has room for both arrays.
        let op = unsafe { self.domctl_in(&buffer, XEN_DOMCTL_GET_CPU_POLICY, domid, &argument) }?;
        let got: DomctlCpuPolicy = op.payload();
        let leaves = 0..got.nr_leaves.min(MOST) as usize;
        let msrs = 0..got.nr_msrs.min(MOST) as usize;
        Ok((
            leaves.map(|n| buffer.get(ARRAY + n * size_of::<CpuidLeaf>())).collect(),
            msrs.map(|n| buffer.get(at_msrs + n * size_of::<MsrEntry>())).collect(),
        ))
    }

    /// `get_cpu_policy` of the machine: one of `XEN_SYSCTL_CPU_POLICY_*`.
    pub fn system_cpu_policy(&self, index: u32) -> io::Result<Vec<CpuidLeaf>> {
        let sizes = SysctlCpuPolicy { index, ..SysctlCpuPolicy::new_zeroed() };
        let small = self.buffer(ARRAY)?;
        // SAFETY: null handles ask for the sizes.
        let op = unsafe { self.sysctl_in(&small, XEN_SYSCTL_GET_CPU_POLICY, &sizes) }?;
        let count = op.payload::<SysctlCpuPolicy>().nr_leaves;
        let buffer = self.buffer(ARRAY + count as usize * size_of::<CpuidLeaf>())?;
        let argument = SysctlCpuPolicy {
            index,
            nr_leaves: count,
            leaves: Handle::new(buffer.address(ARRAY)),
            msrs: Handle::<MsrEntry>::NULL,
            ..SysctlCpuPolicy::new_zeroed()
        };
        // SAFETY: the buffer has room for `count` leaves.
        let op = unsafe { self.sysctl_in(&buffer, XEN_SYSCTL_GET_CPU_POLICY, &argument) }?;
        let got = op.payload::<SysctlCpuPolicy>().nr_leaves.min(count) as usize;
        Ok((0..got).map(|n| buffer.get(ARRAY + n * size_of::<CpuidLeaf>())).collect())
    }

    /// Every domain there is.
    pub fn all_domains(&self) -> io::Result<Vec<DomainStatus>> {
        const BATCH: usize = 128;
        let mut all: Vec<DomainStatus> = Vec::new();
        let mut first = 0;
        loop {
            let batch = self.domain_infos(first, BATCH)?;
            let Some(last) = batch.last().map(|info| info.domain) else { return Ok(all) };
            let full = batch.len() == BATCH;
            all.extend(batch.into_iter().map(DomainStatus::from));
            if !full {
                return Ok(all);
            }
            first = last.saturating_add(1);
        }
    }

    /// One domain, if it exists.
    pub fn domain_status(&self, domid: u16) -> io::Result<Option<DomainStatus>> {
        let found = self.domain_infos(domid, 1)?.into_iter().find(|info| info.domain == domid);
        Ok(found.map(DomainStatus::from))
    }

    /// `getdomaininfolist`: domains from `first` on, at most `most`.
    pub(crate) fn domain_infos(&self, first: u16, most: usize) -> io::Result<Vec<DomctlGetdomaininfo>> {
        let size = size_of::<DomctlGetdomaininfo>();
        let buffer = self.buffer(ARRAY + most * size)?;
        let mut list = SysctlGetdomaininfolist::new_zeroed();
        list.first_domain = first;
        list.max_domains = most as u32;
        list.buffer = Handle::new(buffer.address(ARRAY));
        // SAFETY: the list has room for `most` entries.
        let op = unsafe { self.sysctl_in(&buffer, XEN_SYSCTL_GETDOMAININFOLIST, &list) }?;
        let found = op.payload::<SysctlGetdomaininfolist>().num_domains as usize;
        Ok((0..found.min(most)).map(|n| buffer.get(ARRAY + n * size)).collect())
    }

    /// `physinfo`: the machine's memory.
    pub fn machine_memory(&self) -> io::Result<MachineMemory> {
        let buffer = self.buffer(ARRAY)?;
        // SAFETY: the structure holds no handle.
        let op = unsafe { self.sysctl_in(&buffer, XEN_SYSCTL_PHYSINFO, &SysctlPhysinfo::new_zeroed()) }?;
        let info = op.payload::<SysctlPhysinfo>();
        Ok(MachineMemory { total: info.total_pages, free: info.free_pages, scrub: info.scrub_pages })
    }

    /// `readconsole`: what the hypervisor's log has from an index on, a part of it, and the index behind that.
    pub fn read_console_ring(&self, index: u32) -> io::Result<(Vec<u8>, u32)> {
        const MOST: u32 = 16 << 10;
        let buffer = self.buffer(ARRAY + MOST as usize)?;
        let argument = SysctlReadconsole {
            incremental: 1,
            index,
            buffer: Handle::new(buffer.address(ARRAY)),
            count: MOST,
            ..SysctlReadconsole::new_zeroed()
        };
        // SAFETY: the buffer has room for `count` bytes.
        let op = unsafe { self.sysctl_in(&buffer, XEN_SYSCTL_READCONSOLE, &argument) }?;
        let got: SysctlReadconsole = op.payload();
        Ok((buffer.get_bytes(ARRAY, got.count.min(MOST) as usize), got.index))
    }

    /// # Safety
    /// As [`Privcmd::hypercall`], for the handles in `argument`.
    unsafe fn domctl<T: IntoBytes + Immutable>(&self, cmd: u32, domid: u16, arg: &T) -> io::Result<Domctl> {
        let buffer = self.buffer(ARRAY)?;
        // SAFETY: passed on to the caller.
        unsafe { self.domctl_in(&buffer, cmd, domid, arg) }
    }

    /// # Safety
    /// As [`Privcmd::hypercall`], for the handles in `argument`.
    unsafe fn domctl_in<T: IntoBytes + Immutable>(
        &self,
        buffer: &Buffer,
        cmd: u32,
        domain: u16,
        argument: &T,
    ) -> io::Result<Domctl> {
        let mut op = Domctl {
            cmd,
            interface_version: XEN_DOMCTL_INTERFACE_VERSION,
            domain,
            ..FromZeros::new_zeroed()
        };
        op.set_payload(argument);
        buffer.put(0, &op);
        // SAFETY: the structure lies at the buffer's start; its handles are the caller's promise.
        unsafe { self.hypercall(HYPERVISOR_DOMCTL, [buffer.address(0), 0, 0, 0, 0]) }?;
        Ok(buffer.get(0))
    }

    /// # Safety
    /// As [`Privcmd::hypercall`], for the handles in `argument`.
    unsafe fn sysctl_in<T>(&self, buffer: &Buffer, cmd: u32, argument: &T) -> io::Result<Sysctl>
    where
        T: IntoBytes + Immutable + FromBytes,
    {
        let mut op =
            Sysctl { cmd, interface_version: XEN_SYSCTL_INTERFACE_VERSION, ..FromZeros::new_zeroed() };
        op.set_payload(argument);
        buffer.put(0, &op);
        // SAFETY: the structure lies at the buffer's start; its handles are the caller's promise.
        unsafe { self.hypercall(HYPERVISOR_SYSCTL, [buffer.address(0), 0, 0, 0, 0]) }?;
        Ok(buffer.get(0))
    }
}

/// Whether Xen asks for the same call once more.
fn again(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ERESTART) || error.kind() == io::ErrorKind::WouldBlock
}
