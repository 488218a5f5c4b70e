//! Why an operation on the scheduler was refused.

use xen_abi::Errno;

/// Refusal of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No cpupool of that id.
    NoSuchPool,
    /// No unit of that key, or no such domain.
    NoSuchUnit,
    /// A pool of that id exists.
    PoolExists,
    /// Too many pools.
    TooManyPools,
    /// The pool has domains or CPUs, or the CPU is the last one of a pool with domains.
    Busy,
    /// The CPU is not free.
    CpuNotFree,
    /// The CPU is not in that pool.
    CpuNotInPool,
    /// The pool has no CPU.
    NoCpus,
    /// Not a CPU, or one that must stay; or no CPU of the pool in the hard affinity.
    Invalid,
}

impl Error {
    /// The code that Xen returns in the same case.
    pub fn errno(self) -> Errno {
        match self {
            Error::NoSuchPool => Errno::ENOENT,
            Error::NoSuchUnit => Errno::ESRCH,
            Error::PoolExists => Errno::EEXIST,
            Error::TooManyPools => Errno::ENOSPC,
            Error::Busy => Errno::EBUSY,
            Error::CpuNotFree | Error::NoCpus => Errno::ENODEV,
            Error::CpuNotInPool => Errno::EADDRNOTAVAIL,
            Error::Invalid => Errno::EINVAL,
        }
    }
}

impl From<Error> for Errno {
    fn from(e: Error) -> Errno {
        e.errno()
    }
}
