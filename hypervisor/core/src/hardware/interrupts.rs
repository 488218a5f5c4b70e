//! Physical interrupts of devices: which vector of which pCPU belongs to which device, and their way to the hardware
//! domain.
//!
//! # Life of a physical interrupt
//! The handler only notes the vector; the local APIC is not acknowledged, so the same vector cannot come again.
//! [`forward_interrupts`] on the same pCPU looks up whose it is, quiets a level-triggered pin at the IO-APIC,
//! acknowledges, and delivers the virtual interrupt. The pin is let loose again by the virtual end of interrupt.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use radon_addr::{CpuId, Gpa, Maddr};
use radon_hw::irq::{self, FIRST_DEVICE_VECTOR, LAST_DEVICE_VECTOR};
use radon_hw::percpu::PerCpu;
use radon_hw::{cpu, per_cpu};
use radon_vapic::{IoApic, Message, msi_message};
use radon_vpci::Sbdf;

use super::ioapic::{Lines, MachinePins};
use super::{HardwareState, OWNER};
use crate::apic;

/// Vectors noted by their handlers, not yet forwarded and not yet acknowledged: one bit each.
static NOTED: PerCpu<[AtomicU64; 4]> = per_cpu!([const { AtomicU64::new(0) }; 4]);

/// Vectors of a pCPU that devices can have.
const VECTORS: usize = (LAST_DEVICE_VECTOR - FIRST_DEVICE_VECTOR) as usize + 1;
/// An 8-bit destination of all ones is everybody.
const MAX_APIC_ID: u32 = 0xfe;

/// Installs the handler of all device vectors.
pub fn listen() {
    for vector in FIRST_DEVICE_VECTOR..=LAST_DEVICE_VECTOR {
        irq::set_handler_without_eoi(vector, note);
    }
}

fn note(vector: u8) {
    if let Some(word) = NOTED.this().get(usize::from(vector / 64)) {
        word.fetch_or(1 << (vector % 64), Ordering::Relaxed);
    }
}

/// Physical interrupts noted on this pCPU since the last call go to the hardware domain. Interrupts are off, no lock but
/// the running vCPU's context is held.
#[inline]
pub fn forward_interrupts() {
    let noted = NOTED.this();
    // From the highest vector down: an acknowledgement goes to the highest in service.
    for (word, bits) in noted.iter().enumerate().rev() {
        if bits.load(Ordering::Relaxed) != 0 {
            forward_word(word as u8, bits.swap(0, Ordering::Relaxed));
        }
    }
}

#[cold]
fn forward_word(word: u8, mut bits: u64) {
    let owner = OWNER.get();
    let hardware = owner.and_then(|domain| domain.hardware.get());
    while let Some(bit) = bits.checked_ilog2() {
        bits &= !(1 << bit);
        let at = Arrival { cpu: cpu::this(), vector: word.wrapping_mul(64).wrapping_add(bit as u8) };
        let message = hardware.and_then(|h| h.interrupts.lock().arrived(at));
        irq::eoi();
        if let (Some(domain), Some(message)) = (owner, message) {
            apic::deliver(domain, None, message);
        }
    }
}

/// Where a physical interrupt arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    /// The pCPU.
    pub cpu: CpuId,
    /// Its vector.
    pub vector: u8,
}

/// What a physical vector is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A global system interrupt.
    Line(u32),
    /// A message-signalled interrupt.
    Message(MessageId),
}

/// A device's message: MSI (`None`) or the MSI-X entry of that number.
pub type MessageId = (Sbdf, Option<u16>);

/// Device vectors of one pCPU.
struct CpuVectors {
    cpu: CpuId,
    apic_id: u8,
    bound: [Option<Source>; VECTORS],
    /// Where the next search begins: a vector that was just released rests longest, as an interrupt may be on its way.
    next: usize,
}

/// The vectors of all pCPUs.
pub struct Vectors(Vec<CpuVectors>);

impl Vectors {
    /// Vectors of these pCPUs (number, local APIC id). Those that a device cannot address are left out.
    pub fn new(cpus: impl IntoIterator<Item = (CpuId, u32)>) -> Vectors {
        let reachable = cpus.into_iter().filter(|&(_, apic_id)| apic_id <= MAX_APIC_ID);
        let vectors =
            |(cpu, apic_id)| CpuVectors { cpu, apic_id: apic_id as u8, bound: [None; VECTORS], next: 0 };
        Vectors(reachable.map(vectors).collect())
    }

