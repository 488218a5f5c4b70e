//! The hardware domain's view of PCI configuration space.
//!
//! dom0 owns every device, so accesses go to the machine, with these exceptions:
//! * **MSI and MSI-X**: address, data and enable bits are virtual (they hold dom0's vector and APIC id). Effects tell the core to
//!   bind a physical vector; the core then programs the machine: [`VirtualPci::program_msi`], or the MSI-X table entry itself.
//!   One MSI message per device is offered; MSI-X is complete.
//! * **memory decoding**: when it is switched, or a BAR moves meanwhile, effects say which pages to map 1:1 and which to trap (MSI-X tables).
//! * **hidden and read-only devices**, which the hypervisor itself uses.
//!
//! Ways in: ports 0xcf8/0xcfc, ECAM windows, and the trapped MSI-X table pages. Not locked: the core holds its vPCI lock.
//!
//! Sources: PCI Local Bus 3.0 (6.1, 6.2.5, 6.8), PCI Express base specification 7.2; what Xen's vPCI presents.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bars;
mod device;
mod msi;
mod msix;
mod pages;
mod sbdf;
mod vpci;

pub use pages::Pages;
pub use sbdf::Sbdf;
pub use vpci::{Ecam, Exposure, MmioRead, MmioWrite, VirtualPci};

use radon_addr::Maddr;

/// The machine's configuration space. `size` is 1, 2 or 4 and `register` a multiple of it; functions that do not exist read
/// all ones.
pub trait ConfigAccess {
    /// Reads `size` bytes, zero-extended.
    fn read(&mut self, sbdf: Sbdf, register: u16, size: u8) -> u32;
    /// Writes the low `size` bytes of `value`.
    fn write(&mut self, sbdf: Sbdf, register: u16, size: u8, value: u32);
}

/// Which interrupt of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MsiSlot {
    /// The MSI capability's only message.
    Msi,
    /// An entry of the MSI-X table.
    Msix {
        /// Number of the entry.
        index: u16,
        /// Where the machine's table entry is (16 bytes: address, data, control with mask bit 0); `None` while the table is not
        /// decoded, so that it cannot be programmed. It is where dom0 put it: check that it is not RAM.
        entry: Option<Maddr>,
    },
}

/// What an access asks of the core, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A message-signalled interrupt has changed. Idempotent.
    MsiUpdate {
        /// The device.
        sbdf: Sbdf,
        /// Its interrupt.
        slot: MsiSlot,
        /// Keep a physical vector bound to it and program the machine; when false, release it.
        active: bool,
        /// For MSI-X, the mask bit the machine's entry is to have. (MSI mask bits pass through.)
        masked: bool,
        /// The guest's message address: decode with `radon_vapic::msi_message`.
        address: u64,
        /// The guest's message data.
        data: u32,
    },
    /// Map these pages 1:1 into dom0's p2m, uncached. They are where dom0 put them: check that they are not RAM.
    Map(Pages),
    /// Remove them from it.
    Unmap(Pages),
    /// Keep them out of it: accesses come to [`VirtualPci::mmio_read`] and `mmio_write`.
    Trap(Pages),
}

/// Where effects go.
pub type Effects<'a> = &'a mut dyn FnMut(Effect);
