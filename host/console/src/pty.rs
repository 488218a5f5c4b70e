//! The terminal of a console, for `xl console`: a pseudo-terminal without a line discipline of its own.

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A pseudo-terminal. Its slave stays open here: without one a terminal that nobody has opened yet reads as hung up.
#[derive(Debug)]
pub struct Pty {
    master: OwnedFd,
    _slave: OwnedFd,
    path: String,
    /// Place in the history of the next byte for it.
    pub place: u64,
}

impl Pty {
    /// A new one, raw, that begins at a place of the history.
    pub fn open(place: u64) -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = open(&path, flags, Mode::empty())?;
        let mut terminal = tcgetattr(&slave)?;
        terminal.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &terminal)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        let path = path.into_string().map_err(io::Error::other)?;
        Ok(Self { master, _slave: slave, path, place })
    }

    /// Path of the terminal.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What was typed; `None` for nothing now.
    pub fn read(&self, most: usize) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; most];
        match rustix::io::read(&self.master, &mut bytes) {
            Ok(count) => {
                bytes.truncate(count);
                Ok(Some(bytes))
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Shows bytes; how many it took.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match rustix::io::write(&self.master, bytes) {
            Ok(count) => Ok(count),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Pty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }
}
