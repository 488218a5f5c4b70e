//! Virtual interrupt controllers: the local APIC of one vCPU and an I/O APIC.
//!
//! Pure state machines. Time comes in as arguments; whatever concerns others (an IPI, an EOI to broadcast, a timer to
//! program) goes out as an effect that the core carries out. Neither structure locks: the core holds its vAPIC lock.
//!
//! Interrupt life: [`LocalApic::accept_irq`] (IRR) → [`LocalApic::highest_pending`] → injected →
//! [`LocalApic::ack`] (ISR) → the guest's EOI: [`Effect::Eoi`] → [`IoApic::eoi`] for level-triggered vectors.
//!
//! Sources: AMD64 APM volume 2 chapter 16, Intel SDM volume 3 chapter 11, Intel 82093AA; what Xen presents.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod base;
mod ioapic;
mod lapic;
mod message;
mod registers;
mod save;
mod timer;
mod vectors;

pub use ioapic::{IoApic, PinChange, PinEoi, Redirection, WriteEffect};
pub use lapic::LocalApic;
pub use message::{DeliveryMode, Destination, Message, msi_message};
pub use registers::{Effect, GeneralProtection};
pub use save::{InvalidState, SavedHidden};
pub use timer::BUS_CYCLE_NS;
pub use vectors::VectorSet;

/// IA32_APIC_BASE.
pub const MSR_APIC_BASE: u32 = 0x1b;
/// First x2APIC register MSR; register at MMIO offset `n << 4` is MSR 0x800 + n.
pub const MSR_X2APIC_FIRST: u32 = 0x800;
/// Last x2APIC register MSR.
pub const MSR_X2APIC_LAST: u32 = 0x8ff;
/// IA32_TSC_DEADLINE.
pub const MSR_TSC_DEADLINE: u32 = 0x6e0;
/// Guest-physical address of every local APIC's xAPIC page.
pub const LAPIC_ADDRESS: u64 = 0xfee0_0000;
