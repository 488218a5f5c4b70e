//! A domain: its memory, event channels, grants, vCPUs and life.
//!
//! ```text
//!  created (paused) --unpause--> running --shutdown(code)--> shut down --destroy--> dying --last page freed--> dead
//!                                   |  \--crash---------------^                      ^
//!                                   \------------------------destroy-----------------/
//! ```

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use radon_addr::{DomId, Gfn, Gpa, Maddr, Mfn, VcpuId};
use radon_evtchn::EventChannels;
use radon_grant::{GrantTable, MapTrack};
use radon_hw::lock::{RwLock, SpinLock, rank};
use radon_p2m::{Entry, P2m};
use radon_policy::Policy;
use spin::Once;

use crate::params::Params;
use crate::vcpu::Vcpu;

/// What `XEN_DOMCTL_createdomain` fixes for the life of a domain.
#[derive(Clone, Debug)]
pub struct Config {
    /// Upper bound on vCPUs.
    pub max_vcpus: u32,
    /// Highest event-channel port.
    pub max_evtchn_port: u32,
    /// Highest grant-table version.
    pub max_grant_version: u32,
    /// Limits of the grant table.
    pub max_grant_frames: u32,
    /// Limit of the mapping side.
    pub max_maptrack_frames: u32,
    /// `XEN_DOMCTL_CDF_*` as given.
    pub flags: u32,
    /// `XEN_X86_EMU_*` as given.
    pub emulation_flags: u32,
    /// Security label.
    pub ssidref: u32,
    /// May use the toolstack's hypercalls, owns the devices.
    pub hardware: bool,
}

/// Stage of a domain's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Dying {
    /// Alive.
    No = 0,
    /// Being torn down.
    Dying = 1,
    /// Torn down; kept only because somebody still holds one of its frames.
    Dead = 2,
}

/// Shutdown state as `getdomaininfo` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// `SHUTDOWN_*` code; `None` while it runs.
    pub code: Option<u8>,
}

/// One virtual machine.
pub struct Domain {
    /// Its id.
    pub id: DomId,
    /// Creation parameters.
    pub config: Config,
    /// UUID.
    pub handle: SpinLock<[u8; 16]>,
    /// Guest-physical memory.
    pub p2m: RwLock<P2m>,
    /// Raised with every loss of rights in the p2m.
    pub tlb_generation: AtomicU64,
    /// Event channels.
    pub events: SpinLock<EventChannels>,
    /// Grant table.
    pub grants: SpinLock<GrantTable>,
    /// Mappings that this domain has of others' grants.
    pub maptrack: SpinLock<MapTrack>,
    /// The page of `struct shared_info`.
    pub shared_info: Mfn,
    /// HVM parameters.
    pub params: SpinLock<Params>,
    /// E820 set by the toolstack (`XENMEM_set_memory_map`), raw entries.
    pub memory_map: SpinLock<Vec<[u8; 20]>>,
    /// CPUID and MSR policy.
    pub policy: RwLock<Box<Policy>>,
    /// Callback vector for events (`HVM_PARAM_CALLBACK_IRQ` of type vector), 0 = none.
    pub callback_vector: AtomicU8,
    /// The guest asked for the runstate update flag.
    pub runstate_update_flag: AtomicBool,
    /// Guest's wall-clock offset to the machine's, in seconds.
    pub time_offset_s: AtomicU64,
    /// TSC offset of all vCPUs.
    pub tsc_offset: AtomicU64,
    /// Devices of the hardware domain.
    pub hardware: Once<crate::hardware::HardwareState>,
    /// Memory shared with the guest has the 32-bit layout; see [`crate::layout`].
    pub is_32bit: AtomicBool,
    /// When it was created, for uptime.
    pub created: radon_addr::Ns,
    /// Rate limit of its log lines.
    pub log_limit: radon_hw::console::RateLimit,
    vcpus: Once<Box<[Arc<Vcpu>]>>,
    pause_count: AtomicU32,
    dying: AtomicU8,
    shutdown: AtomicU32,
    /// Paused by the toolstack (`XEN_DOMCTL_pausedomain`), counted.
    pub controller_pauses: AtomicU32,
    /// Where pages of the hypervisor (shared info, grant frames) are mapped in the domain.
    pub shared_places: SpinLock<BTreeMap<Mfn, Gfn>>,
    /// Memory populated on first touch.
    pub pod: SpinLock<crate::pod::Pod>,
    /// Which pages the guest changes.
    pub log_dirty: crate::log_dirty::LogDirty,
    /// Watchdog timers.
    pub watchdogs: crate::watchdog::Watchdogs,
    next_shutdown_code: AtomicU32,
    /// Notes of the toolstack.
    pub toolstack: SpinLock<crate::domctl::ToolstackState>,
    /// Progress of its tear-down.
    pub teardown: SpinLock<crate::destroy::Teardown>,
    /// The page of `shared_info` has been given back.
    pub shared_info_released: AtomicBool,
    /// It has been taken off the list.
    pub reaped: AtomicBool,
}

