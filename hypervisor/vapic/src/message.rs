//! Interrupt messages: where they go and what they say.

/// How an interrupt message acts on its targets (ICR, LVT, redirection entry and MSI data bits 10:8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DeliveryMode {
    Fixed,
    LowestPriority,
    Smi,
    /// Remote read in an ICR; reserved elsewhere.
    Reserved,
    Nmi,
    Init,
    Startup,
    ExtInt,
}

impl DeliveryMode {
    /// From bits 10:8 of `register`.
    pub const fn from_register(register: u32) -> Self {
        match register >> 8 & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            3 => Self::Reserved,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::Startup,
            _ => Self::ExtInt,
        }
    }
}

/// Which local APICs a message is for; see [`crate::LocalApic::matches`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// By APIC id; `u32::MAX` is everyone.
    Physical(u32),
    /// By logical id, in the target's own model (flat, cluster, x2APIC).
    Logical(u32),
    /// The sender.
    Myself,
    /// Everyone.
    All,
    /// Everyone but the sender.
    Others,
}

impl Destination {
    /// An 8-bit destination field, as in xAPIC ICRs, redirection entries and MSI addresses.
    pub const fn from_field(field: u8, logical: bool) -> Self {
        match (logical, field) {
            (true, _) => Self::Logical(field as u32),
            (false, 0xff) => Self::Physical(u32::MAX),
            (false, _) => Self::Physical(field as u32),
        }
    }
}

/// An interrupt message on the (virtual) system bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Targets.
    pub destination: Destination,
    /// Action.
    pub mode: DeliveryMode,
    /// Vector; the start page for [`DeliveryMode::Startup`].
    pub vector: u8,
    /// Level-triggered: its EOI is broadcast to the I/O APICs.
    pub level: bool,
}

/// Decodes an MSI (SDM volume 3, 11.11). `None`: the address is not an interrupt's (bits 31:20 are not 0xfee, or bits
/// above 32 are set).
///
/// Bits 11:5 of the address extend the destination to 15 bits (`XEN_HVM_CPUID_EXT_DEST_ID`), zero when unused.
pub fn msi_message(address: u64, data: u32) -> Option<Message> {
    if address >> 20 != 0xfee {
        return None;
    }
    let field = (address >> 12 & 0xff) as u32;
    let extended = (address >> 5 & 0x7f) as u32;
    let logical = address & 4 != 0;
    let destination = match extended {
        0 => Destination::from_field(field as u8, logical),
        _ if logical => Destination::Logical(extended << 8 | field),
        _ => Destination::Physical(extended << 8 | field),
    };
    let mode = DeliveryMode::from_register(data);
    Some(Message { destination, mode, vector: data as u8, level: data & 1 << 15 != 0 })
}
