//! Active entries: our own record of a grant in use.

use radon_addr::{DomId, Gfn, Mfn};

/// What the grantee may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only read.
    Read,
    /// Read and write.
    Write,
}

/// Who accesses the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// CPUs: mappings (`GNTMAP_host_map`) and copies.
    Host,
    /// Devices (`GNTMAP_device_map`).
    Device,
}

/// One use of a grant: pass the same value to `pin` and to the matching `unpin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The grantee.
    pub by: DomId,
    /// Read or write.
    pub mode: Mode,
    /// CPU or device.
    pub via: Via,
}

/// A counter refuses to grow beyond this (Xen's overflow rule for its 8-bit fields).
const PIN_LIMIT: u8 = 0x80;

/// Uses of one entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pins {
    host_read: u8,
    host_write: u8,
    device_read: u8,
    device_write: u8,
}

impl Pins {
    pub fn any(self) -> bool {
        self != Pins::default()
    }
    pub fn any_writer(self) -> bool {
        self.host_write != 0 || self.device_write != 0
    }
    fn counter(&mut self, access: Access) -> &mut u8 {
        match (access.via, access.mode) {
            (Via::Host, Mode::Read) => &mut self.host_read,
            (Via::Host, Mode::Write) => &mut self.host_write,
            (Via::Device, Mode::Read) => &mut self.device_read,
            (Via::Device, Mode::Write) => &mut self.device_write,
        }
    }
    pub fn full(mut self, access: Access) -> bool {
        *self.counter(access) >= PIN_LIMIT
    }
    pub fn add(&mut self, access: Access) {
        let counter = self.counter(access);
        *counter = counter.saturating_add(1);
    }
    /// `false`, and no change, when there is no such pin.
    pub fn remove(&mut self, access: Access) -> bool {
        let counter = self.counter(access);
        match counter.checked_sub(1) {
            Some(n) => {
                *counter = n;
                true
            }
            None => false,
        }
    }
}

/// What a pinned entry grants. Meaningful only while `pins.any()`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Active {
    pub pins: Pins,
    pub grant: Grant,
    pub mfn: Mfn,
}

/// The contents of a shared entry that were granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grant {
    pub domid: DomId,
    pub gfn: Gfn,
    /// Version 2 sub-page grant: may be copied, not mapped.
    pub sub_page: bool,
    /// First byte and number of bytes granted.
    pub start: u16,
    pub length: u16,
}
