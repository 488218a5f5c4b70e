//! A disk in memory that keeps only what is written, and images of it.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use radon_image::{Format, Identity, ImageError, Input, Output, ReadAt, Sink};

pub const PAGE: u64 = 4096;

/// A disk of any size, in pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub size: u64,
    pub pages: BTreeMap<u64, Vec<u8>>,
    /// The most a sink takes, in bytes.
    pub limit: Option<u64>,
    pub written: u64,
}

impl Disk {
    pub fn new(size: u64) -> Self {
        Self { size, ..Self::default() }
    }

    pub fn put(&mut self, data: &[u8], offset: u64) {
        let mut rest = data;
        let mut at = offset;
        while !rest.is_empty() {
            let inside = (at % PAGE) as usize;
            let (now, later) = rest.split_at(rest.len().min(PAGE as usize - inside));
            let page = self.pages.entry(at / PAGE).or_insert_with(|| vec![0; PAGE as usize]);
            page[inside..inside + now.len()].copy_from_slice(now);
            at += now.len() as u64;
            rest = later;
        }
    }

    /// Without the pages that hold nothing but zeros.
    pub fn trimmed(mut self) -> Self {
        self.pages.retain(|_, page| page.iter().any(|b| *b != 0));
        Self { limit: None, written: 0, ..self }
    }
}

impl ReadAt for Disk {
    fn length(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if offset + buffer.len() as u64 > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.fill(0);
        let end = offset + buffer.len() as u64;
        for (number, page) in self.pages.range(offset / PAGE..end.div_ceil(PAGE)) {
            let from = (number * PAGE).max(offset);
            let to = ((number + 1) * PAGE).min(end);
            let inside = (from - number * PAGE) as usize..(to - number * PAGE) as usize;
            buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(&page[inside]);
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let found = self.pages.range(offset / PAGE..).next().map(|(n, _)| *n);
        let range = found.map(|n| (n * PAGE).max(offset)..((n + 1) * PAGE).min(self.size));
        Ok(range.filter(|r| !r.is_empty()))
    }
}

impl Sink for Disk {
    fn set_size(&mut self, bytes: u64) -> io::Result<()> {
        self.size = bytes;
        Ok(())
    }

    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        self.written += data.len() as u64;
        if self.limit.is_some_and(|l| self.written > l) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.put(data, offset);
        Ok(())
    }
}

/// An image in memory, holes left out.
#[derive(Default)]
pub struct Image(pub Disk);

impl Output for Image {
    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.0.put(data, self.0.size);
        self.0.size += data.len() as u64;
        Ok(())
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        self.0.size += count;
        Ok(())
    }
}

pub fn export(disk: &Disk, format: Format) -> Disk {
    let mut image = Image::default();
    let identity = Identity { uuid: *b"0123456789abcdef", created: 1_800_000_000 };
    radon_image::export(disk, format, &identity, &mut image).unwrap();
    image.0
}

pub fn import(image: &dyn ReadAt, format: Format) -> Result<Disk, ImageError> {
    let mut disk = Disk::default();
    let size = radon_image::import(Input::File(image), format, &mut disk)?;
    assert_eq!(size, disk.size);
    Ok(disk.trimmed())
}

/// The same through a pipe.
pub fn import_stream(mut bytes: &[u8], format: Format) -> Result<Disk, ImageError> {
    let mut disk = Disk::default();
    let size = radon_image::import(Input::Stream(&mut bytes), format, &mut disk)?;
    assert_eq!(size, disk.size);
    Ok(disk.trimmed())
}

pub fn bytes(disk: &Disk) -> Vec<u8> {
    let mut bytes = vec![0; disk.size as usize];
    disk.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}
