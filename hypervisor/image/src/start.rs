//! Start-up of the boot CPU, step by step.
#![allow(unsafe_code)] // entered from assembly

use crate::memory::Memory;
use crate::{crash, layout, pages, paging, segments, selftest, smp};
use alloc::vec::Vec;
use core::arch::global_asm;
use radon_acpi::{PhysReader, Tables, find_rsdp};
use radon_addr::{CpuId, Maddr};
use radon_bootproto::{BootInfo, MemKind, MemRegion};
use radon_cmdline::{ClockSource, ConsoleDevice, LogThreshold, Options, Timestamps, Warning};
use radon_frames::{Contents, FrameAllocator, frames};
use radon_hw::console::{self, Line, Source, Stamps, Threshold};
use radon_hw::{apic, cpu, fpu, heartbeat, ioapic, mem, mmio, pic, time};

global_asm!(include_str!("boot.S"), options(att_syntax));

/// The boot page tables map this much.
const BOOT_MAPPED: Maddr = Maddr::new(4 << 30);

macro_rules! say {
    ($($arg:tt)*) => { console::print(format_args!("{}\n", format_args!($($arg)*))) };
}

/// The 64-bit entry of the boot CPU: `magic` names the boot protocol, `info` is the loader's structure.
#[unsafe(no_mangle)]
extern "C" fn boot_main(magic: u32, info: u32) -> ! {
    cpu::set_this(CpuId::new(0));
    mem::init_early(BOOT_MAPPED);
    console::init_uart(console::COM1, Line::plain(115_200));
    segments::init_this_cpu();

    let mut boot = read_loader(magic, Maddr::new(u64::from(info)));
    let (options, warnings) = radon_cmdline::parse(&boot.cmdline);
    configure(&options);
    greet(&boot, &warnings);

    let memory = init_memory(&mut boot, &options);
    let memory = init_frames(memory);
    size_ring(&options);
    let physical = Physical(memory.mapped());
    let acpi = Acpi::read(boot.rsdp, &physical);
    init_devices(&acpi, &options);
    // Stamps of a clock that runs.
    console::set_stamps(match options.timestamps {
        Timestamps::None => Stamps::None,
        Timestamps::Date => Stamps::Date,
        Timestamps::DateMs => Stamps::DateMs,
        Timestamps::Boot => Stamps::Boot,
        Timestamps::Raw => Stamps::Raw,
    });
    init_cpus(&acpi, &options, &memory);

    start_core(boot, options, &acpi, &physical, &memory)
}

fn read_loader(magic: u32, info: Maddr) -> BootInfo {
    let read = |at: Maddr, buf: &mut [u8]| {
        let inside = at.raw().checked_add(buf.len() as u64).is_some_and(|end| end <= BOOT_MAPPED.raw());
        if inside {
            mem::read_bytes(at, buf);
        }
        inside
    };
    match radon_bootproto::parse(magic, info, &read) {
        Ok(boot) => boot,
        Err(e) => panic!("boot loader: {e:?}"),
    }
}

/// Console and crash behaviour as the command line wants them.
fn configure(options: &Options) {
    let device = options.console.iter().find_map(|device| match device {
        ConsoleDevice::Com1 => Some((console::COM1, options.com1)),
        ConsoleDevice::Com2 => Some((console::COM2, options.com2)),
        _ => None,
    });
    if let Some((port, settings)) = device {
        let settings = settings.unwrap_or_default();
        let plain = Line::plain(settings.baud.unwrap_or(0));
        let base_baud = settings.base_baud.unwrap_or(plain.base_baud);
        let line = Line { base_baud, control: settings.line_control(), ..plain };
        console::init_uart(settings.io_base.unwrap_or(port), line);
    } else if options.console.is_empty() {
        console::stop_uart();
    }
    console::set_to_ring(options.console_to_ring);
    let threshold = |t: LogThreshold| Threshold { always: t.always as u8, limited: t.limited as u8 };
    console::set_threshold(Source::Hypervisor, threshold(options.loglvl));
    console::set_threshold(Source::Guest, threshold(options.guest_loglvl));
    crash::configure(options.noreboot, options.reboot, options.selftest.is_some());
    if !options.x2apic {
        apic::without_x2apic();
    }
    if !options.xsave {
        fpu::without_xsave();
    }
}

