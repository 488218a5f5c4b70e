//! Error codes (`errno.h`). A hypercall returns them negated.

use core::{fmt, num::NonZeroU16};

/// A Xen error code, positive and never zero: `Result<(), Errno>` is two bytes wide.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Errno(NonZeroU16);

/// Result of an operation on behalf of a guest.
pub type Result<T> = core::result::Result<T, Errno>;

impl Errno {
    /// The code with this positive number; `None` for 0.
    pub const fn from_raw(raw: u16) -> Option<Self> {
        match NonZeroU16::new(raw) {
            Some(v) => Some(Self(v)),
            None => None,
        }
    }

    /// The positive number, as in `errno.h`.
    pub const fn raw(self) -> u16 {
        self.0.get()
    }

    /// What the hypercall returns: the negated number.
    pub const fn to_ret(self) -> i64 {
        -(self.0.get() as i64)
    }

    /// [`Self::to_ret`] as the 32-bit value some structures carry (`errs[]` of add_to_physmap_batch).
    pub const fn to_ret32(self) -> i32 {
        -(self.0.get() as i32)
    }

    /// The symbolic name; `"?"` if the number is not in `errno.h`.
    pub fn name(self) -> &'static str {
        ERRNOS.iter().find(|(_, e)| *e == self).map_or("?", |(name, _)| name)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.raw())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Turns the outcome of an operation into the hypercall's return value.
pub const fn ret(result: Result<()>) -> i64 {
    match result {
        Ok(()) => 0,
        Err(e) => e.to_ret(),
    }
}

macro_rules! errnos {
    ($($(#[$m:meta])+ $name:ident = $val:literal),* $(,)?) => {
        impl Errno {
            $($(#[$m])+ pub const $name: Self = Self(NonZeroU16::new($val).unwrap());)*
        }

        /// Every code with its symbolic name (the first of two names for one number is the one shown).
        pub const ERRNOS: &[(&str, Errno)] = &[$((stringify!($name), Errno::$name)),*];
    };
}

errnos! {
    /// Operation not permitted.
    EPERM = 1,
    /// No such file or directory.
    ENOENT = 2,
    /// No such process.
    ESRCH = 3,
    /// Interrupted system call. Internal: never returned to a guest.
    EINTR = 4,
    /// I/O error.
    EIO = 5,
    /// No such device or address.
    ENXIO = 6,
    /// Arg list too long.
    E2BIG = 7,
    /// Exec format error.
    ENOEXEC = 8,
    /// Bad file number.
    EBADF = 9,
    /// No child processes.
    ECHILD = 10,
    /// Try again.
    EAGAIN = 11,
    /// Operation would block.  Aliases EAGAIN.
    EWOULDBLOCK = 11,
    /// Out of memory.
    ENOMEM = 12,
    /// Permission denied.
    EACCES = 13,
    /// Bad address.
    EFAULT = 14,
    /// Device or resource busy.
    EBUSY = 16,
    /// File exists.
    EEXIST = 17,
    /// Cross-device link.
    EXDEV = 18,
    /// No such device.
    ENODEV = 19,
    /// Not a directory.
    ENOTDIR = 20,
    /// Is a directory.
    EISDIR = 21,
    /// Invalid argument.
    EINVAL = 22,
    /// File table overflow.
    ENFILE = 23,
    /// Too many open files.
    EMFILE = 24,
    /// No space left on device.
    ENOSPC = 28,
    /// Read-only file system.
    EROFS = 30,
    /// Too many links.
    EMLINK = 31,
    /// Math argument out of domain of func.
    EDOM = 33,
    /// Math result not representable.
    ERANGE = 34,
    /// Resource deadlock would occur.
    EDEADLK = 35,
    /// Resource deadlock would occur. Aliases EDEADLK.
    EDEADLOCK = 35,
    /// File name too long.
    ENAMETOOLONG = 36,
    /// No record locks available.
    ENOLCK = 37,
    /// Function not implemented.
    ENOSYS = 38,
    /// Directory not empty.
    ENOTEMPTY = 39,
    /// No data available.
    ENODATA = 61,
    /// Timer expired.
    ETIME = 62,
    /// Not a data message.
    EBADMSG = 74,
    /// Value too large for defined data type.
    EOVERFLOW = 75,
    /// Illegal byte sequence.
    EILSEQ = 84,
    /// Interrupted system call should be restarted. Internal: never returned to a guest.
    ERESTART = 85,
    /// Socket operation on non-socket.
    ENOTSOCK = 88,
    /// Message too large.
    EMSGSIZE = 90,
    /// Operation not supported on transport endpoint.
    EOPNOTSUPP = 95,
    /// Address already in use.
    EADDRINUSE = 98,
    /// Cannot assign requested address.
    EADDRNOTAVAIL = 99,
    /// No buffer space available.
    ENOBUFS = 105,
    /// Transport endpoint is already connected.
    EISCONN = 106,
    /// Transport endpoint is not connected.
    ENOTCONN = 107,
    /// Connection timed out.
    ETIMEDOUT = 110,
    /// Connection refused.
    ECONNREFUSED = 111,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returned_negated_and_without_cost() {
        assert_eq!(Errno::ENOSYS.to_ret(), -38);
        assert_eq!(Errno::EINVAL.to_ret32(), -22);
        assert_eq!(ret(Err(Errno::EPERM)), -1);
        assert_eq!(ret(Ok(())), 0);
        assert_eq!(core::mem::size_of::<Result<()>>(), 2);
        assert_eq!(Errno::from_raw(0), None);
        assert_eq!(Errno::from_raw(11).map(Errno::name), Some("EAGAIN"));
    }
}
