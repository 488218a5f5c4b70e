//! The name of a PCI function.

use core::fmt;

/// Segment, bus, device and function: `segment << 16 | bus << 8 | device << 3 | function`, as the Xen ABI packs it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sbdf(u32);

impl Sbdf {
    /// Device modulo 32, function modulo 8.
    pub const fn new(segment: u16, bus: u8, device: u8, function: u8) -> Self {
        Self::from_devfn(segment, bus, (device & 31) << 3 | function & 7)
    }
    /// From the usual packing of device and function in one byte.
    pub const fn from_devfn(segment: u16, bus: u8, devfn: u8) -> Self {
        Sbdf((segment as u32) << 16 | (bus as u32) << 8 | devfn as u32)
    }
    /// From the packed form.
    pub const fn from_raw(raw: u32) -> Self {
        Sbdf(raw)
    }
    /// The packed form.
    pub const fn raw(self) -> u32 {
        self.0
    }
    /// Segment group.
    pub const fn segment(self) -> u16 {
        (self.0 >> 16) as u16
    }
    /// Bus.
    pub const fn bus(self) -> u8 {
        (self.0 >> 8) as u8
    }
    /// Device 0..=31.
    pub const fn device(self) -> u8 {
        self.0 as u8 >> 3
    }
    /// Function 0..=7.
    pub const fn function(self) -> u8 {
        self.0 as u8 & 7
    }
}

impl fmt::Display for Sbdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.segment(), self.bus(), self.device(), self.function())
    }
}
impl fmt::Debug for Sbdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