fn greet(boot: &BootInfo, warnings: &[Warning]) {
    say!("Radon {} (Xen 4.17 interface)", env!("CARGO_PKG_VERSION"));
    say!("Bootloader: {}", boot.loader);
    say!("Command line: {}", boot.cmdline);
    for warning in warnings {
        radon_hw::warn!("{warning}");
    }
    say!("RAM map:");
    for r in &boot.memory {
        say!(" [{:016x}, {:016x}] ({})", r.start, r.end().raw() - 1, r.kind.name());
    }
}

/// Final page tables; modules out of dom0's way.
fn init_memory(boot: &mut BootInfo, options: &Options) -> Memory {
    let mut memory = Memory::new(&boot.memory, options.mem);
    memory.reserve(layout::start(), layout::end().raw() - layout::start().raw());
    for module in &boot.modules {
        memory.reserve(module.start, module.len);
    }
    for (start, len) in &boot.loader_data {
        memory.reserve(*start, *len);
    }
    let tables = paging::table_bytes(&memory.mapped());
    if tables > pages::ENOUGH_FOR_TABLES {
        match memory.carve_below(BOOT_MAPPED.raw(), tables) {
            Some(start) => pages::extend(start, tables),
            None => radon_hw::error!("no {}kB below 4 GiB for page tables", tables >> 10),
        }
    }
    paging::init(&memory.mapped());
    mem::init(&memory.accessible());
    mmio::init(paging::root());
    let ignored = boot.memory.iter().filter(|r| r.kind == MemKind::Ram).map(|r| r.len).sum::<u64>();
    let ignored = ignored.saturating_sub(memory.ram_bytes());
    if ignored > 0 && options.mem.is_none() {
        radon_hw::warn!("{}MB of RAM above 16 TiB are not used", ignored >> 20);
    }
    say!("System RAM: {}MB ({}kB)", memory.ram_bytes() >> 20, memory.ram_bytes() >> 10);
    memory.move_modules_up(&mut boot.modules, |to, from, len| mem::copy(to, from, len as usize));
    for (i, m) in boot.modules.iter().enumerate() {
        let end = m.start.raw().saturating_add(m.len);
        say!("Module {i}: [{:016x}, {end:016x}) {}", m.start, m.cmdline);
    }
    memory
}

/// The frame table at the top of RAM; what nobody uses becomes free.
fn init_frames(mut memory: Memory) -> Memory {
    let lost = |r: &MemRegion| {
        radon_hw::warn!("RAM at {:x}-{:x} lies behind too large a hole: not used", r.start, r.end());
    };
    let Some((extent, table)) = memory.place_frame_table(FrameAllocator::table_bytes, lost) else {
        panic!("no room for a frame table");
    };
    let bytes = FrameAllocator::table_bytes(extent);
    if let Err(e) = frames().init(&memory.free(), extent, table, Contents::Overwritten) {
        panic!("frame allocator: {e:?}");
    }
    pages::use_frames();
    radon_hw::debug!(
        "Frame table: {}kB at {table:#x}; early heap: {}kB",
        bytes >> 10,
        pages::early_bytes() >> 10
    );
    say!("Free memory: {}MB", frames().free_pages() >> 8);
    memory
}

/// `conring_size`: another ring for the log, rounded up to a power of two, within reason.
fn size_ring(options: &Options) {
    const RANGE: core::ops::RangeInclusive<u64> = (16 << 10)..=(64 << 20);
    let Some(asked) = options.conring_size else { return };
    let size = asked.clamp(*RANGE.start(), *RANGE.end()).next_power_of_two() as usize;
    let mut storage: Vec<u8> = Vec::new();
    let given = storage.try_reserve_exact(size).is_ok() && {
        storage.resize(size, 0);
        console::use_ring(storage.leak())
    };
    if given {
        say!("Console ring: {}kB", console::ring_size() >> 10);
    } else {
        radon_hw::warn!("No memory for a console ring of {}kB", size >> 10);
    }
}

/// Physical memory as the ACPI crate reads it: what is mapped.
struct Physical(Vec<(Maddr, Maddr)>);

