//! Makes a domain: from nothing to a paused guest with its kernel in memory.
//!
//! In steps, each short. Whoever calls may stop between two of them; what is there by then is found again by the VM's UUID,
//! which the domain carries from its first moment.

use crate::config::Config;
use crate::context;
use crate::error::{Error, Result, XenContext};
use crate::image::{self, Image};
use crate::layout::{Extents, Kib, Layout, PAGE, SPECIAL, SUPERPAGE, paging_pool};
use crate::nodes::{self, Node, Ports};
use crate::policy;
use crate::task::{Progress, Step};
use crate::uuid::Uuid;
use radon_store::client::{self, Tx, Xenstore};
use radon_xen::foreign;
use radon_xen::memory::MapEntry;
use radon_xen::privcmd::Privcmd;
use std::path::Path;
use xen_abi::domctl::{
    ArchDomainconfig, DomctlCreatedomain, XEN_DOMCTL_CDF_HAP, XEN_DOMCTL_CDF_HVM, XEN_X86_EMU_LAPIC,
};
use xen_abi::grant_table::{GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE};
use xen_abi::hvm_op::*;
use xen_abi::sysctl::XEN_SYSCTL_CPU_POLICY_HVM_DEFAULT;

const DOM0: u16 = 0;
/// Frames mapped at a time.
const WINDOW: usize = 512;
/// What a domain may have beyond its RAM: ACPI tables and special pages, rounded up generously (as libxl does).
const SLACK_KIB: u64 = 1024;
/// Limits of a guest, those of Xen 4.17's toolstack.
const MOST_PORTS: u32 = 1023;
const MOST_GRANT_FRAMES: i32 = 64;
const MOST_MAPTRACK_FRAMES: i32 = 1024;
const GRANT_VERSION: u32 = 2;

/// The most memory, in KiB, that the hypervisor is to let a domain have when its balloon target is `memory`.
pub fn memory_limit_kib(memory: Kib) -> u64 {
    memory.get() + SLACK_KIB
}

/// What a domain is started from, read into memory.
#[derive(Debug)]
pub struct Files {
    kernel: Vec<u8>,
    initrd: Option<Vec<u8>>,
}

impl Files {
    /// Reads and unpacks.
    pub fn read(config: &Config) -> Result<Self> {
        let file =
            |path: &Path| std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source });
        let packed = file(&config.kernel)?;
        let kernel = image::unpack(&packed).map_err(|e| bad_image(config, &e))?.into_owned();
        Ok(Self { kernel, initrd: config.initrd.as_deref().map(file).transpose()? })
    }

    fn plan(&self, config: &Config) -> Result<Image<'_>> {
        image::plan(
            &self.kernel,
            self.initrd.as_deref(),
            &config.command_line,
            config.memory_max,
            config.vcpus_max,
        )
        .map_err(|e| bad_image(config, &e))
    }
}

fn bad_image(config: &Config, error: &image::Error) -> Error {
    Error::Image { path: config.kernel.clone(), why: error.to_string() }
}

/// Makes a domain of `config`, paused, its nodes written and its rings introduced; its devices come later. Returns its number.
pub fn build(
    xen: &Privcmd,
    store: &mut Xenstore,
    uuid: Uuid,
    config: &Config,
    progress: &mut dyn Progress,
) -> Result<u16> {
    config.check()?;
    progress.at(Step::ReadFiles)?;
    let files = Files::read(config)?;
    let image = files.plan(config)?;
    progress.at(Step::CreateDomain)?;
    let domid = create(xen, uuid, config)?;
    progress.at(Step::SetLimits)?;
    limits(xen, domid, config)?;
    let default =
        xen.system_cpu_policy(XEN_SYSCTL_CPU_POLICY_HVM_DEFAULT).xen("tell its default CPUID policy")?;
    xen.set_cpu_policy(domid, &policy::for_guest(default), &[]).xen("set the CPUID policy")?;
    progress.at(Step::Populate)?;
    populate(xen, domid, config, &image)?;
    progress.at(Step::Load)?;
    load(xen, domid, &image)?;
    progress.at(Step::Parameters)?;
    let ports = parameters(xen, domid, &image.layout)?;
    registers(xen, domid, config, &image)?;
    introduce(store, domid, uuid, config, ports, progress)?;
    Ok(domid)
}

