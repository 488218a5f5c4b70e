//! One way to make an ioctl whose result matters.
#![allow(unsafe_code, reason = "the ioctl itself")]

use rustix::io;
use rustix::ioctl::{self, Ioctl, IoctlOutput, Opcode};
use std::ffi::c_void;
use std::os::fd::AsFd;

/// A number as the Xen drivers build it: no direction, whatever they do with the structure.
pub const fn number(group: u8, index: u8, size: usize) -> Opcode {
    ((size as Opcode) << 16) | ((group as Opcode) << 8) | index as Opcode
}

struct Call<'a, T> {
    opcode: Opcode,
    argument: &'a mut T,
}

// SAFETY: the pointer is to `T`, alive and exclusive for the call; that the driver reads and writes no more than `T`
// there is what callers of `call` promise.
unsafe impl<T> Ioctl for Call<'_, T> {
    type Output = IoctlOutput;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self.argument).cast()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> io::Result<IoctlOutput> {
        Ok(output)
    }
}

/// Makes the ioctl and returns its result.
///
/// # Safety
/// The driver behind `fd` must take a `T` for `opcode`, and reach no memory beyond it that this process may not
/// have reached.
pub unsafe fn call<T>(fd: impl AsFd, opcode: Opcode, argument: &mut T) -> std::io::Result<u32> {
    // SAFETY: passed on to the caller.
    let result = unsafe { ioctl::ioctl(fd, Call { opcode, argument }) }?;
    Ok(result as u32)
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_the_headers() {
        // _IOC(_IOC_NONE, 'E', 1, 8), _IOC(_IOC_NONE, 'P', 0, 48), _IOC(_IOC_NONE, 'B', 0, 0)
        assert_eq!(super::number(b'E', 1, 8), 0x0008_4501);
        assert_eq!(super::number(b'P', 0, 48), 0x0030_5000);
        assert_eq!(super::number(b'B', 0, 0), 0x4200);
    }
}
