//! Address, frame and identifier newtypes shared by every hypervisor crate.
//!
//! Vocabulary (Xen's own): an **mfn** is a machine frame number (real RAM or MMIO), a **gfn** is a frame number
//! in a guest's physical address space; the p2m is the only thing that turns a [`Gfn`] into an [`Mfn`].
//! The inner value is private: arithmetic that can overflow returns `Option`.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

/// Bytes in a small page.
pub const PAGE_SIZE: usize = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// The special domain id "the caller itself" (`DOMID_SELF`, xen.h).
pub const DOMID_SELF: u16 = 0x7ff0;
/// First reserved domain id (`DOMID_FIRST_RESERVED`, xen.h).
pub const DOMID_FIRST_RESERVED: u16 = 0x7ff0;

macro_rules! newtype {
    ($(#[$m:meta])* $name:ident($repr:ty)) => {
        $(#[$m])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name($repr);
        impl $name {
            /// Wraps a raw value.
            pub const fn new(raw: $repr) -> Self { Self(raw) }
            /// The raw value.
            pub const fn raw(self) -> $repr { self.0 }
            /// `self + n`, or `None` on overflow.
            pub const fn checked_add(self, n: $repr) -> Option<Self> {
                match self.0.checked_add(n) { Some(v) => Some(Self(v)), None => None }
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, concat!(stringify!($name), "({:#x})"), self.0) }
        }
        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::LowerHex::fmt(&self.0, f) }
        }
    };
}

newtype!(/// Machine frame number: machine address / 4096.
    Mfn(u64));
newtype!(/// Guest frame number: guest-physical address / 4096.
    Gfn(u64));
newtype!(/// Machine (host-physical) byte address.
    Maddr(u64));
newtype!(/// Guest-physical byte address.
    Gpa(u64));
newtype!(/// Guest-virtual byte address.
    Gva(u64));
newtype!(/// Domain id as the ABI numbers it.
    DomId(u16));
newtype!(/// vCPU number within its domain.
    VcpuId(u32));
newtype!(/// Physical CPU index, dense from 0 (0 is the boot CPU).
    CpuId(u32));
newtype!(/// Event-channel port of one domain.
    Port(u32));
newtype!(/// Grant reference of one domain.
    GrantRef(u32));
newtype!(/// Nanoseconds of system time (since the hypervisor started).
    Ns(u64));

impl Mfn {
    /// First byte of the frame.
    pub const fn maddr(self) -> Maddr {
        Maddr(self.0 << PAGE_SHIFT)
    }
}
impl Gfn {
    /// First byte of the frame.
    pub const fn gpa(self) -> Gpa {
        Gpa(self.0 << PAGE_SHIFT)
    }
}
impl Maddr {
    /// The frame that holds this byte.
    pub const fn mfn(self) -> Mfn {
        Mfn(self.0 >> PAGE_SHIFT)
    }
    /// Offset within the frame.
    pub const fn offset(self) -> usize {
        (self.0 & 0xfff) as usize
    }
}
impl Gpa {
    /// The frame that holds this byte.
    pub const fn gfn(self) -> Gfn {
        Gfn(self.0 >> PAGE_SHIFT)
    }
    /// Offset within the frame.
    pub const fn offset(self) -> usize {
        (self.0 & 0xfff) as usize
    }
}
impl DomId {
    /// `DOMID_SELF`.
    pub const SELF: DomId = DomId(DOMID_SELF);
    /// The hardware (control) domain.
    pub const DOM0: DomId = DomId(0);
    /// `DOMID_XEN`: memory owned by the hypervisor itself.
    pub const XEN: DomId = DomId(0x7ff2);
    /// `DOMID_IO`: memory-mapped I/O that nobody owns.
    pub const IO: DomId = DomId(0x7ff1);
    /// `DOMID_INVALID`.
    pub const INVALID: DomId = DomId(0x7ff4);
}
impl CpuId {
    /// Index into per-CPU arrays.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}
impl VcpuId {
    /// Index into per-vCPU arrays.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}
impl Ns {
    /// One millisecond.
    pub const MS: u64 = 1_000_000;
    /// `self + ns`, clamped at the end of time.
    pub const fn saturating_add(self, ns: u64) -> Ns {
        Ns(self.0.saturating_add(ns))
    }
    /// `self - other`, 0 when `other` is later.
    pub const fn since(self, other: Ns) -> u64 {
        self.0.saturating_sub(other.0)
    }
}
impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d{}", self.0)
    }
}