/// The store learns of a domain.
pub(crate) fn introduce(
    store: &mut Xenstore,
    domid: u16,
    uuid: Uuid,
    config: &Config,
    ports: Ports,
    progress: &mut dyn Progress,
) -> Result<()> {
    progress.at(Step::WriteNodes)?;
    write_domain(store, domid, uuid, &nodes::domain(domid, uuid, config, ports))?;
    progress.at(Step::Introduce)?;
    Ok(store.introduce(domid, SPECIAL.store, ports.store)?)
}

/// A domain without vCPUs, memory or anything.
pub(crate) fn create(xen: &Privcmd, uuid: Uuid, config: &Config) -> Result<u16> {
    let request = DomctlCreatedomain {
        ssidref: 0,
        handle: uuid.bytes(),
        flags: XEN_DOMCTL_CDF_HVM | XEN_DOMCTL_CDF_HAP,
        iommu_opts: 0,
        max_vcpus: config.vcpus_max,
        max_evtchn_port: MOST_PORTS,
        max_grant_frames: MOST_GRANT_FRAMES,
        max_maptrack_frames: MOST_MAPTRACK_FRAMES,
        grant_opts: GRANT_VERSION,
        vmtrace_size: 0,
        cpupool_id: 0,
        arch: ArchDomainconfig { emulation_flags: XEN_X86_EMU_LAPIC, misc_flags: 0 },
    };
    xen.create_domain(&request).xen("create a domain")
}

/// vCPUs, and how much memory it may have.
pub(crate) fn limits(xen: &Privcmd, domid: u16, config: &Config) -> Result<()> {
    xen.set_max_vcpus(domid, config.vcpus_max).xen("make vCPUs")?;
    xen.set_max_memory(domid, memory_limit_kib(config.memory)).xen("set the limit of memory")?;
    let pool = paging_pool(config.memory_max, config.vcpus_max);
    xen.set_paging_pool(domid, pool).xen("set memory aside for page tables (is there too little?)")
}

fn populate(xen: &Privcmd, domid: u16, config: &Config, image: &Image<'_>) -> Result<()> {
    const TOO_LITTLE: &str = "give the domain its memory (too little free: stop another VM or ask for less)";
    let on_demand = config.memory < config.memory_max;
    // Too little memory is to be known before any of it has been taken.
    xen.claim(domid, config.memory.pages()).xen(TOO_LITTLE)?;
    let result = (|| {
        if on_demand {
            xen.set_pod_target(domid, config.memory.pages()).xen(TOO_LITTLE)?;
        }
        for extents in image.layout.extents() {
            populate_extents(xen, domid, &extents, on_demand).xen(TOO_LITTLE)?;
        }
        let extra = Extents { order: 0, first: image.layout.extra_frames() };
        populate_extents(xen, domid, &extra, false).xen(TOO_LITTLE)
    })();
    xen.claim(domid, 0).xen("end a claim of memory")?;
    result
}

/// Populates all of it; superpages that cannot be had as such in single pages.
pub(crate) fn populate_extents(
    xen: &Privcmd,
    domid: u16,
    extents: &Extents,
    on_demand: bool,
) -> std::io::Result<()> {
    let short = || std::io::Error::from(std::io::ErrorKind::OutOfMemory);
    let done = match xen.populate(domid, &extents.first, extents.order, on_demand) {
        Ok(done) => done,
        Err(_) if extents.order > 0 => 0,
        Err(error) => return Err(error),
    };
    let rest = extents.first.get(done..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(());
    }
    if extents.order == 0 {
        return Err(short());
    }
    for first in rest {
        let single: Vec<u64> = (*first..first + SUPERPAGE).collect();
        if xen.populate(domid, &single, 0, on_demand)? < single.len() {
            return Err(short());
        }
    }
    Ok(())
}

