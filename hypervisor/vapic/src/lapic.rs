//! The local APIC of one vCPU: interrupt acceptance, priority, end of interrupt.

use crate::base::{BASE_BSP, BASE_ENABLE, BASE_X2APIC};
use crate::message::Destination;
use crate::timer::Timer;
use crate::vectors::VectorSet;
use crate::{DeliveryMode, LAPIC_ADDRESS};

/// Local vector table entries, in register order.
pub(crate) const LVT_TIMER: usize = 0;
pub(crate) const LVT_ERROR: usize = 5;
pub(crate) const LVT_COUNT: usize = 6;
pub(crate) const LVT_MASKED: u32 = 1 << 16;

pub(crate) const SVR_ENABLED: u32 = 1 << 8;
pub(crate) const DFR_FLAT: u32 = 0xffff_ffff;
const DFR_CLUSTER: u32 = 0x0fff_ffff;

/// ESR: an illegal vector was in an IPI to send.
pub(crate) const ESR_SEND_ILLEGAL: u32 = 1 << 5;
/// ESR: an illegal vector was received, or is in an LVT.
pub(crate) const ESR_RECEIVE_ILLEGAL: u32 = 1 << 6;

/// A vCPU's local APIC.
#[derive(Clone, Debug)]
pub struct LocalApic {
    pub(crate) apic_id: u32,
    pub(crate) x2apic_allowed: bool,
    pub(crate) base_msr: u64,
    pub(crate) tpr: u8,
    pub(crate) irr: VectorSet,
    pub(crate) isr: VectorSet,
    pub(crate) tmr: VectorSet,
    /// Logical destination register, in the format of the current mode.
    pub(crate) ldr: u32,
    pub(crate) dfr: u32,
    pub(crate) svr: u32,
    /// What the guest reads; errors since its last ESR write are in `esr_pending`.
    pub(crate) esr: u32,
    pub(crate) esr_pending: u32,
    pub(crate) icr: u32,
    /// ICR bits 63:32: the destination, in the format of the current mode.
    pub(crate) icr_high: u32,
    pub(crate) lvt: [u32; LVT_COUNT],
    pub(crate) timer: Timer,
}

impl LocalApic {
    /// A local APIC after power-on. Xen numbers them `apic_id = vcpu * 2`; `bsp` marks vCPU 0.
    pub fn new(apic_id: u32, bsp: bool, x2apic_allowed: bool) -> Self {
        let mut apic = LocalApic {
            apic_id,
            x2apic_allowed,
            base_msr: LAPIC_ADDRESS | BASE_ENABLE | if bsp { BASE_BSP } else { 0 },
            tpr: 0,
            irr: VectorSet::EMPTY,
            isr: VectorSet::EMPTY,
            tmr: VectorSet::EMPTY,
            ldr: 0,
            dfr: DFR_FLAT,
            svr: 0,
            esr: 0,
            esr_pending: 0,
            icr: 0,
            icr_high: 0,
            lvt: [LVT_MASKED; LVT_COUNT],
            timer: Timer::default(),
        };
        apic.init();
        apic
    }

    /// Back to the power-on state: enabled in xAPIC mode, software-disabled.
    pub fn reset(&mut self) {
        *self = Self::new(self.apic_id, self.base_msr & BASE_BSP != 0, self.x2apic_allowed);
    }

    /// INIT: everything but the APIC id and APIC_BASE; in x2APIC mode the LDR stays too.
    pub fn init(&mut self) {
        if !self.x2apic_mode() {
            self.ldr = 0;
        }
        self.tpr = 0;
        self.irr = VectorSet::EMPTY;
        self.isr = VectorSet::EMPTY;
        self.tmr = VectorSet::EMPTY;
        self.dfr = DFR_FLAT;
        self.svr = 0xff;
        self.esr = 0;
        self.esr_pending = 0;
        self.icr = 0;
        self.icr_high = 0;
        self.lvt = [LVT_MASKED; LVT_COUNT];
        self.timer = Timer::default();
    }

    /// APIC id.
    pub fn id(&self) -> u32 {
        self.apic_id
    }

    /// Whether APIC_BASE has it on.
    pub fn hardware_enabled(&self) -> bool {
        self.base_msr & BASE_ENABLE != 0
    }

    /// Whether it accepts interrupts: on in APIC_BASE and in the spurious-vector register.
    pub fn enabled(&self) -> bool {
        self.hardware_enabled() && self.svr & SVR_ENABLED != 0
    }

    /// Whether it is in x2APIC mode: registers are MSRs, the MMIO page is dead.
    pub fn x2apic_mode(&self) -> bool {
        self.base_msr & (BASE_ENABLE | BASE_X2APIC) == BASE_ENABLE | BASE_X2APIC
    }

