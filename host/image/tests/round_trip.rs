//! What is written is read again; what is damaged is refused or read in bounded time, never a panic.

mod common;

use common::{Disk, bytes, export, import, import_stream};
use proptest::prelude::*;
use radon_image::{Format, ImageError, Input};

/// Disks of up to `size` bytes with some writes anywhere.
fn disks(size: u64) -> impl Strategy<Value = Disk> {
    let writes = prop::collection::vec((any::<u64>(), 1usize..200_000, 1u8..), 0..12);
    (0..size / 512, writes).prop_map(|(sectors, writes)| {
        let mut disk = Disk::new(sectors * 512);
        for (at, length, byte) in writes {
            if disk.size > 0 {
                let at = at % disk.size;
                let length = length.min((disk.size - at) as usize);
                disk.put(&vec![byte; length], at);
            }
        }
        disk
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn small_disks_come_back(disk in disks(9 << 20)) {
        for format in Format::ALL {
            let image = export(&disk, format);
            prop_assert_eq!(&import(&image, format).unwrap(), &disk.clone().trimmed(), "{}", format);
            if format != Format::Qcow2 {
                let piped = import_stream(&bytes(&image), format).unwrap();
                prop_assert_eq!(&piped, &disk.clone().trimmed(), "{} through a pipe", format);
            }
        }
    }

    #[test]
    fn large_thin_disks_come_back(disk in disks(2000 << 30), wide in disks(64 << 40)) {
        for format in [Format::Raw, Format::Vhd, Format::VhdFixed, Format::Qcow2] {
            prop_assert_eq!(&import(&export(&disk, format), format).unwrap(), &disk.clone().trimmed());
        }
        for format in [Format::Raw, Format::Qcow2] {
            let image = export(&wide, format);
            prop_assert_eq!(&import(&image, format).unwrap(), &wide.clone().trimmed());
        }
    }

    #[test]
    fn damage_is_survived(disk in disks(1 << 20), format in 1usize..4, changes in prop::collection::vec((any::<u32>(), any::<u8>()), 1..40), cut in any::<u32>()) {
        let format = Format::ALL[format];
        let mut image = bytes(&export(&disk, format));
        // Half of the changes hit the tables at the start and the footer at the end.
        for (n, (at, byte)) in changes.into_iter().enumerate() {
            let length = image.len();
            let places = [at as usize % length, at as usize % 4096.min(length), length - 1 - at as usize % 512.min(length)];
            image[places[n % 3]] = byte;
        }
        if cut % 4 == 0 {
            image.truncate(cut as usize % image.len());
        }
        let mut sink = Disk { limit: Some(16 << 20), ..Disk::default() };
        let _ = radon_image::import(Input::File(&image.as_slice()), format, &mut sink);
        let _ = radon_image::import(Input::Stream(&mut image.as_slice()), format, &mut sink);
        let _ = Format::probe(&image.as_slice());
    }
}

#[test]
fn formats_are_recognised() {
    let mut disk = Disk::new(3 << 20);
    disk.put(b"hello", 1 << 20);
    for format in Format::ALL {
        assert_eq!(Format::probe(&export(&disk, format)).unwrap(), format);
    }
    assert_eq!("qcow2".parse(), Ok(Format::Qcow2));
    assert!("vmdk".parse::<Format>().unwrap_err().contains("raw, vhd, vhd-fixed, qcow2"));
}

#[test]
fn a_vhd_has_its_limit() {
    let disk = Disk::new(2041 << 30);
    let mut image = common::Image::default();
    let error = radon_image::export(&disk, Format::Vhd, &Default::default(), &mut image).unwrap_err();
    assert!(error.to_string().contains("2040 GiB"), "{error}");
}

#[test]
fn a_raw_image_is_rounded_up_to_sectors() {
    let disk = import(&&b"x"[..], Format::Raw).unwrap();
    assert_eq!(disk.size, 512);
    assert_eq!(import_stream(b"x", Format::Raw).unwrap(), disk);
}

#[test]
fn sectors_whose_bit_is_clear_are_zeros() {
    let mut disk = Disk::new(2 << 20);
    disk.put(&[7; 8192], 0);
    let mut image = bytes(&export(&disk, Format::Vhd));
    // The bitmap is behind footer, header and one sector of the table.
    image[2048] = 0b1101_1111;
    let read = import(&image.as_slice(), Format::Vhd).unwrap();
    disk.put(&[0; 512], 1024);
    assert_eq!(read, disk.trimmed());
}

#[test]
fn what_refers_to_other_files_is_refused_with_a_cure() {
    let mut image = bytes(&export(&Disk::new(1 << 20), Format::Qcow2));
    image[15] = 1; // backing_file_offset
    let error = import(&image.as_slice(), Format::Qcow2).unwrap_err();
    assert!(matches!(error, ImageError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("backing file"), "{error}");
}

/// Tables that name one cluster again and again would be a small image of an endless disk.
#[test]
fn a_bomb_is_refused() {
    let mut disk = Disk::new(1 << 40);
    disk.put(b"x", 0);
    let mut image = bytes(&export(&disk, Format::Qcow2));
    let (l1, l2) = (3 << 16, image.len() - (2 << 16));
    let entry: [u8; 8] = image[l1..l1 + 8].try_into().unwrap();
    assert_eq!(u64::from_be_bytes(entry) & 0xff_ffff, l2 as u64);
    for n in 1..2048 {
        image[l1 + n * 8..l1 + n * 8 + 8].copy_from_slice(&entry);
    }
    let data: [u8; 8] = image[l2..l2 + 8].try_into().unwrap();
    for n in 1..8192 {
        image[l2 + n * 8..l2 + n * 8 + 8].copy_from_slice(&data);
    }
    let error = import(&image.as_slice(), Format::Qcow2).unwrap_err();
    assert!(error.to_string().contains("more than once"), "{error}");
}
