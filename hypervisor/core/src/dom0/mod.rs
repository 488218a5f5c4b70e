//! Building dom0: an unmodified Linux kernel as the hardware domain, its RAM 1:1 in machine memory so that its devices'
//! DMA works without an IOMMU.

mod dma;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use radon_acpi::{Dom0Params, PhysReader, Tables, build_dom0};
use radon_addr::{CpuId, DomId, Gfn, Gpa, Maddr, Mfn, PAGE_SIZE, VcpuId};
use radon_bootproto::{BootInfo, MemKind, Module};
use radon_cmdline::{MemAmount, Options};
use radon_frames::{Contents, Kind as FrameKind, frames};
use radon_hw::{mem, time};
use radon_kernel::{
    Dom0Memory, Dom0Request, LoadPlan, MemType, Placement, Region, StartInfo, StartInfoParams,
};
use radon_p2m::Kind;
use radon_policy::Policy;
use radon_sched::CpuSet;

use crate::domain::{Config, Domain};
use crate::{create, hardware, physmap, run, vcpu_state};

/// Why dom0 could not be built: shown on the console before the machine stops.
pub struct Failure(pub alloc::string::String);

impl<E: fmt::Display> From<E> for Failure {
    fn from(e: E) -> Failure {
        Failure(alloc::format!("{e}"))
    }
}

/// What the builder is given.
pub struct Input<'a> {
    /// Boot loader's information; module 0 is the kernel, 1 the initrd.
    pub boot: &'a BootInfo,
    /// Command line.
    pub options: &'a Options,
    /// The machine's ACPI tables and how to read them.
    pub acpi: Option<(&'a Tables, &'a dyn PhysReader)>,
    /// Machine ranges that are the hypervisor's (start, end).
    pub taken: &'a [(u64, u64)],
}

const MIB: u64 = 1 << 20;

/// Builds dom0 and makes it runnable.
pub fn build(input: &Input<'_>) -> Result<Arc<Domain>, Failure> {
    let kernel_module = input.boot.modules.first().ok_or("no dom0 kernel: give it as the first module")?;
    let packed = module_bytes(kernel_module);
    radon_hw::info!("dom0: unpacking a kernel of {} KiB", packed.len() >> 10);
    let elf = radon_kernel::unpack(&packed)?;
    let plan = LoadPlan::parse(&elf)?;
    let (vcpus, domain) = new_domain(input)?;
    let arguments = kernel_arguments(&kernel_module.cmdline, &input.options.dom0_extra);
    dma::warn(&domain, &arguments);
    let mut layout = choose_memory(input)?;
    own_memory(&domain, &layout)?;
    limit_memory(&domain, &layout, input.options.dom0.mem_max);
    let (acpi_len, _) = acpi_blob(input, vcpus, Gpa::new(0))?;
    let initrd_module = input.boot.modules.get(1);
    let params = StartInfoParams {
        flags: radon_kernel::SIF_PRIVILEGED | radon_kernel::SIF_INITDOMAIN,
        cmdline: arguments.as_bytes(),
        ..Default::default()
    };
    let one_module = [radon_kernel::Module { gpa: Gpa::new(0), len: 0, cmdline: b"" }];
    let sized =
        StartInfoParams { modules: if initrd_module.is_some() { &one_module } else { &[] }, ..params };
    let placement = layout.place(&Dom0Request {
        kernel: &plan,
        initrd_len: initrd_module.map_or(0, |m| m.len),
        acpi_len: acpi_len.len() as u64,
        start_info_len: StartInfo::len(&sized) as u64,
    })?;
    load_kernel(&domain, &plan, &elf)?;
    load_rest(&domain, input, vcpus, &layout, &placement, &params)?;
    *domain.memory_map.lock() = raw_e820(&layout.e820);
    let start = placement.start_info;
    start_first_vcpu(&domain, plan.entry, start)?;
    give_back_modules(input);
    Ok(domain)
}

/// The module's own arguments, and what the hypervisor's command line holds for dom0 behind ` -- `.
fn kernel_arguments(module: &str, extra: &str) -> String {
    match (module, extra) {
        (only, "") | ("", only) => only.into(),
        _ => alloc::format!("{module} {extra}"),
    }
}

/// The bytes of a module, copied out of machine memory.
fn module_bytes(module: &Module) -> Vec<u8> {
    let mut bytes = alloc::vec![0u8; module.len as usize];
    mem::read_bytes(module.start, &mut bytes);
    bytes
}

