//! A virtual CPU: what others may touch at any time (atomics, small locks) and the context that belongs to the pCPU
//! which runs it.
//!
//! # Who may run
//! A vCPU is *runnable* when it is up, not blocked, and neither it nor its domain is paused or shut down
//! ([`Vcpu::runnable`]). Whoever changes one of these conditions then tells the scheduler ([`crate::run::reschedule`]),
//! which looks at them again under its lock: so no wake-up can be lost.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use radon_addr::{CpuId, DomId, Maddr, Ns, VcpuId};
use radon_frames::FrameRef;
use radon_hw::lock::{Rank, SpinLock, rank};
use radon_vapic::LocalApic;

use crate::context::Context;
use crate::domain::Domain;
use crate::runstate::RunstateClock;

/// "No pCPU": the vCPU is not loaded anywhere.
const NOWHERE: u32 = u32::MAX;
/// "None" in [`Vcpu::startup`].
const NO_STARTUP: u32 = u32::MAX;
/// "Not in guest mode" in [`Vcpu::guest_generation`].
const NOT_IN_GUEST: u64 = 0;

/// A virtual CPU.
pub struct Vcpu {
    /// Number within the domain.
    pub id: VcpuId,
    /// Its domain's id.
    pub dom_id: DomId,
    domain: Weak<Domain>,
    /// Register state; held by the pCPU that runs the vCPU.
    pub context: SpinLock<Context>,
    /// Local APIC.
    pub apic: SpinLock<LocalApic>,
    /// Time spent in each run state, and where the guest wants it published.
    pub runstate: SpinLock<RunstateClock>,
    up: AtomicBool,
    blocked: AtomicBool,
    pause_count: AtomicU32,
    running_on: AtomicU32,
    guest_generation: AtomicU64,
    /// Vector set by `HVMOP_set_evtchn_upcall_vector`, 0 = none.
    pub upcall_vector: AtomicU8,
    /// Guest-virtual address of a second copy of the clock record (`VCPUOP_register_vcpu_time_memory_area`), 0 = none.
    pub time_area: AtomicU64,
    /// Where `struct vcpu_info` lies in machine memory, 0 = nowhere yet.
    pub vcpu_info: AtomicU64,
    /// Reference to the page registered by `VCPUOP_register_vcpu_info`.
    pub vcpu_info_frame: SpinLock<Option<FrameRef>>,
    /// An INIT came; the next start-up IPI starts it.
    pub waiting_for_startup: AtomicBool,
    /// Page of a start-up IPI that the vCPU has yet to act on.
    startup: AtomicU32,
    /// Set when a non-maskable interrupt is due.
    pub nmi_pending: AtomicBool,
    /// Deadline of `VCPUOP_set_singleshot_timer`, `u64::MAX` = none.
    pub singleshot: AtomicU64,
    /// Next tick and period of the periodic timer, `u64::MAX` = none.
    pub periodic_next: AtomicU64,
    /// Period in ns, 0 = off.
    pub periodic_ns: AtomicU64,
    /// Deadline of `HYPERVISOR_set_timer_op` and of the local APIC timer, `u64::MAX` = none.
    pub apic_deadline: AtomicU64,
    /// Set while the vCPU waits in `SCHEDOP_poll`.
    pub polling: AtomicBool,
    /// Deadline of that poll, `u64::MAX` = none.
    pub poll_deadline: AtomicU64,
    /// Time slept waiting for work is accounted; pCPU it ran on last.
    pub last_cpu: AtomicU32,
    /// Something to deliver may be waiting: look at the APIC and the event upcall before the next entry.
    pub attention: AtomicBool,
    /// The timer queue in which it stands (its pCPU), and under which deadline. Locked for every change of either, so that it
    /// stands in one queue once, whoever changes its timers at the same time.
    pub queued: SpinLock<Option<(CpuId, Ns)>>,
}

impl Vcpu {
    /// A vCPU that is down.
    pub fn new(id: VcpuId, dom_id: DomId, domain: Weak<Domain>, context: Context, apic: LocalApic) -> Vcpu {
        Vcpu {
            id,
            dom_id,
            domain,
            context: SpinLock::new(rank::VCPU, context),
            apic: SpinLock::new(rank::VAPIC, apic),
            runstate: SpinLock::new(Rank(rank::VAPIC.0 + 1), RunstateClock::new()),
            up: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            pause_count: AtomicU32::new(0),
            running_on: AtomicU32::new(NOWHERE),
            guest_generation: AtomicU64::new(NOT_IN_GUEST),
            upcall_vector: AtomicU8::new(0),
            time_area: AtomicU64::new(0),
            vcpu_info: AtomicU64::new(0),
            vcpu_info_frame: SpinLock::new(rank::LIFECYCLE, None),
            waiting_for_startup: AtomicBool::new(true),
            startup: AtomicU32::new(NO_STARTUP),
            nmi_pending: AtomicBool::new(false),
            singleshot: AtomicU64::new(u64::MAX),
            periodic_next: AtomicU64::new(u64::MAX),
            periodic_ns: AtomicU64::new(0),
            apic_deadline: AtomicU64::new(u64::MAX),
            polling: AtomicBool::new(false),
            poll_deadline: AtomicU64::new(u64::MAX),
            last_cpu: AtomicU32::new(0),
            attention: AtomicBool::new(true),
            queued: SpinLock::new(Rank(rank::TIMER.0 - 5), None),
        }
    }

