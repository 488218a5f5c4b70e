//! File descriptors that were left open across an `exec`, named by number.
#![allow(unsafe_code, reason = "makes an owner of a number")]

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// Takes ownership of a descriptor that the program before `exec` passed on. It is closed at the next `exec`.
///
/// Only descriptors marked by [`pass_on`] are taken, and each only once: one that this program opened itself is
/// close-on-exec like all that the standard library opens, and is refused.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    let mut taken = TAKEN.lock().map_err(|_| io::ErrorKind::Other)?;
    if number <= 2 || taken.contains(&number) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: only borrowed for the one call, which fails if the number is not open.
    let flags = fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) })?;
    if flags.contains(FdFlags::CLOEXEC) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    taken.insert(number);
    // SAFETY: open, not one that any owner of this program has (those are close-on-exec), and taken only once.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Keeps a descriptor open across the next `exec`, or no longer.
pub fn pass_on(fd: impl AsFd, yes: bool) -> io::Result<()> {
    let flags = if yes { FdFlags::empty() } else { FdFlags::CLOEXEC };
    fcntl_setfd(fd, flags).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn only_what_was_passed_on_and_only_once() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let number = file.as_raw_fd();
        assert!(take(number).is_err());
        pass_on(&file, true).unwrap();
        std::mem::forget(file);
        let taken = take(number).unwrap();
        assert!(take(number).is_err());
        assert!(take(-1).is_err() && take(0).is_err());
        drop(taken);
    }
}
