//! The simulated machine with a control domain and two guests, and what must hold of it whatever they do.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};

use radon_addr::{CpuId, DomId, Gfn, Gpa, Maddr, Mfn, Port, VcpuId};
use radon_core::domain::{Config, Domain, Dying};
use radon_core::processor::Processor;
use radon_core::{create, destroy, domains, machine, physmap, run};
use radon_evtchn::State;
use radon_frames::{Contents, FrameAllocator, Kind as FrameKind, frames};
use radon_grant::{Handle, Mode};
use radon_hw::{mem, sim};
use radon_p2m::Kind;
use radon_policy::Policy;
use xen_abi::domctl as d;
use zerocopy::{Immutable, IntoBytes};

use super::backend::FakeBackend;

const MACHINE_FRAMES: u64 = 1 << 14;
const CPUS: u32 = 4;
/// Small pages a guest starts with, from gfn 0 on.
pub const SMALL_PAGES: u64 = 96;
/// A guest's 2 MiB page.
pub const LARGE_GFN: u64 = 512;
/// Most pages a guest may own.
const MAX_PAGES: u64 = 1024;
const VCPUS: u32 = 2;
pub const GUESTS: [u16; 2] = [1, 2];

/// Sets the machine up, once in the process.
fn start_machine() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        sim::add_ram(Maddr::new(0), MACHINE_FRAMES << 12);
        let max = Mfn::new(MACHINE_FRAMES);
        let table = sim::fresh_ram(FrameAllocator::table_bytes(max).div_ceil(4096));
        frames().init(&[Mfn::new(0)..max], max, table.maddr(), Contents::Zeroed).unwrap();
        machine::set(machine::Facts {
            command_line: String::new(),
            memory: Vec::new(),
            e820: vec![[7; 20]; 3],
            options: radon_cmdline::Options::default(),
            svm: radon_svm::Machine {
                asids: 16,
                saves_next_rip: true,
                decode_assists: false,
                flush_by_asid: true,
            },
            pm1b: None,
            soft_off: None,
            pm1a: None,
            reset: None,
        });
        for cpu in 0..CPUS {
            radon_hw::cpu::register(CpuId::new(cpu), cpu);
            run::SCHEDULER.lock().add_cpu(CpuId::new(cpu));
        }
        // What is made once and stays: maps shared by all guests.
        World::build().destroy_all();
    });
}

/// One control domain, two guests.
pub struct World {
    before: u64,
}

impl World {
    /// A fresh one. Only one at a time.
    pub fn new() -> World {
        start_machine();
        // A test that failed may have left its own.
        World { before: 0 }.destroy_all();
        World::build()
    }

    fn build() -> World {
        sim::set_this(CpuId::new(0));
        let world = World { before: frames().free_pages() };
        build_domain(DomId::DOM0, true);
        for id in GUESTS {
            build_domain(DomId::new(id), false);
        }
        world
    }

    /// A domain of the world that can act; one that has died is made anew.
    pub fn domain(&self, id: u16) -> Arc<Domain> {
        if let Some(domain) = domains::find(DomId::new(id)) {
            if domain.dying() == Dying::No {
                if domain.clear_shutdown() {
                    domain.remove_pause();
                }
                return domain;
            }
            while !destroy::destroy(&domain, || true).unwrap() {}
            drop(domain);
            destroy::reap();
            if let Some(held) = domains::find(DomId::new(id)) {
                // Somebody has its pages: this one stays dead until the world's end.
                return if id == 0 { held } else { self.domain(0) };
            }
        }
        build_domain(DomId::new(id), id == 0)
    }

    /// Destroys all domains. Every page must be free again.
    pub fn end(self) {
        let before = self.before;
        self.destroy_all();
        assert_eq!(frames().free_pages(), before, "pages leaked");
    }

    fn destroy_all(self) {
        // One domain may hold pages of another, and the dead are listed until that ends.
        for domain in domains::all() {
            while !destroy::destroy(&domain, || true).unwrap() {}
        }
        destroy::reap();
        destroy::reap();
        let left: Vec<_> = domains::all().iter().map(|d| (d.id, frames().domain(d.id))).collect();
        assert!(left.is_empty(), "domains that cannot be reaped: {left:?}");
    }

