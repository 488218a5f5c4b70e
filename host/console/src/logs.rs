//! Files that nobody needs to be attached for: each guest's output, and the hypervisor's, as `xenconsoled --log` writes them.

use radon_xen::evtchn::{EventChannels, Port};
use radon_xen::privcmd::Privcmd;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xen_abi::xen::VIRQ_CON_RING;

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

/// The file of a guest's output.
pub fn guest_path(folder: &Path, name: &str) -> PathBuf {
    // The name is the toolstack's; it stays a name all the same.
    folder.join(format!("guest-{}.log", name.replace(['/', '\0'], "_")))
}

/// Opens it.
pub fn guest(folder: &Path, name: &str) -> io::Result<File> {
    open(&guest_path(folder, name))
}

/// The hypervisor's log, copied into a file as it grows.
#[derive(Debug)]
pub struct Hypervisor {
    privcmd: Arc<Privcmd>,
    channels: EventChannels,
    port: Port,
    path: PathBuf,
    file: File,
    index: u32,
}

impl Hypervisor {
    /// Begins with what the hypervisor has said so far.
    pub fn open(privcmd: Arc<Privcmd>, folder: &Path) -> io::Result<Self> {
        let channels = EventChannels::open()?;
        let port = channels.bind_virq(VIRQ_CON_RING)?;
        let path = folder.join("hypervisor.log");
        let file = open(&path)?;
        let mut log = Self { privcmd, channels, port, path, file, index: 0 };
        log.copy()?;
        Ok(log)
    }

    /// Copies what is new.
    pub fn copy(&mut self) -> io::Result<()> {
        let pending = self.channels.pending()?;
        loop {
            let (text, next) = self.privcmd.read_console_ring(self.index)?;
            self.index = next;
            if text.is_empty() {
                break;
            }
            self.file.write_all(&text)?;
        }
        if pending.contains(&self.port) { self.channels.unmask(&[self.port]) } else { Ok(()) }
    }

    /// Opens the file anew, after it was rotated.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        Ok(())
    }

    /// Readable when there is something to copy.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.channels.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        assert_eq!(guest_path(Path::new("/l"), "web"), Path::new("/l/guest-web.log"));
        assert_eq!(guest_path(Path::new("/l"), "../../x"), Path::new("/l/guest-.._.._x.log"));
    }
}
