//! Partitions of a block device (`include/uapi/linux/fs.h`).
#![allow(unsafe_code, reason = "an ioctl")]

use rustix::ioctl::{self, NoArg};
use std::fs::File;
use std::io;

const BLKRRPART: ioctl::Opcode = 0x125f;

/// Has the kernel read a disk's table of partitions again. None of them may be in use.
pub fn reread_partitions(disk: &File) -> io::Result<()> {
    // SAFETY: `BLKRRPART` takes no argument and touches no memory of this process.
    Ok(unsafe { ioctl::ioctl(disk, NoArg::<BLKRRPART>::new()) }?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_plain_file_has_no_partitions() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(super::reread_partitions(&file).unwrap_err().raw_os_error(), Some(25), "ENOTTY");
    }
}
