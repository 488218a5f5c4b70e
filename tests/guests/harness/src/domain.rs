//! A mini toolstack: child domains that run this guest's own image.

use crate::hypercall::{Result, check, domctl, domctl_plain, handle, memory_op, raw};
use crate::memory::{self, PAGE, Page};
use crate::verdict::{Name, Outcome, Place, Test, Verdict, text};
use crate::{boot, mailbox, time};
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use xen_abi::domctl::*;
use xen_abi::hvm_save::*;
use xen_abi::memory::*;
use xen_abi::start_info::{HvmStartInfo, XEN_HVM_START_MAGIC_VALUE};
use xen_abi::xen::DOMID_SELF;
use xen_abi::{Errno, hypercall::HYPERVISOR_MEMORY_OP};
use zerocopy::{FromZeros, IntoBytes};

/// Frame of the start information in a child; its command line is in the same page.
const START_INFO_GFN: u64 = 0x1600;
/// RAM of a child unless told otherwise, in pages.
pub const MEMORY: u64 = 6144;

/// Children alive: domain id and, above it, the frame where its mailbox is mapped here.
static ALIVE: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];

/// What a child shall be.
#[derive(Clone, Copy)]
pub struct Config {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// RAM in pages, from frame 0.
    pub pages: u64,
    /// Where the first vCPU starts, in flat 32-bit mode.
    pub entry: u64,
    /// Flags of [`DomctlCreatedomain`].
    pub flags: u32,
    /// Highest version of its grant table.
    pub grant_version: u32,
    /// Highest event channel it may have, -1 for all that its ABI names.
    pub max_port: i32,
    /// Frames its grant table may have.
    pub grant_frames: i32,
    /// Whether this image is copied into it.
    pub image: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vcpus: 1,
            pages: MEMORY,
            entry: boot::image().entry,
            flags: XEN_DOMCTL_CDF_HVM | XEN_DOMCTL_CDF_HAP,
            grant_version: 2,
            max_port: 1023,
            grant_frames: 8,
            image: true,
        }
    }
}

/// A child domain.
#[derive(Clone, Copy, Debug)]
pub struct Child {
    /// Its id.
    pub domid: u16,
    /// Its mailbox.
    pub mailbox: Page,
}

/// `createdomain` with the configuration's values; returns the id.
pub fn create_bare(config: &Config) -> Result<u16> {
    let mut op = DomctlCreatedomain {
        handle: *b"verdict-guest-16",
        flags: config.flags,
        max_vcpus: config.vcpus,
        max_evtchn_port: config.max_port as u32,
        max_grant_frames: config.grant_frames,
        max_maptrack_frames: 8,
        grant_opts: config.grant_version,
        arch: ArchDomainconfig { emulation_flags: XEN_X86_EMU_LAPIC, misc_flags: 0 },
        ..DomctlCreatedomain::new_zeroed()
    };
    let domid = domctl(XEN_DOMCTL_CREATEDOMAIN, 0, &mut op)?;
    remember(domid, 0);
    Ok(domid)
}

/// A domain with vCPUs and memory, not started, nothing in its memory.
pub fn create_empty(config: &Config) -> Result<u16> {
    let domid = create_bare(config)?;
    domctl(XEN_DOMCTL_MAX_VCPUS, domid, &mut DomctlMaxVcpus { max: config.vcpus })?;
    domctl(XEN_DOMCTL_MAX_MEM, domid, &mut DomctlMaxMem { max_memkb: (config.pages + 256) * 4 })?;
    // As libxl computes it: 1 MiB for each vCPU and a page for each MiB of RAM.
    let pool = (256 * u64::from(config.vcpus) + config.pages / 256) * PAGE;
    domctl(XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, domid, &mut DomctlPagingMempool { size: pool })?;
    populate_all(domid, config.pages)?;
    Ok(domid)
}

fn populate_all(domid: u16, pages: u64) -> Result<()> {
    let mut large: Vec<u64> = (0..pages / 512).map(|n| n * 512).collect();
    let done = populate(domid, &mut large, 9)?;
    let rest = done * 512..pages;
    for start in rest.clone().step_by(256) {
        let mut small: Vec<u64> = (start..rest.end.min(start + 256)).collect();
        let wanted = small.len() as u64;
        if populate(domid, &mut small, 0)? != wanted {
            return Err(Errno::ENOMEM);
        }
    }
    Ok(())
}

/// `XENMEM_populate_physmap`; returns the number of extents populated.
pub fn populate(domid: u16, extents: &mut [u64], extent_order: u32) -> Result<u64> {
    reservation(XENMEM_POPULATE_PHYSMAP, domid, extents, extent_order)
}

