//! Multiple APIC description table: processors and interrupt controllers (ACPI 6.5 §5.2.12).

use alloc::vec::Vec;

use crate::Error;
use crate::le::{Layout, Records, u8_at, u16_at, u32_at, u64_at};

const SIG: [u8; 4] = *b"APIC";
/// Header, local APIC address, flags.
pub(crate) const FIXED_LEN: usize = 44;
pub(crate) const TYPE_IOAPIC: u8 = 1;
pub(crate) const TYPE_OVERRIDE: u8 = 2;
pub(crate) const TYPE_X2APIC: u8 = 9;
/// `ACPI_MADT_ENABLED` of a processor entry.
pub(crate) const ENABLED: u32 = 1;

/// One local APIC or x2APIC entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// ACPI processor UID.
    pub uid: u32,
    /// APIC id.
    pub apic_id: u32,
    /// Usable now.
    pub enabled: bool,
    /// May be brought in later.
    pub online_capable: bool,
}

/// One IO-APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApic {
    /// APIC id of the controller.
    pub id: u8,
    /// Machine address of its registers.
    pub address: u32,
    /// Global system interrupt of its pin 0.
    pub gsi_base: u32,
}

/// Where an ISA interrupt really goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptOverride {
    /// Always 0 (ISA).
    pub bus: u8,
    /// ISA interrupt number.
    pub source: u8,
    /// Global system interrupt it is wired to.
    pub gsi: u32,
    /// MPS INTI flags: polarity in bits 0-1, trigger mode in bits 2-3.
    pub flags: u16,
}

impl InterruptOverride {
    /// Polarity is given as active low.
    pub fn active_low(&self) -> bool {
        self.flags & 3 == 3
    }
    /// Trigger mode is given as level.
    pub fn level(&self) -> bool {
        (self.flags >> 2) & 3 == 3
    }
}

/// An IO-APIC pin that delivers NMI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NmiSource {
    /// Global system interrupt.
    pub gsi: u32,
    /// MPS INTI flags.
    pub flags: u16,
}

/// A local APIC pin that delivers NMI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalNmi {
    /// ACPI processor UID; `None` means all processors.
    pub uid: Option<u32>,
    /// 0 or 1.
    pub lint: u8,
    /// MPS INTI flags.
    pub flags: u16,
}

/// The parsed table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Madt {
    /// Machine address of the local APICs (the 64-bit override applied).
    pub lapic_address: u64,
    /// The machine also has two 8259s.
    pub pcat_compat: bool,
    /// All processor entries, usable or not, in table order (the boot processor is first by convention only).
    pub processors: Vec<Processor>,
    /// IO-APICs.
    pub ioapics: Vec<IoApic>,
    /// ISA interrupt overrides.
    pub overrides: Vec<InterruptOverride>,
    /// NMI pins of IO-APICs.
    pub nmi_sources: Vec<NmiSource>,
    /// NMI pins of local APICs.
    pub local_nmis: Vec<LocalNmi>,
}

impl Madt {
    /// Parses a whole table, header included. A record of unknown type is passed over; a short or overlong one is an error.
    pub fn parse(b: &[u8]) -> Result<Madt, Error> {
        let bad = Error::BadLength(SIG);
        let flags = u32_at(b, 40).ok_or(bad)?;
        let mut madt = Madt {
            lapic_address: u32_at(b, 36).ok_or(bad)?.into(),
            pcat_compat: flags & 1 != 0,
            ..Madt::default()
        };
        for record in Records::new(b.get(FIXED_LEN..).ok_or(bad)?, Layout::Byte) {
            let (kind, e) = record.ok_or(bad)?;
            madt.entry(kind, e).ok_or(bad)?;
        }
        Ok(madt)
    }

    fn entry(&mut self, kind: u16, e: &[u8]) -> Option<()> {
        match kind {
            0 => self.add_processor(u8_at(e, 2)?.into(), u8_at(e, 3)?.into(), u32_at(e, 4)?, 0xff),
            1 => self.ioapics.push(IoApic {
                id: u8_at(e, 2)?,
                address: u32_at(e, 4)?,
                gsi_base: u32_at(e, 8)?,
            }),
            2 => self.overrides.push(InterruptOverride {
                bus: u8_at(e, 2)?,
                source: u8_at(e, 3)?,
                gsi: u32_at(e, 4)?,
                flags: u16_at(e, 8)?,
            }),
            3 => self.nmi_sources.push(NmiSource { flags: u16_at(e, 2)?, gsi: u32_at(e, 4)? }),
            4 => {
                let uid = u8_at(e, 2)?;
                let uid = (uid != 0xff).then_some(uid.into());
                self.local_nmis.push(LocalNmi { uid, flags: u16_at(e, 3)?, lint: u8_at(e, 5)? });
            }
            5 => self.lapic_address = u64_at(e, 4)?,
            9 => self.add_processor(u32_at(e, 12)?, u32_at(e, 4)?, u32_at(e, 8)?, u32::MAX),
            10 => {
                let uid = u32_at(e, 4)?;
                let uid = (uid != u32::MAX).then_some(uid);
                self.local_nmis.push(LocalNmi { uid, flags: u16_at(e, 2)?, lint: u8_at(e, 8)? });
            }
            _ => {}
        }
        Some(())
    }

    /// Firmware lists absent processors with the broadcast id, and some lists a processor as both LAPIC and x2APIC: the
    /// former is dropped, the latter kept once (enabled if either is).
    fn add_processor(&mut self, uid: u32, apic_id: u32, flags: u32, broadcast: u32) {
        if apic_id == broadcast {
            return;
        }
        let p = Processor { uid, apic_id, enabled: flags & ENABLED != 0, online_capable: flags & 2 != 0 };
        match self.processors.iter_mut().find(|q| q.apic_id == apic_id) {
            Some(q) => q.enabled |= p.enabled,
            None => self.processors.push(p),
        }
    }

    /// APIC ids of the usable processors, in table order, each once.
    pub fn cpus(&self) -> impl Iterator<Item = u32> + '_ {
        self.processors.iter().filter(|p| p.enabled).map(|p| p.apic_id)
    }

    /// Global system interrupt and flags of an ISA interrupt (identity, flags 0, unless overridden).
    pub fn isa_to_gsi(&self, irq: u8) -> (u32, u16) {
        self.overrides.iter().find(|o| o.source == irq).map_or((irq.into(), 0), |o| (o.gsi, o.flags))
    }
}