fn new_domain(input: &Input<'_>) -> Result<(u32, Arc<Domain>), Failure> {
    let cpus = radon_hw::cpu::count() as u32;
    let vcpus = input.options.dom0.vcpus.resolve(cpus).min(create::MAX_VCPUS);
    let config = Config {
        max_vcpus: vcpus,
        max_evtchn_port: u32::MAX,
        max_grant_version: 2,
        max_grant_frames: input.options.gnttab_max_frames,
        max_maptrack_frames: input.options.gnttab_max_maptrack_frames,
        flags: xen_abi::domctl::XEN_DOMCTL_CDF_HVM | xen_abi::domctl::XEN_DOMCTL_CDF_HAP,
        emulation_flags: 0,
        ssidref: 0,
        hardware: true,
    };
    let domain = create::create(DomId::DOM0, config, [0; 16], Policy::hardware_domain())?;
    let ports = create::port_map(|p| !hardware::port_is_kept(p))?;
    hardware::attach(&domain, input.acpi);
    create::create_vcpus(&domain, vcpus, Some(ports))?;
    if input.options.dom0.vcpus_pin {
        pin(&domain);
    }
    Ok((vcpus, domain))
}

/// `dom0_vcpus_pin`: vCPU n runs on pCPU n (those beyond start over with the first), as `xl vcpu-pin` would do it.
fn pin(domain: &Domain) {
    let cpus = radon_hw::cpu::count() as u32;
    let mut scheduler = run::SCHEDULER.lock();
    for v in domain.vcpus() {
        let only = CpuSet::only(CpuId::new(v.id.raw() % cpus.max(1)));
        let soft = scheduler.affinity(v.key()).map_or(only, |(_, soft)| soft);
        // Nothing runs yet: there is nobody to poke.
        if scheduler.set_affinity(v.key(), &only, &soft, time::now()).is_err() {
            radon_hw::warn!("dom0: vCPU {} cannot be pinned", v.id.raw());
        }
    }
}

/// Host memory in the layout module's terms.
fn host_regions(boot: &BootInfo) -> Vec<Region> {
    boot.memory
        .iter()
        .map(|r| Region {
            start: r.start.raw(),
            end: r.end().raw(),
            kind: match r.kind {
                MemKind::Ram => MemType::Ram,
                MemKind::AcpiReclaim => MemType::Acpi,
                MemKind::AcpiNvs => MemType::Nvs,
                MemKind::Unusable => MemType::Unusable,
                _ => MemType::Reserved,
            },
        })
        .collect()
}

fn choose_memory(input: &Input<'_>) -> Result<Dom0Memory, Failure> {
    let free = frames().free_pages() * PAGE_SIZE as u64;
    // As Xen: without dom0_mem, all but a reserve for the hypervisor.
    let wanted = input.options.dom0.initial_memory(free).min(free.saturating_sub(16 * MIB));
    let mut taken: Vec<(u64, u64)> = input.taken.to_vec();
    taken.push((0, PAGE_SIZE as u64));
    Ok(radon_kernel::dom0_memory_layout(&host_regions(input.boot), &taken, wanted / PAGE_SIZE as u64)?)
}

/// Takes the chosen frames and maps them 1:1.
fn own_memory(domain: &Arc<Domain>, layout: &Dom0Memory) -> Result<(), Failure> {
    frames().set_max_pages(domain.id, u64::from(u32::MAX));
    for range in &layout.ram {
        let low_end = Mfn::new(MIB / PAGE_SIZE as u64);
        if range.start < low_end {
            // The allocator does not know the first MiB; it becomes dom0's here.
            let end = Mfn::new(range.start.raw() + range.pages).min(low_end);
            frames().add_range(range.start..end);
        }
        frames()
            .alloc_range_exact(
                range.start,
                range.pages,
                domain.id,
                FrameKind::GuestRam,
                Contents::Overwritten,
            )
            .map_err(|e| Failure(alloc::format!("dom0 RAM at {:x}: {e:?}", range.start.maddr())))?;
        let gfn = Gfn::new(range.start.raw());
        let _ = domain
            .p2m
            .write()
            .set_range(gfn, range.start, range.pages, Kind::Ram, |_, _| {})
            .map_err(|e| Failure(alloc::format!("dom0 p2m: {e:?}")))?;
    }
    radon_hw::info!("dom0: {} MiB of RAM, 1:1", layout.pages >> 8);
    Ok(())
}

/// `dom0_mem=max:` is also the most that dom0 may balloon up to.
fn limit_memory(domain: &Domain, layout: &Dom0Memory, max: Option<MemAmount>) {
    let Some(max) = max else { return };
    let pages = max.resolve(frames().total_pages() * PAGE_SIZE as u64) / PAGE_SIZE as u64;
    frames().set_max_pages(domain.id, pages.max(layout.pages).min(u64::from(u32::MAX)));
}