/// A memory operation on extents.
pub fn reservation(command: u32, domid: u16, extents: &mut [u64], extent_order: u32) -> Result<u64> {
    if extents.is_empty() {
        return Ok(0);
    }
    let mut op = MemoryReservation {
        extent_start: handle(extents),
        nr_extents: extents.len() as u64,
        extent_order,
        domid,
        ..MemoryReservation::new_zeroed()
    };
    memory_op(command, &mut op)
}

/// Maps frames of another domain at scratch frames in a row; the error of the first that fails.
pub fn map_foreign(domid: u16, gfns: &[u64]) -> Result<Page> {
    let first = memory::scratch(gfns.len() as u64);
    map_foreign_at(domid, gfns, first).map(|()| Page { gfn: first })
}

/// [`map_foreign`] from a given frame on.
pub fn map_foreign_at(foreign_domid: u16, gfns: &[u64], at: u64) -> Result<()> {
    let mut idxs: Vec<u64> = gfns.to_vec();
    let mut gpfns: Vec<u64> = (at..at + gfns.len() as u64).collect();
    let mut errs = vec![1_i32; gfns.len()];
    let mut op = AddToPhysmapBatch {
        domid: DOMID_SELF,
        space: XENMAPSPACE_GMFN_FOREIGN as u16,
        size: gfns.len() as u16,
        foreign_domid,
        idxs: handle(&mut idxs),
        gpfns: handle(&mut gpfns),
        errs: handle(&mut errs),
    };
    memory_op(XENMEM_ADD_TO_PHYSMAP_BATCH, &mut op)?;
    errs.into_iter().try_for_each(|e| check(i64::from(e)).map(|_| ()))
}

/// Undoes [`map_foreign`].
pub fn unmap(at: Page, count: u64) -> Result<()> {
    (at.gfn..at.gfn + count).try_for_each(|gfn| crate::grant::remove_from_physmap(gfn).map(|_| ()))
}

/// Makes a child of this image with that command line, paused.
pub fn create(config: &Config, command_line: &str) -> Result<Child> {
    let domid = create_empty(config)?;
    if config.image {
        load_image(domid)?;
    }
    let page = Page { gfn: memory::SCRATCH_GFN };
    map_foreign_at(domid, &[START_INFO_GFN], page.gfn)?;
    page.fill(0);
    let info = HvmStartInfo {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: 0,
        cmdline_paddr: (START_INFO_GFN << 12) + 256,
        ..HvmStartInfo::new_zeroed()
    };
    page.set_structure(0, &info);
    for (byte, at) in command_line.bytes().zip(256..PAGE - 1) {
        page.set(at, byte);
    }
    unmap(page, 1)?;
    let mailbox = mailbox_window(domid)?;
    map_foreign_at(domid, &[mailbox::GFN], mailbox.gfn)?;
    mailbox.fill(0);
    remember(domid, mailbox.gfn);
    set_registers(domid, config.entry)?;
    Ok(Child { domid, mailbox })
}

fn load_image(domid: u16) -> Result<()> {
    const BATCH: u64 = 32;
    let image = boot::image();
    let window = memory::SCRATCH_GFN;
    let (first, last) = (image.start >> 12, image.file_end.div_ceil(PAGE));
    for start in (first..last).step_by(BATCH as usize) {
        let gfns: Vec<u64> = (start..last.min(start + BATCH)).collect();
        map_foreign_at(domid, &gfns, window)?;
        for (gfn, to) in gfns.iter().zip(window..) {
            let address = gfn << 12;
            // Our own data section has changed since the start.
            let from = if address >= image.data { address - image.data + image.data_copy } else { address };
            memory::copy(to << 12, from, PAGE);
        }
        unmap(Page { gfn: window }, gfns.len() as u64)?;
    }
    Ok(())
}

/// Reads a domain's saved state.
pub fn get_context(domid: u16) -> Result<Vec<u8>> {
    let mut op = DomctlHvmcontext::new_zeroed();
    domctl(XEN_DOMCTL_GETHVMCONTEXT, domid, &mut op)?;
    let mut buffer = vec![0; op.size as usize];
    op.buffer = handle(&mut buffer);
    domctl(XEN_DOMCTL_GETHVMCONTEXT, domid, &mut op)?;
    buffer.truncate(op.size as usize);
    Ok(buffer)
}

/// The bytes of a record in a saved state, without its descriptor.
pub fn record(context: &[u8], typecode: u16, instance: u16) -> Option<&[u8]> {
    let mut rest = context;
    loop {
        let (head, body) = rest.split_at_checked(8)?;
        let field = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (data, next) = body.split_at_checked(len)?;
        if field(0) == typecode && field(2) == instance {
            return Some(data);
        }
        if field(0) == HVM_SAVE_CODE_END {
            return None;
        }
        rest = next;
    }
}