    /// The domain, unless it is gone.
    pub fn domain(&self) -> Option<Arc<Domain>> {
        self.domain.upgrade()
    }

    /// Key that names the vCPU in the scheduler and in timer queues.
    pub fn key(&self) -> u64 {
        u64::from(self.dom_id.raw()) << 32 | u64::from(self.id.raw())
    }

    /// The vCPU has been brought up (`VCPUOP_up`, start-up IPI, or the boot vCPU).
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }
    /// Brings the vCPU up or down; the caller reschedules it.
    pub fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Release);
    }

    /// Notes a start-up IPI (`Some(page)`) for whoever holds the context next, or forgets one.
    pub fn set_startup(&self, page: Option<u8>) {
        self.startup.store(page.map_or(NO_STARTUP, u32::from), Ordering::SeqCst);
    }
    /// Takes the start-up IPI that is to be acted on.
    #[inline]
    pub fn take_startup(&self) -> Option<u8> {
        if self.startup.load(Ordering::SeqCst) == NO_STARTUP {
            return None;
        }
        u8::try_from(self.startup.swap(NO_STARTUP, Ordering::SeqCst)).ok()
    }

    /// Waiting for an event.
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }
    /// Marks the vCPU as waiting. The caller must look for events *after* this.
    pub fn set_blocked(&self) {
        self.blocked.store(true, Ordering::SeqCst);
    }
    /// Takes the waiting mark back; true if it was set.
    pub fn clear_blocked(&self) -> bool {
        self.blocked.swap(false, Ordering::SeqCst)
    }

    /// Starts to wait in `SCHEDOP_poll`; `deadline` in ns, `u64::MAX` = none. The caller must look at the ports *after* this.
    pub fn begin_poll(&self, deadline: u64) {
        self.poll_deadline.store(deadline, Ordering::Relaxed);
        self.polling.store(true, Ordering::SeqCst);
        // The entry path must not take the way of a vCPU for which nothing is to be done.
        self.attention.store(true, Ordering::SeqCst);
    }
    /// Ends the wait. The deadline goes first: a poll that begins at once sets its own.
    pub fn end_poll(&self) {
        self.poll_deadline.store(u64::MAX, Ordering::Relaxed);
        self.polling.store(false, Ordering::SeqCst);
    }

    /// Adds a reason to be paused.
    pub fn pause(&self) {
        self.pause_count.fetch_add(1, Ordering::SeqCst);
    }
    /// Takes a reason away. Returns false (and changes nothing) when there was none.
    pub fn unpause(&self) -> bool {
        self.pause_count.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
    }

    /// May it run?
    pub fn runnable(&self, domain: &Domain) -> bool {
        self.up.load(Ordering::SeqCst)
            && !self.blocked.load(Ordering::SeqCst)
            && self.pause_count.load(Ordering::SeqCst) == 0
            && domain.may_run()
    }

    /// The pCPU on which it is loaded now.
    pub fn running_on(&self) -> Option<CpuId> {
        match self.running_on.load(Ordering::SeqCst) {
            NOWHERE => None,
            n => Some(CpuId::new(n)),
        }
    }
    /// Records where it is loaded.
    pub fn set_running_on(&self, cpu: Option<CpuId>) {
        self.running_on.store(cpu.map_or(NOWHERE, CpuId::raw), Ordering::SeqCst);
    }

    /// Declares that the vCPU is about to use translations of this generation.
    #[inline]
    pub fn enter_guest(&self, generation: u64) {
        self.guest_generation.store(generation.wrapping_add(1), Ordering::SeqCst);
    }
    /// Declares that it has left guest mode.
    #[inline]
    pub fn leave_guest(&self) {
        self.guest_generation.store(NOT_IN_GUEST, Ordering::Release);
    }
    /// May it be in guest mode? Read after raising `attention`, false means that it will see that before its next entry.
    pub fn in_guest(&self) -> bool {
        self.guest_generation.load(Ordering::SeqCst) != NOT_IN_GUEST
    }
    /// True while it runs in guest mode with translations older than `generation`.
    pub fn uses_older_than(&self, generation: u64) -> bool {
        match self.guest_generation.load(Ordering::SeqCst) {
            NOT_IN_GUEST => false,
            g => g.wrapping_sub(1) < generation,
        }
    }

    /// The earliest of its timers.
    #[inline]
    pub fn next_deadline(&self) -> Ns {
        let earliest = self
            .singleshot
            .load(Ordering::Relaxed)
            .min(self.periodic_next.load(Ordering::Relaxed))
            .min(self.apic_deadline.load(Ordering::Relaxed))
            .min(self.poll_deadline.load(Ordering::Relaxed));
        Ns::new(earliest)
    }

    /// Machine address of its `vcpu_info`.
    pub fn vcpu_info(&self) -> Option<Maddr> {
        match self.vcpu_info.load(Ordering::Acquire) {
            0 => None,
            m => Some(Maddr::new(m)),
        }
    }
}