/// dom0's ACPI blob for a place, and its root pointer.
fn acpi_blob(input: &Input<'_>, vcpus: u32, at: Gpa) -> Result<(Vec<u8>, Option<Gpa>), Failure> {
    let Some((tables, reader)) = input.acpi else { return Ok((Vec::new(), None)) };
    let madt = tables.madt(&reader)?.unwrap_or_default();
    let params = Dom0Params { vcpus, ioapics: &madt.ioapics, overrides: &madt.overrides };
    let in_acpi_memory = |start: Maddr, len: u64| {
        let end = start.raw().saturating_add(len);
        !input
            .boot
            .memory
            .iter()
            .any(|r| r.kind == MemKind::Ram && r.start.raw() < end && start.raw() < r.end().raw())
    };
    let blob = build_dom0(tables, &params, at, in_acpi_memory)?;
    Ok((blob.bytes, Some(blob.rsdp)))
}

/// Copies to dom0's memory by guest-physical address.
fn copy_to(domain: &Domain, at: Gpa, bytes: &[u8]) -> Result<(), Failure> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|r| !r.is_empty()) {
        let gpa = at.checked_add(done as u64).ok_or("address overflow")?;
        let n = (PAGE_SIZE - gpa.offset()).min(rest.len());
        let maddr = domain.ram_at(gpa, true).ok_or("dom0 image outside its RAM")?;
        mem::write_bytes(maddr, rest.get(..n).unwrap_or(rest));
        done += n;
    }
    Ok(())
}

fn zero(domain: &Domain, at: u64, len: u64) -> Result<(), Failure> {
    let mut done = 0;
    while done < len {
        let gpa = Gpa::new(at + done);
        let n = (PAGE_SIZE as u64 - gpa.offset() as u64).min(len - done);
        let maddr = domain.ram_at(gpa, true).ok_or("dom0 image outside its RAM")?;
        mem::fill(maddr, 0, n as usize);
        done += n;
    }
    Ok(())
}

fn load_kernel(domain: &Domain, plan: &LoadPlan<'_>, elf: &[u8]) -> Result<(), Failure> {
    for s in &plan.segments {
        let bytes = elf.get(s.file.clone()).ok_or("kernel segment outside its file")?;
        copy_to(domain, s.gpa, bytes)?;
        let filled = bytes.len() as u64;
        zero(domain, s.gpa.raw() + filled, s.mem_len.saturating_sub(filled))?;
        radon_hw::info!("dom0: kernel segment {:x}-{:x}", s.gpa, s.end());
    }
    Ok(())
}

fn load_rest(
    domain: &Domain,
    input: &Input<'_>,
    vcpus: u32,
    layout: &Dom0Memory,
    placement: &Placement,
    params: &StartInfoParams<'_>,
) -> Result<(), Failure> {
    let mut modules = Vec::new();
    if let (Some(module), Some(at)) = (input.boot.modules.get(1), placement.initrd) {
        copy_to(domain, at, &module_bytes(module))?;
        modules.push(radon_kernel::Module { gpa: at, len: module.len, cmdline: b"" });
        radon_hw::info!("dom0: initrd {:x}-{:x}", at, at.raw() + module.len);
    }
    let mut rsdp = None;
    if let Some(at) = placement.acpi {
        let (bytes, root) = acpi_blob(input, vcpus, at)?;
        copy_to(domain, at, &bytes)?;
        rsdp = root;
    }
    let params = StartInfoParams { modules: &modules, memmap: &layout.e820, rsdp, ..*params };
    copy_to(domain, placement.start_info, &StartInfo::build(&params, placement.start_info))
}

/// The memory map as `XENMEM_memory_map` gives it.
fn raw_e820(map: &[Region]) -> Vec<[u8; 20]> {
    map.iter()
        .map(|r| {
            let mut e = [0u8; 20];
            e[..8].copy_from_slice(&r.start.to_le_bytes());
            e[8..16].copy_from_slice(&r.len().to_le_bytes());
            e[16..].copy_from_slice(&r.kind.e820().to_le_bytes());
            e
        })
        .collect()
}

fn start_first_vcpu(domain: &Arc<Domain>, entry: Gpa, start_info: Gpa) -> Result<(), Failure> {
    let vcpu = domain.vcpu(VcpuId::new(0)).ok_or("dom0 has no vCPU")?;
    vcpu_state::pvh_entry(&mut vcpu.context.lock(), entry.raw(), start_info.raw());
    vcpu.set_up(true);
    radon_hw::info!("dom0: entry {entry:x}, start info {start_info:x}, {} vCPUs", domain.vcpus().len());
    domain.controller_pauses.store(0, core::sync::atomic::Ordering::SeqCst);
    run::unpause_domain(domain);
    Ok(())
}

/// The modules have been copied: their frames are free.
fn give_back_modules(input: &Input<'_>) {
    for m in &input.boot.modules {
        let first = m.start.raw().next_multiple_of(PAGE_SIZE as u64);
        let end = (m.start.raw() + m.len) & !(PAGE_SIZE as u64 - 1);
        if first < end && first >= MIB {
            frames().add_range(Maddr::new(first).mfn()..Maddr::new(end).mfn());
        }
    }
    let _ = physmap::p2m_errno;
}
