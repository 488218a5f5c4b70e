//! Static ACPI tables: read the machine's, write those of dom0.
//!
//! Everything here is firmware-supplied and may be garbled: every read is bounds-checked and a bad table is an
//! [`Error`], never a panic. No AML is interpreted; that is dom0's business.
//!
//! References: ACPI Specification 6.5 chapter 5; PCI Firmware 3.3 (MCFG); Intel VT-d 8 (DMAR); AMD IOMMU 48882 §5.2 (IVRS).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod dom0;
mod fadt;
mod iommu;
mod le;
mod madt;
mod numa;
mod platform;
mod rsdp;
mod sleep;
mod tables;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use radon_addr::Maddr;

pub use dom0::{Dom0Acpi, Dom0Params, build_dom0, dom0_ranges};
pub use fadt::{AddressSpace, Fadt, Register};
pub use iommu::{IommuKind, IommuUnit, Remapping, ReservedRange};
pub use madt::{InterruptOverride, IoApic, LocalNmi, Madt, NmiSource, Processor};
pub use numa::{CpuAffinity, MemoryAffinity, Slit, Srat};
pub use platform::{Hpet, McfgSegment, parse_mcfg};
pub use rsdp::{Rsdp, find_rsdp};
pub use tables::{HEADER_LEN, TableRef, Tables};

/// How this crate sees physical memory.
pub trait PhysReader {
    /// Copies `buf.len()` bytes at `at` into `buf`; `false` when any of them cannot be read.
    fn read(&self, at: Maddr, buf: &mut [u8]) -> bool;
}

impl<T: PhysReader + ?Sized> PhysReader for &T {
    fn read(&self, at: Maddr, buf: &mut [u8]) -> bool {
        (**self).read(at, buf)
    }
}

/// Four-character table signature, as stored.
pub type Signature = [u8; 4];

/// Why a table cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No RSDP where the loader said, nor in the BIOS areas.
    NoRsdp,
    /// Physical memory at this address cannot be read.
    Unreadable(Maddr),
    /// The bytes of this table do not sum to zero.
    BadChecksum(Signature),
    /// The table at this place carries another signature.
    BadSignature(Signature),
    /// A length field is too small, too large, or an entry runs over the end of this table.
    BadLength(Signature),
    /// A field of this table holds a value that makes no sense.
    BadValue(Signature),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        struct Sig(Signature);
        impl core::fmt::Display for Sig {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                self.0.iter().try_for_each(|&b| {
                    let c = if b.is_ascii_graphic() { b as char } else { '?' };
                    core::fmt::Write::write_char(f, c)
                })
            }
        }
        match *self {
            Error::NoRsdp => write!(f, "no ACPI RSDP found"),
            Error::Unreadable(at) => write!(f, "ACPI memory at {at:#x} is unreadable"),
            Error::BadChecksum(s) => write!(f, "ACPI table {} has a bad checksum", Sig(s)),
            Error::BadSignature(s) => write!(f, "ACPI table has signature {}", Sig(s)),
            Error::BadLength(s) => write!(f, "ACPI table {} has a bad length", Sig(s)),
            Error::BadValue(s) => write!(f, "ACPI table {} has a nonsensical field", Sig(s)),
        }
    }
}

impl core::error::Error for Error {}
