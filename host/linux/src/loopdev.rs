//! Loop devices: a file as a block device (`include/uapi/linux/loop.h`).
#![allow(unsafe_code, reason = "ioctls")]

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{self, Ioctl, IoctlOutput, Opcode};
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const LOOP_CTL_GET_FREE: Opcode = 0x4c82;
const LOOP_CONFIGURE: Opcode = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// How often another process may take the free device before this one does.
const TRIES: usize = 64;

/// `struct loop_config` with its `struct loop_info64`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Config>() == 304);

struct Call<'a, T> {
    opcode: Opcode,
    argument: &'a mut T,
}

// SAFETY: the pointer is to `T`, alive and exclusive for the call; that the driver reads no more is what `call` demands.
unsafe impl<T> Ioctl for Call<'_, T> {
    type Output = IoctlOutput;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self.argument).cast()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> rustix::io::Result<IoctlOutput> {
        Ok(output)
    }
}

/// # Safety
/// The driver behind `fd` must take a `T` for `opcode`.
unsafe fn call<T>(fd: impl AsFd, opcode: Opcode, argument: &mut T) -> rustix::io::Result<IoctlOutput> {
    // SAFETY: passed on to the caller.
    unsafe { ioctl::ioctl(fd, Call { opcode, argument }) }
}

/// A loop device that is there for as long as somebody has it open: this value, or whoever opened it in the meantime. So none
/// is left behind by a process that is killed.
#[derive(Debug)]
pub struct LoopDevice {
    fd: OwnedFd,
    number: (u32, u32),
}

impl LoopDevice {
    /// Makes one of a file.
    pub fn attach(file: &Path, read_only: bool) -> io::Result<Self> {
        let mode = if read_only { OFlags::RDONLY } else { OFlags::RDWR } | OFlags::CLOEXEC;
        let backing = open(file, mode, Mode::empty())?;
        let control = open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        for _ in 0..TRIES {
            // SAFETY: takes no argument.
            let index = unsafe { call(&control, LOOP_CTL_GET_FREE, &mut ()) }?;
            let fd = open(format!("/dev/loop{index}"), mode, Mode::empty())?;
            let mut config = Self::config(&backing, file, read_only);
            // SAFETY: `struct loop_config`.
            match unsafe { call(&fd, LOOP_CONFIGURE, &mut config) } {
                Ok(_) => {
                    let device = rustix::fs::fstat(&fd)?.st_rdev;
                    let number = (rustix::fs::major(device), rustix::fs::minor(device));
                    return Ok(Self { fd, number });
                }
                Err(Errno::BUSY) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    fn config(backing: &OwnedFd, file: &Path, read_only: bool) -> Config {
        let mut file_name = [0; 64];
        // For `losetup` to show; the last byte stays zero.
        for (to, from) in file_name.iter_mut().take(63).zip(file.as_os_str().as_encoded_bytes()) {
            *to = *from;
        }
        Config {
            fd: backing.as_raw_fd() as u32,
            block_size: 0,
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_AUTOCLEAR | if read_only { LO_FLAGS_READ_ONLY } else { 0 },
            file_name,
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
            reserved: [0; 8],
        }
    }

    /// Major and minor number.
    pub fn number(&self) -> (u32, u32) {
        self.number
    }
}

impl AsFd for LoopDevice {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Major and minor number of a block device; `None` if the file is none.
pub fn block_number(path: &Path) -> io::Result<Option<(u32, u32)>> {
    use std::os::unix::fs::FileTypeExt;
    let metadata = std::fs::metadata(path)?;
    let device = metadata.rdev();
    let number = (rustix::fs::major(device), rustix::fs::minor(device));
    Ok(metadata.file_type().is_block_device().then_some(number))
}