impl PhysReader for Physical {
    fn read(&self, at: Maddr, buf: &mut [u8]) -> bool {
        let end = at.raw().checked_add(buf.len() as u64).map(Maddr::new);
        let readable = self.0.iter().any(|r| r.0 <= at && end.is_some_and(|end| end <= r.1));
        if readable {
            mem::read_bytes(at, buf);
        }
        readable
    }
}

/// What start-up needs of the machine's tables.
#[derive(Default)]
struct Acpi {
    tables: Option<Tables>,
    apic_ids: Vec<u32>,
    ioapics: Vec<radon_acpi::IoApic>,
    pm_timer: Option<u16>,
    hpet: Option<Maddr>,
}

impl Acpi {
    fn read(rsdp: Option<Maddr>, physical: &Physical) -> Acpi {
        let found = rsdp.or_else(|| find_rsdp(physical)).ok_or(radon_acpi::Error::NoRsdp);
        match found
            .and_then(|at| Tables::load(physical, at))
            .and_then(|tables| Self::extract(tables, physical))
        {
            Ok(acpi) => acpi,
            Err(e) => {
                radon_hw::error!("ACPI: {e}; one CPU and no IO-APIC");
                Acpi::default()
            }
        }
    }

    fn extract(tables: Tables, physical: &Physical) -> Result<Acpi, radon_acpi::Error> {
        let madt = tables.madt(physical)?.unwrap_or_default();
        let fadt = tables.fadt(physical)?;
        Ok(Acpi {
            apic_ids: madt.cpus().collect(),
            ioapics: madt.ioapics,
            pm_timer: fadt.and_then(|f| f.pm_timer).and_then(|r| r.port()),
            hpet: tables.hpet(physical)?.map(|h| h.base),
            tables: Some(tables),
        })
    }
}

/// Interrupt controllers, extended state and clocks of the boot CPU.
fn init_devices(acpi: &Acpi, options: &Options) {
    pic::mask_all();
    fpu::init_this_cpu();
    apic::init_this_cpu();
    cpu::register(CpuId::new(0), apic::id());
    let (pm_timer, hpet) = match options.clocksource {
        None => (acpi.pm_timer, acpi.hpet),
        Some(ClockSource::Hpet) => (None, acpi.hpet),
        Some(ClockSource::Acpi) => (acpi.pm_timer, None),
        Some(ClockSource::Pit) => (None, None),
    };
    time::calibrate(pm_timer, hpet);
    for chip in &acpi.ioapics {
        let at = Maddr::new(u64::from(chip.address));
        match ioapic::add(at, chip.gsi_base) {
            Some(pins) => {
                say!("IO-APIC at {at:#x}: GSI {}-{}", chip.gsi_base, chip.gsi_base + pins.saturating_sub(1))
            }
            None => radon_hw::error!("IO-APIC at {at:#x} cannot be used"),
        }
    }
    say!("Detected {}.{:03} MHz processor", time::tsc_khz() / 1000, time::tsc_khz() % 1000);
}

fn init_cpus(acpi: &Acpi, options: &Options, memory: &Memory) {
    let limit = options.max_cpus.map_or(cpu::MAX_CPUS, |n| n as usize);
    match memory.low_page() {
        Some(page) => {
            let mut ids = acpi.apic_ids.clone();
            if !options.smt {
                ids.retain(|id| smp::is_first_thread(*id));
            }
            smp::start_others(&ids, limit, page);
        }
        None => radon_hw::error!("no free page below 640 KiB: one CPU only"),
    }
    smp::report();
    if options.watchdog && !heartbeat::enable(options.watchdog_timeout_s) {
        radon_hw::warn!("watchdog: with one CPU there is nobody to watch it");
    }
}

/// Hands the machine over.
fn start_core(boot: BootInfo, options: Options, acpi: &Acpi, physical: &Physical, memory: &Memory) -> ! {
    if let Some(test) = options.selftest {
        selftest::run(test, &options);
    }
    radon_core::start(radon_core::Handover {
        boot,
        options,
        acpi: acpi.tables.as_ref().map(|tables| (tables, physical as &dyn PhysReader)),
        taken: memory.used(),
    })
}

/// What every CPU but the first does after start-up.
pub fn run_cpu() -> ! {
    radon_core::start_secondary(selftest::woken)
}