    /// What must hold at any time. `strict`: no toolstack has given guests other domains' pages.
    pub fn check(&self, strict: bool) {
        for domain in domains::all() {
            check_channels(&domain);
            if !domain.privileged() {
                check_memory(&domain, strict);
                check_shared_records(&domain);
            }
        }
    }
}

/// A domain with memory; the first of its vCPUs is up.
pub fn build_domain(id: DomId, hardware: bool) -> Arc<Domain> {
    let config = Config {
        max_vcpus: VCPUS,
        max_evtchn_port: 255,
        max_grant_version: 2,
        max_grant_frames: 4,
        max_maptrack_frames: 4,
        flags: d::XEN_DOMCTL_CDF_HVM | d::XEN_DOMCTL_CDF_HAP,
        emulation_flags: d::XEN_X86_EMU_LAPIC,
        ssidref: 0,
        hardware,
    };
    let policy = if hardware { Policy::hardware_domain() } else { Policy::guest_default() };
    let domain = create::create(id, config, [0; 16], policy).unwrap();
    create::create_vcpus(&domain, VCPUS, None).unwrap();
    for v in domain.vcpus() {
        v.context.lock().backend = Processor::Other(Box::new(FakeBackend::new()));
    }
    domain.vcpu(VcpuId::new(0)).unwrap().set_up(true);
    frames().set_max_pages(id, MAX_PAGES);
    for gfn in 0..SMALL_PAGES {
        let _ = physmap::populate(&domain, Gfn::new(gfn), 0, 64);
    }
    let _ = physmap::populate(&domain, Gfn::new(LARGE_GFN), 9, 64);
    domain
}

thread_local! {
    /// Nested page tables of the guest that runs on this simulated CPU, 0 = none does. A guest's own accesses go through
    /// them without the hypervisor's locks: whoever holds one may be waiting for this CPU to leave the guest.
    pub static RUNNING: Cell<u64> = const { Cell::new(0) };
}

/// The frame and the raw leaf that the processor finds for a gfn.
pub fn translate(root: u64, gfn: u64) -> Option<(u64, u64)> {
    let mut table = root;
    for level in (0..4).rev() {
        let raw = mem::atomic_u64(Maddr::new(table + (gfn >> (9 * level) & 511) * 8)).load(Ordering::SeqCst);
        if raw & PRESENT == 0 {
            return None;
        }
        if level == 0 || raw & LARGE != 0 {
            return Some(((raw & ADDRESS) >> 12 | gfn & ((1 << (9 * level)) - 1), raw));
        }
        table = raw & ADDRESS;
    }
    None
}

/// Writes into a domain's memory as its own processor would. Where it gave the page away, it first takes a new one.
pub fn put(domain: &Domain, at: u64, value: &(impl IntoBytes + Immutable + ?Sized)) {
    let root = RUNNING.get();
    for (i, byte) in (at..).zip(value.as_bytes()) {
        let gpa = Gpa::new(i);
        if root != 0 {
            if let Some((mfn, raw)) = translate(root, i >> 12)
                && i >> 48 == 0
                && raw & WRITABLE != 0
            {
                mem::write(Maddr::new(mfn << 12 | i & 0xfff), byte);
            }
            continue;
        }
        if domain.ram_at(gpa, true).is_none() {
            let _ = physmap::populate(domain, gpa.gfn(), 0, 64);
        }
        if let Some(maddr) = domain.ram_at(gpa, true) {
            mem::write(maddr, byte);
        }
    }
}

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
/// The guest may write.
pub const WRITABLE: u64 = 1 << 1;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Calls `leaf(gfn, mfn, raw entry)` for every 4 KiB that the processor can reach through these tables, read as it reads
/// them, without the p2m's own code.
fn walk(table: u64, level: u32, gfn: u64, leaf: &mut dyn FnMut(u64, u64, u64)) {
    for i in 0..512u64 {
        let raw: u64 = mem::read(Maddr::new(table + i * 8));
        if raw & PRESENT == 0 {
            continue;
        }
        let at = gfn | i << (9 * level);
        if level == 0 || raw & LARGE != 0 {
            for n in 0..1u64 << (9 * level) {
                leaf(at + n, (raw & ADDRESS) >> 12 | n, raw);
            }
        } else {
            walk(raw & ADDRESS, level - 1, at, leaf);
        }
    }
}

