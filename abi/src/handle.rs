//! Guest handles: addresses in the caller's memory (`XEN_GUEST_HANDLE`, `XEN_GUEST_HANDLE_64`).

use core::{fmt, marker::PhantomData};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An allegation by a guest that an array of `T` lies at this linear address of its own.
///
/// Nothing is checked: only the copy routines of the hypervisor turn a handle into an access.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Handle<T>(u64, PhantomData<T>);

impl<T> Handle<T> {
    /// The null handle: in many operations "no array, only tell me its size".
    pub const NULL: Self = Self::new(0);

    /// Wraps a linear address of the guest.
    pub const fn new(address: u64) -> Self {
        Self(address, PhantomData)
    }

    /// The linear address.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Whether this is the null handle.
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The same address as an array of `U`.
    pub const fn cast<U>(self) -> Handle<U> {
        Handle::new(self.0)
    }

    /// The handle of element `index`; `None` if the address overflows.
    pub const fn element(self, index: u64) -> Option<Self> {
        let Some(offset) = index.checked_mul(core::mem::size_of::<T>() as u64) else { return None };
        match self.0.checked_add(offset) {
            Some(address) => Some(Self::new(address)),
            None => None,
        }
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> PartialEq for Handle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Handle<T> {}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Handle;

    #[test]
    fn element_scales_and_refuses_overflow() {
        assert_eq!(Handle::<u32>::new(0x1000).element(3), Some(Handle::new(0x100c)));
        assert_eq!(Handle::<u64>::new(8).element(u64::MAX / 8), None);
        assert_eq!(Handle::<u64>::new(0).element(u64::MAX), None);
    }
}