    /// Whether an access to `gpa` is for the xAPIC register page.
    pub fn claims(&self, gpa: u64) -> bool {
        self.hardware_enabled() && !self.x2apic_mode() && gpa & !0xfff == LAPIC_ADDRESS
    }

    /// Makes `vector` pending, as a fixed interrupt from the bus. Dropped when disabled.
    /// Returns whether it was not pending before, so that the vCPU needs a kick.
    pub fn accept_irq(&mut self, vector: u8, level: bool) -> bool {
        if !self.enabled() {
            return false;
        }
        self.tmr_set(vector, level);
        self.post(vector)
    }

    /// Makes edge-triggered `vector` pending even when software-disabled: it waits for the guest to enable its APIC (event
    /// channel upcall vectors). Returns whether it is newly pending.
    pub fn post(&mut self, vector: u8) -> bool {
        if vector < 16 {
            self.error(ESR_RECEIVE_ILLEGAL);
            return false;
        }
        self.irr.insert(vector)
    }

    fn tmr_set(&mut self, vector: u8, level: bool) {
        if level {
            self.tmr.insert(vector);
        } else if !self.tmr.is_empty() {
            self.tmr.remove(vector);
        }
    }

    /// Records an error and raises the error interrupt unless masked.
    pub(crate) fn error(&mut self, bits: u32) {
        if self.esr_pending & bits == bits {
            return;
        }
        self.esr_pending |= bits;
        let entry = self.lvt.get(LVT_ERROR).copied().unwrap_or(LVT_MASKED);
        if entry & LVT_MASKED != 0 {
            return;
        }
        let vector = entry as u8;
        if vector < 16 {
            // Its own vector is illegal: note that, without recursion.
            self.esr_pending |= ESR_RECEIVE_ILLEGAL;
        } else {
            self.irr.insert(vector);
        }
    }

    /// The vector to inject now: highest requested, if its class is above the processor priority.
    #[inline]
    pub fn highest_pending(&self) -> Option<u8> {
        let vector = self.irr.highest()?;
        (self.enabled() && vector & 0xf0 > self.ppr() & 0xf0).then_some(vector)
    }

    /// The highest requested vector, whatever the priority (it may wait for the guest to lower its TPR).
    pub fn highest_requested(&self) -> Option<u8> {
        if self.enabled() { self.irr.highest() } else { None }
    }

    /// `vector` was injected: from requested to in service.
    pub fn ack(&mut self, vector: u8) {
        if self.irr.remove(vector) {
            self.isr.insert(vector);
        }
    }

    /// End of interrupt: the vector that was in service and whether it was level-triggered.
    #[inline]
    pub fn eoi(&mut self) -> Option<(u8, bool)> {
        let vector = self.isr.highest()?;
        self.isr.remove(vector);
        Some((vector, self.tmr.contains(vector)))
    }

    /// Processor priority.
    #[inline]
    pub fn ppr(&self) -> u8 {
        let in_service = self.isr.highest().unwrap_or(0) & 0xf0;
        if self.tpr & 0xf0 >= in_service { self.tpr } else { in_service }
    }

    /// Task priority (CR8 is its upper four bits).
    pub fn tpr(&self) -> u8 {
        self.tpr
    }

    /// Sets the task priority, for example from the VMCB's V_TPR: `cr8 << 4`.
    pub fn set_tpr(&mut self, tpr: u8) {
        self.tpr = tpr;
    }

    /// Whether this APIC is among the targets; `sender` says that it sent the message itself.
    pub fn matches(&self, destination: Destination, sender: bool) -> bool {
        match destination {
            Destination::Physical(id) => id == u32::MAX || id == self.apic_id,
            Destination::Logical(id) => self.matches_logical(id),
            Destination::Myself => sender,
            Destination::All => true,
            Destination::Others => !sender,
        }
    }

    fn matches_logical(&self, id: u32) -> bool {
        if self.x2apic_mode() {
            return id == u32::MAX || (self.ldr >> 16 == id >> 16 && self.ldr & id & 0xffff != 0);
        }
        let (mine, id) = (self.ldr >> 24, id & 0xff);
        match self.dfr {
            DFR_FLAT => mine & id != 0,
            // All ones is a broadcast in the cluster model.
            DFR_CLUSTER => id == 0xff || (mine >> 4 == id >> 4 && mine & id & 0xf != 0),
            _ => false,
        }
    }

    /// LINT1 or LINT0 as programmed: its delivery mode and vector unless masked (`pin` 0 or 1).
    pub fn lint(&self, pin: usize) -> Option<(DeliveryMode, u8)> {
        let entry = self.lvt.get(pin.checked_add(3)?).copied().filter(|_| pin < 2)?;
        (entry & LVT_MASKED == 0).then(|| (DeliveryMode::from_register(entry), entry as u8))
    }
}

#[cfg(test)]
#[path = "lapic_tests.rs"]
mod tests;