const NOT_SHUT_DOWN: u32 = u32::MAX;

/// Parts from which a domain is made.
pub struct Parts {
    /// Its id.
    pub id: DomId,
    /// Creation parameters.
    pub config: Config,
    /// UUID.
    pub handle: [u8; 16],
    /// p2m.
    pub p2m: P2m,
    /// Event channels.
    pub events: EventChannels,
    /// Grants.
    pub grants: GrantTable,
    /// Mappings of others' grants.
    pub maptrack: MapTrack,
    /// Zeroed frame for `struct shared_info`.
    pub shared_info: Mfn,
    /// CPU policy.
    pub policy: Policy,
}

impl Domain {
    /// A domain without vCPUs, paused once (as Xen creates it).
    pub fn new(parts: Parts) -> Domain {
        Domain {
            id: parts.id,
            config: parts.config,
            handle: SpinLock::new(rank::LIFECYCLE, parts.handle),
            p2m: RwLock::new(rank::P2M, parts.p2m),
            tlb_generation: AtomicU64::new(1),
            events: SpinLock::new(rank::EVTCHN, parts.events),
            grants: SpinLock::new(rank::GRANT, parts.grants),
            maptrack: SpinLock::new(rank::GRANT, parts.maptrack),
            shared_info: parts.shared_info,
            params: SpinLock::new(rank::LIFECYCLE, Params::new()),
            memory_map: SpinLock::new(rank::LIFECYCLE, Vec::new()),
            policy: RwLock::new(rank::LIFECYCLE, Box::new(parts.policy)),
            callback_vector: AtomicU8::new(0),
            runstate_update_flag: AtomicBool::new(false),
            time_offset_s: AtomicU64::new(0),
            tsc_offset: AtomicU64::new(0),
            hardware: Once::new(),
            is_32bit: AtomicBool::new(false),
            created: radon_hw::time::now(),
            log_limit: radon_hw::console::RateLimit::new(),
            vcpus: Once::new(),
            pause_count: AtomicU32::new(1),
            dying: AtomicU8::new(Dying::No as u8),
            shutdown: AtomicU32::new(NOT_SHUT_DOWN),
            controller_pauses: AtomicU32::new(1),
            shared_places: SpinLock::new(rank::LIFECYCLE, BTreeMap::new()),
            pod: SpinLock::new(radon_hw::lock::Rank(rank::GRANT.0 + 5), crate::pod::Pod::default()),
            log_dirty: Default::default(),
            watchdogs: crate::watchdog::Watchdogs::new(),
            next_shutdown_code: AtomicU32::new(NOT_SHUT_DOWN),
            toolstack: SpinLock::new(rank::LIFECYCLE, Default::default()),
            teardown: SpinLock::new(rank::LIFECYCLE, Default::default()),
            shared_info_released: AtomicBool::new(false),
            reaped: AtomicBool::new(false),
        }
    }

