//! Disk images: any bytes as a VHD or QCOW2, from a file and through a pipe.

use std::io;

use radon_image::{Format, Identity, Input, Output, Sink, import};

/// The most that is taken out of an image, in bytes.
const LIMIT: usize = 1 << 20;

/// A disk in memory.
#[derive(Default)]
struct Disk(Vec<u8>);

impl Sink for Disk {
    fn set_size(&mut self, bytes: u64) -> io::Result<()> {
        let bytes = usize::try_from(bytes).ok().filter(|b| *b <= LIMIT).ok_or(io::ErrorKind::StorageFull)?;
        self.0.resize(bytes, 0);
        Ok(())
    }

    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        let end = usize::try_from(offset).ok().and_then(|o| o.checked_add(data.len()));
        let end = end.filter(|e| *e <= LIMIT).ok_or(io::ErrorKind::StorageFull)?;
        if self.0.len() < end {
            self.0.resize(end, 0);
        }
        self.0[end - data.len()..end].copy_from_slice(data);
        Ok(())
    }
}

struct Bytes(Vec<u8>);

impl Output for Bytes {
    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }
}

/// What an image holds, if it is one.
fn content(data: &[u8], format: Format) -> Option<Vec<u8>> {
    let _ = Format::probe(&data);
    let mut disk = Disk::default();
    let size = import(Input::File(&data), format, &mut disk).ok();
    if let Some(size) = size {
        assert_eq!(disk.0.len() as u64, size, "nothing is written beyond the disk");
    }
    size.map(|_| disk.0)
}

/// The disk comes back from an image of it.
fn again(disk: &[u8], format: Format) {
    let mut image = Bytes(Vec::new());
    radon_image::export(&disk, format, &Identity::default(), &mut image).expect("a disk can be written");
    let mut back = Disk::default();
    import(Input::File(&image.0.as_slice()), format, &mut back).expect("what is written can be read");
    assert!(back.0 == disk);
}

/// Writes the checksum of a structure (VHD): the complement of the sum of the other bytes.
fn seal(bytes: &mut [u8], start: usize, length: usize, field: usize) {
    if let Some(part) = bytes.get_mut(start..start + length) {
        part[field..field + 4].fill(0);
        let sum = !part.iter().fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
        part[field..field + 4].copy_from_slice(&sum.to_be_bytes());
    }
}

/// VHD, as it comes and with its checksums made right.
pub fn vhd(data: &[u8]) {
    let mut sealed = data.to_vec();
    seal(&mut sealed, 0, 512, 64);
    seal(&mut sealed, 512, 1024, 36);
    if let Some(last) = sealed.len().checked_sub(512).filter(|l| *l > 0) {
        seal(&mut sealed, last, 512, 64);
    }
    for data in [data, &sealed] {
        let file = content(data, Format::Vhd);
        let mut pipe = Disk::default();
        let piped = import(Input::Stream(&mut &*data), Format::Vhd, &mut pipe).ok();
        assert_eq!(file.is_some(), piped.is_some());
        if let Some(disk) = file {
            assert!(disk == pipe.0);
            again(&disk, Format::VhdFixed);
        }
    }
}

/// QCOW2.
pub fn qcow2(data: &[u8]) {
    if let Some(disk) = content(data, Format::Qcow2) {
        again(&disk, Format::Qcow2);
    }
}