/// Writes records to a domain, with the header from its own state.
pub fn set_context(domid: u16, header: &[u8], records: &[(u16, u16, &[u8])]) -> Result<()> {
    let mut stream = Vec::new();
    let all = [(HVM_SAVE_CODE_HEADER, 0, header)];
    for (typecode, instance, data) in all.iter().chain(records).chain(&[(HVM_SAVE_CODE_END, 0, &[][..])]) {
        let descriptor =
            HvmSaveDescriptor { typecode: *typecode, instance: *instance, length: data.len() as u32 };
        stream.extend_from_slice(descriptor.as_bytes());
        stream.extend_from_slice(data);
    }
    let mut op = DomctlHvmcontext {
        size: stream.len() as u32,
        buffer: handle(&mut stream),
        ..DomctlHvmcontext::new_zeroed()
    };
    domctl(XEN_DOMCTL_SETHVMCONTEXT, domid, &mut op).map(|_| ())
}

/// The state in which a PVH guest starts, entered at `entry`.
pub fn start_registers(entry: u64) -> HvmHwCpu {
    HvmHwCpu {
        rip: entry,
        rbx: START_INFO_GFN << 12,
        rflags: 2,
        cr0: 0x11,
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        cs_limit: u32::MAX,
        ds_limit: u32::MAX,
        es_limit: u32::MAX,
        ss_limit: u32::MAX,
        tr_limit: 0x67,
        cs_arbytes: 0xc9b,
        ds_arbytes: 0xc93,
        es_arbytes: 0xc93,
        ss_arbytes: 0xc93,
        tr_arbytes: 0x8b,
        ..HvmHwCpu::new_zeroed()
    }
}

fn set_registers(domid: u16, entry: u64) -> Result<()> {
    let context = get_context(domid)?;
    let header = record(&context, HVM_SAVE_CODE_HEADER, 0).ok_or(Errno::ENODATA)?;
    if let Some(mtrr) = record(&context, HVM_SAVE_CODE_MTRR, 0) {
        let mut mtrr = mtrr.to_vec();
        let at = mtrr.len() - 8;
        // MTRRs on, default type write-back, as libxl does.
        mtrr[at..].copy_from_slice(&0x806_u64.to_le_bytes());
        set_context(domid, header, &[(HVM_SAVE_CODE_MTRR, 0, &mtrr)])?;
    }
    set_context(domid, header, &[(HVM_SAVE_CODE_CPU, 0, start_registers(entry).as_bytes())])
}

impl Child {
    /// Creates and starts a child that runs one test.
    pub fn test(test: &Test, vcpus: u32) -> Result<Self> {
        let config = Config { vcpus, ..Config::default() };
        let child = create(&config, &text(format_args!("test={}", Name(test.name))))?;
        child.unpause().map(|_| child)
    }

    /// Creates and starts a child that answers calls of services.
    pub fn serving() -> core::result::Result<Self, Outcome> {
        Self::with(&Config::default(), "serve")
    }

    /// Creates and starts a child.
    pub fn with(config: &Config, command_line: &str) -> core::result::Result<Self, Outcome> {
        let child = create(config, command_line)
            .map_err(|e| Outcome::Error(text(format_args!("cannot create a child domain: -{e}"))))?;
        child.unpause()?;
        Ok(child)
    }

    /// `unpausedomain`.
    pub fn unpause(&self) -> Result<u16> {
        domctl_plain(XEN_DOMCTL_UNPAUSEDOMAIN, self.domid)
    }

    /// `pausedomain`.
    pub fn pause(&self) -> Result<u16> {
        domctl_plain(XEN_DOMCTL_PAUSEDOMAIN, self.domid)
    }

    /// `getdomaininfo` of this very domain.
    pub fn info(&self) -> Result<DomctlGetdomaininfo> {
        info(self.domid)
    }

    /// Reason code if the domain has shut down.
    pub fn shutdown_code(&self) -> Option<u32> {
        let flags = self.info().ok()?.flags;
        (flags & XEN_DOMINF_SHUTDOWN != 0)
            .then_some(flags >> XEN_DOMINF_SHUTDOWNSHIFT & XEN_DOMINF_SHUTDOWNMASK)
    }

    /// Waits for the domain's shutdown; the reason code.
    pub fn wait_shutdown(&self, ms: u64) -> core::result::Result<u32, Outcome> {
        let deadline = time::deadline_ms(ms);
        loop {
            if let Some(code) = self.shutdown_code() {
                return Ok(code);
            }
            if time::passed(deadline) {
                return Err(Outcome::Failure(text(format_args!(
                    "the child has not shut down after {ms} ms"
                ))));
            }
            time::sleep_ms(1);
        }
    }

