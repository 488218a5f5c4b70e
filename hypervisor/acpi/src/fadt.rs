//! Fixed ACPI description table (ACPI 6.5 §5.2.9).

use radon_addr::Maddr;

use crate::Error;
use crate::le::{u8_at, u16_at, u32_at, u64_at};

const SIG: [u8; 4] = *b"FACP";
/// Length of the ACPI 1.0 layout, the shortest there is.
const V1_LEN: usize = 116;

/// Address space of a [`Register`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSpace {
    /// System memory.
    Memory,
    /// I/O ports.
    Port,
    /// PCI configuration space of bus 0: device in bits 32.., function in 16.., offset in 0.. of the address.
    PciConfig,
    /// Anything else, by its number.
    Other(u8),
}

/// A generic address structure (ACPI 6.5 §5.2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Which space `address` is in.
    pub space: AddressSpace,
    /// Width in bits.
    pub bit_width: u8,
    /// Offset in bits.
    pub bit_offset: u8,
    /// 0 undefined, 1 byte, 2 word, 3 dword, 4 qword.
    pub access_size: u8,
    /// Address; 0 means the register does not exist.
    pub address: u64,
}

impl Register {
    /// Reads the 12-byte structure at `off`.
    pub(crate) fn at(b: &[u8], off: usize) -> Option<Register> {
        Some(Register {
            space: match u8_at(b, off)? {
                0 => AddressSpace::Memory,
                1 => AddressSpace::Port,
                2 => AddressSpace::PciConfig,
                n => AddressSpace::Other(n),
            },
            bit_width: u8_at(b, off.checked_add(1)?)?,
            bit_offset: u8_at(b, off.checked_add(2)?)?,
            access_size: u8_at(b, off.checked_add(3)?)?,
            address: u64_at(b, off.checked_add(4)?)?,
        })
    }

    /// The port number, if it is an existing port register.
    pub fn port(&self) -> Option<u16> {
        match self.space {
            AddressSpace::Port if self.address != 0 => self.address.try_into().ok(),
            _ => None,
        }
    }
}

/// The fields a hypervisor uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fadt {
    /// Differentiated system description table, 0 when absent.
    pub dsdt: Maddr,
    /// Firmware control structure, 0 when absent.
    pub facs: Maddr,
    /// Interrupt of the SCI (an ISA number on 8259 machines, else a GSI).
    pub sci_irq: u16,
    /// SMI command port, 0 when absent.
    pub smi_cmd: u32,
    /// Value for `smi_cmd` that switches to ACPI mode.
    pub acpi_enable: u8,
    /// Value for `smi_cmd` that leaves ACPI mode.
    pub acpi_disable: u8,
    /// PM1a event block.
    pub pm1a_event: Option<Register>,
    /// PM1b event block.
    pub pm1b_event: Option<Register>,
    /// PM1a control register.
    pub pm1a_control: Option<Register>,
    /// PM1b control register.
    pub pm1b_control: Option<Register>,
    /// PM timer.
    pub pm_timer: Option<Register>,
    /// Counter width of the PM timer in bits, 24 or 32.
    pub pm_timer_bits: u8,
    /// `IAPC_BOOT_ARCH`: bit 0 legacy devices, 1 8042, 2 no VGA, 3 no MSI, 5 no CMOS RTC.
    pub boot_arch: u16,
    /// Fixed feature flags as stored.
    pub flags: u32,
    /// Reset register and the value to write, when the machine declares support.
    pub reset: Option<(Register, u8)>,
}

impl Fadt {
    /// Hardware-reduced: no PM1, no PM timer.
    pub fn hardware_reduced(&self) -> bool {
        self.flags & (1 << 20) != 0
    }

    /// Parses a whole table, header included.
    pub fn parse(b: &[u8]) -> Result<Fadt, Error> {
        let bad = Error::BadLength(SIG);
        if b.len() < V1_LEN {
            return Err(bad);
        }
        let flags = u32_at(b, 112).ok_or(bad)?;
        // 64-bit fields win when present and not zero (ACPI 6.5 table 5.9).
        let wide = |off: usize, old: usize| -> Result<Maddr, Error> {
            let old = u32_at(b, old).ok_or(bad)?.into();
            Ok(Maddr::new(u64_at(b, off).filter(|&a| a != 0).unwrap_or(old)))
        };
        let block = |off: usize, old: usize, len_at: usize| -> Option<Register> {
            let x = Register::at(b, off).filter(|r| r.address != 0);
            x.or_else(|| {
                let address = u64::from(u32_at(b, old)?);
                let bit_width = u8_at(b, len_at)?.saturating_mul(8);
                let space = AddressSpace::Port;
                (address != 0).then_some(Register {
                    space,
                    bit_width,
                    bit_offset: 0,
                    access_size: 0,
                    address,
                })
            })
        };
        let reset = Register::at(b, 116).filter(|r| r.address != 0 && flags & (1 << 10) != 0);
        Ok(Fadt {
            dsdt: wide(140, 40)?,
            facs: wide(132, 36)?,
            sci_irq: u16_at(b, 46).ok_or(bad)?,
            smi_cmd: u32_at(b, 48).ok_or(bad)?,
            acpi_enable: u8_at(b, 52).ok_or(bad)?,
            acpi_disable: u8_at(b, 53).ok_or(bad)?,
            pm1a_event: block(148, 56, 88),
            pm1b_event: block(160, 60, 88),
            pm1a_control: block(172, 64, 89),
            pm1b_control: block(184, 68, 89),
            pm_timer: block(208, 76, 91),
            pm_timer_bits: if flags & (1 << 8) != 0 { 32 } else { 24 },
            boot_arch: u16_at(b, 109).ok_or(bad)?,
            flags,
            reset: reset.zip(u8_at(b, 128)),
        })
    }
}