    /// Gives the domain its vCPUs, once.
    pub fn set_vcpus(&self, vcpus: Box<[Arc<Vcpu>]>) -> bool {
        let mut mine = Some(vcpus);
        self.vcpus.call_once(|| mine.take().unwrap_or_default());
        mine.is_none()
    }
    /// All vCPUs (empty before `max_vcpus`).
    #[inline]
    pub fn vcpus(&self) -> &[Arc<Vcpu>] {
        self.vcpus.get().map_or(&[], |b| b)
    }
    /// A vCPU by number.
    #[inline]
    pub fn vcpu(&self, id: VcpuId) -> Option<&Arc<Vcpu>> {
        self.vcpus().get(id.index())
    }

    /// Neither paused nor shut down nor dying.
    #[inline]
    pub fn may_run(&self) -> bool {
        self.pause_count.load(Ordering::SeqCst) == 0
    }
    /// Number of reasons to be paused.
    pub fn pause_count(&self) -> u32 {
        self.pause_count.load(Ordering::SeqCst)
    }
    /// Adds a reason to be paused. Does not wait; see [`crate::run::pause_domain`].
    pub fn add_pause(&self) {
        self.pause_count.fetch_add(1, Ordering::SeqCst);
    }
    /// Takes a reason away; false when there was none.
    pub fn remove_pause(&self) -> bool {
        self.pause_count.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
    }

    /// Stage of its end.
    pub fn dying(&self) -> Dying {
        match self.dying.load(Ordering::Acquire) {
            0 => Dying::No,
            1 => Dying::Dying,
            _ => Dying::Dead,
        }
    }
    /// Moves to the next stage; true when this call made the change.
    pub fn set_dying(&self, from: Dying, to: Dying) -> bool {
        self.dying.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Records a shutdown; true for the first one. A code left by `SCHEDOP_shutdown_code` wins.
    pub fn begin_shutdown(&self, code: u8) -> bool {
        let code = match self.next_shutdown_code.load(Ordering::Relaxed) {
            NOT_SHUT_DOWN => u32::from(code),
            left => left,
        };
        self.shutdown.compare_exchange(NOT_SHUT_DOWN, code, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
    /// `SCHEDOP_shutdown_code`: what the next shutdown will report.
    pub fn set_next_shutdown_code(&self, code: u8) {
        self.next_shutdown_code.store(u32::from(code), Ordering::Relaxed);
    }
    /// The shutdown code, once shut down.
    pub fn shutdown_code(&self) -> Option<u8> {
        match self.shutdown.load(Ordering::Acquire) {
            NOT_SHUT_DOWN => None,
            c => Some(c as u8),
        }
    }
    /// Forgets the shutdown (resume after suspend).
    pub fn clear_shutdown(&self) -> bool {
        self.next_shutdown_code.store(NOT_SHUT_DOWN, Ordering::Relaxed);
        self.shutdown.swap(NOT_SHUT_DOWN, Ordering::AcqRel) != NOT_SHUT_DOWN
    }

    /// May call the toolstack's hypercalls.
    pub fn privileged(&self) -> bool {
        self.config.hardware
    }

    /// Translation of one frame.
    #[inline]
    pub fn lookup(&self, gfn: Gfn) -> Option<Entry> {
        self.p2m.read().lookup(gfn)
    }

    /// Machine address behind a guest-physical one, when it is RAM that the guest may read (and write, if `write`).
    #[inline]
    pub fn ram_at(&self, gpa: Gpa, write: bool) -> Option<Maddr> {
        let entry = self.lookup(gpa.gfn())?;
        let ok = if write { entry.kind.is_writable_ram() } else { entry.kind.is_ram() };
        ok.then(|| Maddr::new(entry.mfn.maddr().raw() | gpa.offset() as u64))
    }
}