    /// Waits until the condition holds.
    pub fn wait(&self, ms: u64, mut condition: impl FnMut() -> bool) -> Verdict {
        let deadline = time::deadline_ms(ms);
        while !condition() {
            if let Some(code) = self.shutdown_code() {
                return Err(Outcome::Error(text(format_args!("the child shut down, code {code}"))));
            }
            if time::passed(deadline) {
                return Err(Outcome::Error("the child does not answer".into()));
            }
            time::sleep_ms(1);
        }
        Ok(())
    }

    /// Calls a service of a child that serves.
    pub fn call(&self, service: usize, args: [u64; 6]) -> core::result::Result<u64, Outcome> {
        mailbox::begin(self.mailbox, service, args);
        self.wait(10_000, || mailbox::ended(self.mailbox))?;
        Ok(mailbox::result(self.mailbox))
    }

    /// `destroydomain`, and waits until nothing of it is left.
    pub fn destroy(self) -> Verdict {
        if self.mailbox.gfn != 0 {
            unmap(self.mailbox, 1)?;
        }
        forget(self.domid);
        destroy(self.domid)
    }
}

/// `getdomaininfo` of exactly that domain.
pub fn info(domid: u16) -> Result<DomctlGetdomaininfo> {
    let mut info = DomctlGetdomaininfo::new_zeroed();
    match domctl(XEN_DOMCTL_GETDOMAININFO, domid, &mut info)? {
        found if found == domid => Ok(info),
        // Xen answers for the next domain if there is none with that id.
        _ => Err(Errno::ESRCH),
    }
}

/// `destroydomain`, and waits until nothing of the domain is left.
pub fn destroy(domid: u16) -> Verdict {
    domctl_plain(XEN_DOMCTL_DESTROYDOMAIN, domid)?;
    let deadline = time::deadline_ms(3000);
    while info(domid).is_ok() {
        if time::passed(deadline) {
            return Err(Outcome::Failure("a destroyed domain stays".into()));
        }
        time::sleep_ms(1);
    }
    Ok(())
}

/// Destroys what a test left behind.
pub(crate) fn destroy_leftovers() {
    for slot in &ALIVE {
        let child = slot.swap(0, Ordering::Relaxed);
        if child != 0 {
            let mailbox = Page { gfn: child >> 16 };
            let _ = Child { domid: child as u16, mailbox }.destroy();
        }
    }
}

fn remember(domid: u16, mailbox: u64) {
    let known = ALIVE.iter().find(|s| s.load(Ordering::Relaxed) as u16 == domid);
    if let Some(slot) = known.or_else(|| ALIVE.iter().find(|s| s.load(Ordering::Relaxed) == 0)) {
        slot.store(mailbox << 16 | u64::from(domid), Ordering::Relaxed);
    }
}

/// Where the mailbox of a child that is remembered shall be mapped: a frame for each slot, so that this domain's page
/// tables do not grow with the number of children it ever had.
fn mailbox_window(domid: u16) -> Result<Page> {
    let slot = ALIVE.iter().position(|s| s.load(Ordering::Relaxed) as u16 == domid).ok_or(Errno::ENFILE)?;
    Ok(Page { gfn: memory::SCRATCH_GFN + 32 + slot as u64 })
}

fn forget(domid: u16) {
    for slot in ALIVE.iter().filter(|s| s.load(Ordering::Relaxed) as u16 == domid) {
        slot.store(0, Ordering::Relaxed);
    }
}

/// Runs a test in a child domain of its own.
pub fn run_test(test: &Test) -> Verdict {
    let Place::Child(vcpus) = test.place else { return crate::verdict::run(test.run) };
    let child = Child::test(test, vcpus)
        .map_err(|e| Outcome::Error(text(format_args!("cannot create a child domain: -{e}"))))?;
    let deadline = time::deadline_ms(20_000 + 300 * u64::from(vcpus));
    let verdict = loop {
        if let Some(verdict) = mailbox::verdict(child.mailbox) {
            break verdict;
        }
        if let Some(code) = child.shutdown_code() {
            break Err(Outcome::Failure(text(format_args!(
                "the child shut down without a verdict, code {code}"
            ))));
        }
        if time::passed(deadline) {
            break Err(Outcome::Failure("the child gave no verdict in 20 s".into()));
        }
        time::sleep_ms(1);
    };
    child.destroy()?;
    verdict
}

/// A raw memory operation, for tests that pass arguments no structure has.
pub fn memory_op_raw(command: u64, argument: u64) -> Result<u64> {
    check(raw(u64::from(HYPERVISOR_MEMORY_OP), [command, argument, 0, 0, 0]))
}