/// Puts the pieces of the image into the domain's memory.
fn load(xen: &Privcmd, domid: u16, image: &Image<'_>) -> Result<()> {
    for piece in &image.pieces {
        let end = piece.at + piece.bytes.len() as u64 + piece.zeros;
        let frames: Vec<u64> = (piece.at / PAGE..end.div_ceil(PAGE)).collect();
        for window in frames.chunks(WINDOW) {
            let mapped = foreign::map(xen, domid, window).xen("map the new domain's memory")?;
            let start = window.first().map_or(0, |f| f * PAGE);
            let stop = start + window.len() as u64 * PAGE;
            // The piece's part of this window, in the guest; then split into bytes and zeros.
            let (from, to) = (piece.at.max(start), end.min(stop));
            let data_end = (piece.at + piece.bytes.len() as u64).clamp(from, to);
            let range = (from - piece.at) as usize..(data_end - piece.at) as usize;
            let bytes = piece.bytes.get(range).unwrap_or_default();
            mapped.write((from - start) as usize, bytes);
            mapped.clear((data_end - start) as usize, (to - data_end) as usize);
        }
    }
    let special: Vec<u64> = (SPECIAL.first..SPECIAL.first + SPECIAL.count).collect();
    let mapped = foreign::map(xen, domid, &special).xen("map the new domain's special pages")?;
    mapped.clear(0, mapped.len());
    mapped.write(((SPECIAL.identity - SPECIAL.first) * PAGE) as usize, &context::identity_page_table());
    Ok(())
}

/// Memory map, HVM parameters, event channels, grants.
pub(crate) fn parameters(xen: &Privcmd, domid: u16, layout: &Layout) -> Result<Ports> {
    let map: Vec<MapEntry> =
        layout.map().iter().map(|r| MapEntry { start: r.start, len: r.len(), kind: r.kind.e820() }).collect();
    xen.set_memory_map(domid, &map).xen("set the memory map")?;
    let ports = Ports {
        store: xen.alloc_unbound(domid, DOM0).xen("make the store's event channel")?,
        console: xen.alloc_unbound(domid, DOM0).xen("make the console's event channel")?,
    };
    let parameters = [
        // No missed ticks pending: what an ordinary Linux wants.
        (HVM_PARAM_TIMER_MODE, 1),
        (HVM_PARAM_STORE_PFN, SPECIAL.store),
        (HVM_PARAM_STORE_EVTCHN, ports.store.into()),
        (HVM_PARAM_CONSOLE_PFN, SPECIAL.console),
        (HVM_PARAM_CONSOLE_EVTCHN, ports.console.into()),
        (HVM_PARAM_IDENT_PT, SPECIAL.identity * PAGE),
    ];
    for (index, value) in parameters {
        xen.set_hvm_param(domid, index, value).xen("set a parameter of the domain")?;
    }
    // So that the daemons reach the rings by grant, without rights over the domain.
    let grants =
        [(GNTTAB_RESERVED_CONSOLE, DOM0, SPECIAL.console), (GNTTAB_RESERVED_XENSTORE, DOM0, SPECIAL.store)];
    xen.seed_grants(domid, &grants).xen("fill the domain's first grants")?;
    Ok(ports)
}

/// The clock's mode, and the first vCPU's registers.
fn registers(xen: &Privcmd, domid: u16, config: &Config, image: &Image<'_>) -> Result<()> {
    xen.set_tsc_mode(domid, 0).xen("set the mode of the TSC")?;
    let saved = xen.hvm_context(domid).xen("tell the domain's state")?;
    let streams = context::start(&saved, config.vcpus_max, image.entry, image.start_info)
        .map_err(|e| Error::Invalid(e.to_string()))?;
    for stream in &streams {
        xen.set_hvm_context(domid, stream).xen("set the domain's state")?;
    }
    Ok(())
}

/// Writes a new domain's nodes, all or none. What an earlier domain of that number or of this VM left is removed.
fn write_domain(store: &mut Xenstore, domid: u16, uuid: Uuid, all: &[Node]) -> client::Result<()> {
    store.transaction(|store, tx| {
        for path in [nodes::domain_path(domid), nodes::vm_path(uuid), nodes::toolstack_path(domid)] {
            store.remove(tx, &path)?;
        }
        write(store, tx, all)
    })
}

/// Writes nodes in order.
pub fn write(store: &mut Xenstore, tx: Tx, all: &[Node]) -> client::Result<()> {
    for node in all {
        store.write(tx, &node.path, &node.value)?;
        if let Some(perms) = &node.perms {
            store.set_perms(tx, &node.path, perms)?;
        }
    }
    Ok(())
}