/// Everything a guest can reach is its own, or granted to it and still pinned.
fn check_memory(domain: &Domain, strict: bool) {
    let Some(root) = domain.p2m.read().root() else { return };
    let mut mapped: BTreeMap<u64, Vec<(DomId, Mode)>> = BTreeMap::new();
    let mut from = Handle(0);
    while let Some((handle, m)) = domain.maptrack.lock().next_mapped(from) {
        mapped.entry(m.gfn.raw()).or_default().push((m.granter, m.access.mode));
        from = Handle(handle.0 + 1);
    }
    let mut own = BTreeSet::new();
    let mut ram = 0u32;
    walk(root.maddr().raw(), 3, 0, &mut |gfn, mfn, raw| {
        let info = frames().info(Mfn::new(mfn)).unwrap_or_else(|| panic!("{gfn:#x} -> {mfn:#x}: no RAM"));
        let entry = domain.lookup(Gfn::new(gfn)).expect("the p2m agrees with its tables");
        let what = format!("{} gfn {gfn:#x} mfn {mfn:#x} {entry:?} {info:?}", domain.id);
        assert!(info.count > 0, "free frame mapped: {what}");
        match entry.kind {
            Kind::Ram | Kind::RamRo | Kind::RamLogdirty => {
                assert_eq!((info.owner, info.kind), (domain.id, FrameKind::GuestRam), "{what}");
                assert!(info.allocated, "{what}");
                assert!(own.insert(mfn), "mapped twice: {what}");
                ram += 1;
            }
            Kind::XenShared => {
                assert_eq!((info.owner, info.kind), (domain.id, FrameKind::XenShared), "{what}")
            }
            Kind::GrantRw | Kind::GrantRo => {
                let by = mapped.get(&gfn).map_or(&[][..], |v| v);
                let granted =
                    |m: &(DomId, Mode)| m.0 == info.owner && (raw & WRITABLE == 0 || m.1 == Mode::Write);
                assert!(by.iter().any(granted), "mapped without a handle: {what} {by:?}");
                let granter = domains::find(info.owner).unwrap_or_else(|| panic!("granter gone: {what}"));
                assert!(granter.grants.lock().pinned_entries() > 0, "{what}");
            }
            Kind::Foreign => assert!(!strict, "{what}"),
            other => panic!("{other:?} in a guest: {what}"),
        }
    });
    let counts = frames().domain(domain.id);
    assert!(counts.tot_pages >= ram, "{}: {ram} pages mapped, {counts:?}", domain.id);
}

/// The hypervisor writes a vCPU's record only into the domain's own pages.
fn check_shared_records(domain: &Domain) {
    for v in domain.vcpus() {
        let Some(at) = v.vcpu_info() else { continue };
        let info = frames().info(at.mfn()).expect("vcpu_info is in RAM");
        assert!(info.count > 0 && info.owner == domain.id, "{} vcpu_info in {info:?}", domain.id);
    }
}

/// Both ends of a channel know each other.
fn check_channels(domain: &Domain) {
    let mut from = Port::new(1);
    loop {
        let Some(port) = domain.events.lock().next_open(from) else { return };
        from = Port::new(port.raw() + 1);
        let status = domain.events.lock().status(port).expect("open");
        if let State::Interdomain { remote, port: other } = status.state {
            let peer =
                domains::find(remote).unwrap_or_else(|| panic!("{}:{port:?} leads nowhere", domain.id));
            let back = peer.events.lock().status(other).map(|s| s.state);
            assert_eq!(back, Ok(State::Interdomain { remote: domain.id, port }), "{}", domain.id);
        }
    }
}
