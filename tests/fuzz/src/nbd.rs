//! The NBD server: any bytes from a client.

use std::io;
use std::sync::Mutex;

use radon_nbd::{Access, Device, Export, serve};

const SIZE: usize = 16 << 10;

struct Memory(Mutex<Vec<u8>>);

impl Memory {
    fn range(offset: u64, length: usize) -> std::ops::Range<usize> {
        let start = usize::try_from(offset).expect("within the disk");
        let end = start.checked_add(length).expect("within the disk");
        assert!(end <= SIZE, "the server lets nothing through that is not within the disk");
        start..end
    }
}

impl Device for Memory {
    fn size(&self) -> u64 {
        SIZE as u64
    }
    fn access(&self) -> Access {
        Access::ReadWrite
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        buffer.copy_from_slice(&self.0.lock().unwrap()[Self::range(offset, buffer.len())]);
        Ok(())
    }
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.lock().unwrap()[Self::range(offset, data.len())].copy_from_slice(data);
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn zero(&self, offset: u64, length: u64, _: bool) -> io::Result<()> {
        self.0.lock().unwrap()[Self::range(offset, length as usize)].fill(0);
        Ok(())
    }
    fn data_at(&self, offset: u64) -> io::Result<(bool, u64)> {
        let start = Self::range(offset, 1).start;
        Ok((self.0.lock().unwrap()[start] != 0, (offset / 1024 + 1) * 1024))
    }
}

/// A reply's length is bounded by what is asked for: nobody is told what the memory behind the disk holds.
pub fn run(data: &[u8]) {
    let device = Box::new(Memory(Mutex::new(vec![0; SIZE])));
    let exports = [Export { name: "disk".into(), device, changed: Some(vec![1024..2048, 8192..8193]) }];
    let mut out = Vec::new();
    let _ = serve(data, &mut out, &exports);
    // Each request takes at least 28 bytes, each option 16.
    assert!(out.len() <= 18 + (data.len() / 16 + 1) * (SIZE * 4 + 600));
}
