//! Failure of a grant operation.

use core::fmt;
use core::num::NonZeroI16;

use xen_abi::grant_table as abi;

/// A negative `GNTST_*` code; success is `Ok`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct GntStatus(NonZeroI16);

macro_rules! statuses {
    ($($(#[$m:meta])* $name:ident = $code:expr),* $(,)?) => {
        impl GntStatus {
            $($(#[$m])* pub const $name: GntStatus = GntStatus(NonZeroI16::new($code).unwrap());)*
        }
    };
}

statuses! {
    /// Anything without a code of its own.
    GENERAL_ERROR = abi::GNTST_GENERAL_ERROR,
    /// No such domain.
    BAD_DOMAIN = abi::GNTST_BAD_DOMAIN,
    /// No such grant reference.
    BAD_GNTREF = abi::GNTST_BAD_GNTREF,
    /// No such mapping handle.
    BAD_HANDLE = abi::GNTST_BAD_HANDLE,
    /// Bad guest address.
    BAD_VIRT_ADDR = abi::GNTST_BAD_VIRT_ADDR,
    /// Bad bus address.
    BAD_DEV_ADDR = abi::GNTST_BAD_DEV_ADDR,
    /// Not allowed.
    PERMISSION_DENIED = abi::GNTST_PERMISSION_DENIED,
    /// The granted frame is not ordinary memory of the granter.
    BAD_PAGE = abi::GNTST_BAD_PAGE,
    /// A copy leaves its page.
    BAD_COPY_ARG = abi::GNTST_BAD_COPY_ARG,
    /// Busy, try again.
    EAGAIN = abi::GNTST_EAGAIN,
    /// No handle left.
    NO_SPACE = abi::GNTST_NO_SPACE,
}

impl GntStatus {
    /// The value for the guest's `status` field.
    pub const fn raw(self) -> i16 {
        self.0.get()
    }
}

impl fmt::Debug for GntStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GNTST({})", self.raw())
    }
}