    /// Binds a free vector, if possible of pCPU `near`, else of the next with one. `None`: all are in use.
    pub fn bind(&mut self, source: Source, near: CpuId) -> Option<(Arrival, u8)> {
        let first = self.0.iter().position(|c| c.cpu == near).unwrap_or(0);
        let (before, after) = self.0.split_at_mut(first);
        after.iter_mut().chain(before).find_map(|c| {
            let index =
                (0..VECTORS).map(|i| (c.next + i) % VECTORS).find(|&i| c.bound.get(i) == Some(&None))?;
            *c.bound.get_mut(index)? = Some(source);
            c.next = (index + 1) % VECTORS;
            Some((Arrival { cpu: c.cpu, vector: FIRST_DEVICE_VECTOR + index as u8 }, c.apic_id))
        })
    }

    /// Gives a vector back.
    pub fn release(&mut self, at: Arrival) {
        if let Some(slot) = self.slot(at) {
            *slot = None;
        }
    }

    fn slot(&mut self, at: Arrival) -> Option<&mut Option<Source>> {
        let index = usize::from(at.vector.checked_sub(FIRST_DEVICE_VECTOR)?);
        self.0.iter_mut().find(|c| c.cpu == at.cpu)?.bound.get_mut(index)
    }

    /// What a vector is bound to.
    pub fn source(&mut self, at: Arrival) -> Option<Source> {
        *self.slot(at)?
    }
}

/// A message-signalled interrupt that is in use.
struct Bound {
    at: Arrival,
    apic_id: u8,
    /// What the hardware domain wants delivered; `None`: its address is not an interrupt's.
    message: Option<Message>,
}

/// What the machine's device is to be programmed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineMessage {
    /// Address.
    pub address: u64,
    /// Data: fixed delivery, edge.
    pub data: u16,
}

/// The physical interrupts of the hardware domain.
pub struct Interrupts {
    pub(super) lines: Lines<MachinePins>,
    vectors: Vectors,
    messages: BTreeMap<MessageId, Bound>,
}

impl Interrupts {
    /// Nothing bound. `ioapics`: virtual ones by machine address.
    pub fn new(ioapics: Vec<(Maddr, IoApic)>) -> Interrupts {
        let cpus = (0..cpu::count() as u32).map(CpuId::new);
        Interrupts {
            lines: Lines::new(ioapics, MachinePins),
            vectors: Vectors::new(cpus.filter_map(|c| Some((c, cpu::apic_id(c)?)))),
            messages: BTreeMap::new(),
        }
    }

    /// The interrupt to deliver for one that arrived.
    fn arrived(&mut self, at: Arrival) -> Option<Message> {
        match self.vectors.source(at)? {
            Source::Line(gsi) => self.lines.arrived(gsi),
            Source::Message(id) => self.messages.get(&id)?.message,
        }
    }

    /// Writes a register of the virtual IO-APIC at `gpa`, if one is there; the interrupt to deliver now.
    pub fn write_ioapic(&mut self, gpa: Gpa, value: u32) -> Option<Option<Message>> {
        self.lines.write(gpa, value, &mut self.vectors)
    }

    /// Binds a message or changes what it delivers; what the device is to send. `near`: pCPU that would best take it.
    pub fn bind_message(
        &mut self,
        id: MessageId,
        address: u64,
        data: u32,
        near: CpuId,
    ) -> Option<MachineMessage> {
        let message = msi_message(address, data);
        if let Some(bound) = self.messages.get_mut(&id) {
            bound.message = message;
        } else {
            let (at, apic_id) = self.vectors.bind(Source::Message(id), near)?;
            self.messages.insert(id, Bound { at, apic_id, message });
        }
        let bound = self.messages.get(&id)?;
        let address = radon_vapic::LAPIC_ADDRESS | u64::from(bound.apic_id) << 12;
        Some(MachineMessage { address, data: u16::from(bound.at.vector) })
    }

    /// The device does not send this message any more.
    pub fn release_message(&mut self, id: MessageId) {
        if let Some(bound) = self.messages.remove(&id) {
            self.vectors.release(bound.at);
        }
    }
}

/// The pCPU that would best take interrupts for the vCPUs a message names: where the first of them ran last.
pub fn best_cpu(domain: &crate::domain::Domain, message: Option<Message>) -> CpuId {
    let target =
        message.and_then(|m| domain.vcpus().iter().find(|v| v.apic.lock().matches(m.destination, false)));
    target.map_or(CpuId::new(0), |v| CpuId::new(v.last_cpu.load(Ordering::Relaxed)))
}

impl HardwareState {
    /// [`Interrupts::bind_message`] near the vCPU that takes it.
    pub(super) fn bind_message(
        &self,
        domain: &crate::domain::Domain,
        id: MessageId,
        address: u64,
        data: u32,
    ) -> Option<MachineMessage> {
        let near = best_cpu(domain, msi_message(address, data));
        self.interrupts.lock().bind_message(id, address, data, near)
    }
}

#[cfg(test)]
#[path = "interrupts_tests.rs"]
mod tests;
