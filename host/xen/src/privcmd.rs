//! Hypercalls: `/dev/xen/privcmd`, with buffers from `/dev/xen/hypercall`.
#![allow(unsafe_code, reason = "ioctls")]

use crate::PAGE_SIZE;
use crate::ioctl::{call, number};
use crate::page::SharedPages;
use rustix::fs::{Mode, OFlags, open};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use xen_abi::domctl::{XEN_DOMINF_DYING, XEN_DOMINF_SHUTDOWN};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct privcmd_hypercall`.
#[repr(C)]
struct Hypercall {
    op: u64,
    arguments: [u64; 5],
}

/// The device, open.
#[derive(Debug)]
pub struct Privcmd {
    fd: OwnedFd,
    /// Where memory comes from that stays in place during a hypercall; without it, locked memory has to do.
    buffers: Option<OwnedFd>,
}

/// Memory for a hypercall's arguments.
#[derive(Debug)]
pub struct Buffer(SharedPages);

/// What a domain is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainInfo {
    /// Its number.
    pub domid: u16,
    /// It is being torn down.
    pub dying: bool,
    /// It has shut down, or crashed.
    pub shutdown: bool,
}

impl Privcmd {
    /// Opens the devices.
    pub fn open() -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let fd = open("/dev/xen/privcmd", flags, Mode::empty())?;
        let buffers = match open("/dev/xen/hypercall", flags, Mode::empty()) {
            Ok(fd) => Some(fd),
            Err(rustix::io::Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { fd, buffers })
    }

    /// Memory of at least that many bytes.
    pub fn buffer(&self, bytes: usize) -> io::Result<Buffer> {
        let pages = bytes.div_ceil(PAGE_SIZE).max(1);
        match &self.buffers {
            Some(fd) => SharedPages::map(fd, 0, pages).map(Buffer),
            None => {
                let pages = SharedPages::anonymous(pages)?;
                // SAFETY: the range is the mapping's own. Locked pages are not swapped out under the hypervisor.
                unsafe { rustix::mm::mlock(pages.address() as *mut _, pages.len()) }?;
                Ok(Buffer(pages))
            }
        }
    }

    /// Makes a hypercall. Its result, or the error that Xen returned.
    ///
    /// # Safety
    /// A hypercall reads and writes what its arguments point to: all of it must be buffers of this process that
    /// hold what `op` takes and have room for what it returns.
    pub unsafe fn hypercall(&self, op: u32, arguments: [u64; 5]) -> io::Result<u32> {
        let mut hypercall = Hypercall { op: op.into(), arguments };
        // SAFETY: `privcmd_hypercall_t`; what lies behind the arguments is the caller's promise.
        unsafe { call(&self.fd, number(b'P', 0, size_of::<Hypercall>()), &mut hypercall) }
    }

    /// All domains from `first` on, at most `most` of them.
    pub fn domains(&self, first: u16, most: usize) -> io::Result<Vec<DomainInfo>> {
        let infos = self.domain_infos(first, most)?;
        Ok(infos
            .into_iter()
            .map(|info| DomainInfo {
                domid: info.domain,
                dying: info.flags & XEN_DOMINF_DYING != 0,
                shutdown: info.flags & XEN_DOMINF_SHUTDOWN != 0,
            })
            .collect())
    }

    /// One domain, if it exists.
    pub fn domain(&self, domid: u16) -> io::Result<Option<DomainInfo>> {
        Ok(self.domains(domid, 1)?.into_iter().find(|info| info.domid == domid))
    }
}

impl AsFd for Privcmd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Buffer {
    /// The address of the byte at `offset`, for an argument.
    pub fn address(&self, offset: usize) -> u64 {
        self.0.address() + offset as u64
    }

    /// Puts a structure there.
    pub fn put<T: IntoBytes + Immutable>(&self, offset: usize, value: &T) {
        self.0.write(offset, value.as_bytes());
    }

    /// Takes a structure from there.
    pub fn get<T: FromBytes + IntoBytes>(&self, offset: usize) -> T {
        let mut value = T::new_zeroed();
        self.0.read(offset, value.as_mut_bytes());
        value
    }

    /// Puts bytes there.
    pub fn put_bytes(&self, offset: usize, bytes: &[u8]) {
        self.0.write(offset, bytes);
    }

    /// Takes bytes from there.
    pub fn get_bytes(&self, offset: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read(offset, &mut bytes);
        bytes
    }
}
