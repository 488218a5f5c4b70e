extern crate std;

use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;
use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

/// Runs a compressor of the system on `data`; `None` when it is not installed.
fn tool(name: &str, args: &[&str], data: &[u8]) -> Option<Vec<u8>> {
    let dir = std::env::temp_dir();
    let unique = std::format!("radon-kernel-{}-{:?}", std::process::id(), std::thread::current().id());
    let file = dir.join(unique.replace(['(', ')'], ""));
    std::fs::File::create(&file).ok()?.write_all(data).ok()?;
    let out = Command::new(name).args(args).arg(&file).stderr(Stdio::null()).output();
    let _ = std::fs::remove_file(&file);
    let out = out.ok().filter(|o| o.status.success());
    if out.is_none() {
        std::eprintln!("skipped: no working `{name}` on this machine");
    }
    Some(out?.stdout)
}

/// An ELF-like sample: magic, zero runs, text, x86-like calls, noise. Deterministic.
fn sample(len: usize, seed: u32) -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    let mut x = seed | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x
    };
    while out.len() < len {
        let n = (next() % 300) as usize;
        match next() % 6 {
            0 => out.resize(out.len() + n * 9, 0),
            1 => out.extend(core::iter::repeat_n(b"hypervisor ", n / 8).flatten()),
            2 => out.extend((0..n).map(|_| next() as u8)),
            3 => {
                // Calls to a few targets, close to each other: the filter's difficult cases.
                for i in 0..n {
                    out.push(0xe8 | (next() & 1) as u8);
                    let target = 0x1000u32.wrapping_mul(next() % 5).wrapping_sub(out.len() as u32);
                    out.extend_from_slice(&target.to_le_bytes()[..4 - usize::from(i % 7 == 0)]);
                    out.resize(out.len() + (next() % 4) as usize, 0x90);
                }
            }
            4 => out.extend((0..n).map(|_| [0xe8, 0xe9, 0, 0xff][(next() % 4) as usize])),
            _ => {
                let from = (next() as usize) % out.len();
                out.extend_from_within(from..(from + n).min(out.len()));
            }
        }
    }
    out.truncate(len);
    out
}

/// A minimal bzImage around a payload.
fn bzimage(payload: &[u8], append: Option<u32>) -> Vec<u8> {
    let mut b = vec![0u8; 1024 + 64];
    b[0x1f1] = 1;
    b[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    b[0x202..0x206].copy_from_slice(b"HdrS");
    b[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    b[0x248..0x24c].copy_from_slice(&64u32.to_le_bytes());
    b.extend_from_slice(payload);
    b.extend(append.into_iter().flat_map(u32::to_le_bytes));
    let len = (b.len() - 1088) as u32;
    b[0x24c..0x250].copy_from_slice(&len.to_le_bytes());
    b.extend_from_slice(b"trailing bytes of the image");
    b
}

const XZ_KERNEL: &[&str] = &["--check=crc32", "--x86", "--lzma2=dict=32MiB", "-c"];
const TOOLS: &[(&str, &[&str], Format)] = &[
    ("xz", XZ_KERNEL, Format::Xz),
    ("xz", &["-0", "-c"], Format::Xz),
    ("xz", &["--block-size=30000", "--x86", "--lzma2=lc=1,lp=2,pb=0,nice=273", "-c"], Format::Xz),
    ("xz", &["--check=none", "--lzma2=lc=0,lp=0,pb=4", "-c"], Format::Xz),
    ("gzip", &["-9cn"], Format::Gzip),
    ("gzip", &["-1c"], Format::Gzip),
    ("zstd", &["-q", "-19", "-c"], Format::Zstd),
    ("zstd", &["-q", "-1", "--no-check", "-c"], Format::Zstd),
    ("lz4", &["-q", "-l", "-9", "-c"], Format::Lz4),
];

#[test]
fn every_format_round_trips() {
    for len in [8, 300, 70_000, 400_000] {
        let plain = sample(len, len as u32);
        for (name, args, format) in TOOLS {
            let Some(packed) = tool(name, args, &plain) else { continue };
            let found = Packed::detect(&packed).unwrap();
            assert_eq!((found.format, found.unpacked_len), (*format, len), "{name} {args:?}");
            assert!(unpack(&packed).unwrap() == plain, "{name} {args:?} {len}");
            // gzip ends with the length by itself.
            let append = (*format != Format::Gzip).then_some(len as u32);
            let image = bzimage(&packed, append);
            assert!(unpack(&image).unwrap() == plain, "bzImage {name} {args:?} {len}");
            if let Some(n) = append {
                let short = bzimage(&packed, Some(n - 1));
                assert!(unpack(&short).is_err(), "short {name}");
                let long = bzimage(&packed, Some(n + 1));
                assert!(unpack(&long).is_err(), "long {name}");
            }
        }
    }
}

/// Kernels are packed from a pipe at the highest level: no content size, 128 MiB window.
#[test]
fn zstd_as_kernels_use_it() {
    let plain = sample(300_000, 7);
    let mut zstd = Command::new("zstd");
    zstd.args(["-q", "-22", "--ultra", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = zstd.spawn() else { return std::eprintln!("skipped: no zstd") };
    let mut stdin = child.stdin.take().unwrap();
    let copy = plain.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy));
    let packed = child.wait_with_output().unwrap().stdout;
    writer.join().unwrap().unwrap();
    assert_eq!(
        unpack(&packed).err(),
        Some(Error::Unsupported("a Zstandard frame without its length (`zstd` of a pipe)"))
    );
    assert!(unpack(&bzimage(&packed, Some(300_000))).unwrap() == plain);
}

#[test]
fn plain_elf_is_borrowed() {
    let elf = sample(1000, 1);
    assert!(matches!(unpack(&elf), Ok(Cow::Borrowed(b)) if b == elf));
    let image = bzimage(&elf, None);
    assert!(matches!(unpack(&image), Ok(Cow::Borrowed(b)) if b == elf));
    let mut buffer = vec![0; 1001];
    assert_eq!(unpack_into(&elf, &mut buffer), Ok(1000));
    assert_eq!(unpack_into(&elf, &mut buffer[..999]), Err(Error::WrongLength));
}

#[test]
fn refusals_name_the_reason() {
    for head in [&b"BZh91AY"[..], b"\x5d\0\0\x80\0", b"\x89LZO\0\r\n", b"\x04\x22\x4d\x18"] {
        assert!(matches!(unpack(head), Err(Error::Unsupported(_))), "{head:?}");
    }
    assert_eq!(unpack(b"hello"), Err(Error::UnknownFormat));
    assert_eq!(unpack(b""), Err(Error::UnknownFormat));
    let mut old = bzimage(b"\x7fELF", None);
    old[0x206] = 7;
    assert!(matches!(unpack(&old), Err(Error::Unsupported(_))));
    let mut outside = bzimage(b"\x7fELF", None);
    outside[0x24f] = 0x7f;
    assert_eq!(unpack(&outside), Err(Error::BadBzImage));
    assert_eq!(unpack(&bzimage(b"\xfd7zXZ\0", Some(u32::MAX))), Err(Error::TooLarge));
}

#[test]
fn damage_is_found() {
    let plain = sample(60_000, 3);
    for (name, args, format) in TOOLS.iter().filter(|t| t.2 != Format::Lz4) {
        let Some(packed) = tool(name, args, &plain) else { continue };
        let checked = *format == Format::Gzip || args.contains(&"--check=crc32");
        // Neither the name in a gzip header nor the index at the end of an xz file matters.
        for at in (100..packed.len() - 64).step_by(packed.len() / 61) {
            let mut bad = packed.clone();
            bad[at] ^= 0x10;
            let image = bzimage(&bad, (*format != Format::Gzip).then_some(60_000));
            let got = unpack(&image);
            assert!(!checked || got.is_err(), "{name} {args:?} {at}");
        }
        for cut in (0..packed.len()).step_by(packed.len() / 61) {
            let mut out = vec![0; 60_000];
            let p = Packed { format: *format, data: &packed[..cut], unpacked_len: 60_000 };
            assert!(p.unpack_into(&mut out).is_err(), "{name} cut at {cut}");
        }
    }
}

/// The filter's encoder, from the definition: the decoder with the sign of the position reversed.
#[test]
fn bcj_finds_every_opcode() {
    // Every alignment of a lone CALL, including the last bytes where nothing may be touched.
    for at in 0..24 {
        let mut b = vec![0x90u8; 28];
        b[at] = 0xe8;
        let target = 0x0001_0000u32;
        let wide = b.len() - at >= 5;
        if wide {
            b[at + 1..at + 5].copy_from_slice(&target.to_le_bytes());
        }
        let mut want = b.clone();
        if wide {
            want[at + 1..at + 5].copy_from_slice(&(target - (at as u32 + 5)).to_le_bytes());
        }
        bcj::x86_decode(&mut b);
        assert_eq!(b, want, "at {at}");
    }
    bcj::x86_decode(&mut [0xe8, 0, 0, 0]);
    bcj::x86_decode(&mut []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn garbage_never_panics(head in 0usize..6, body in prop::collection::vec(any::<u8>(), 0..600), len in 0usize..5000) {
        let heads: [&[u8]; 6] = [
            b"", b"\x1f\x8b\x08\0\0\0\0\0\0\0", b"\xfd7zXZ\0\0\0\xff\x12\xd9\x41\x02\0\x21\x01\x16\0\0\0\x74\x2f\xe5\xa3",
            b"\x28\xb5\x2f\xfd", b"\x02\x21\x4c\x18", b"\x02\x21\x4c\x18\x40\0\0\0",
        ];
        let mut data = heads[head].to_vec();
        data.extend_from_slice(&body);
        let _ = unpack(&data);
        let _ = unpack(&bzimage(&data, Some(len as u32)));
        let mut out = vec![0; len];
        let _ = lzma2::Lzma2::new().decode(&body, &mut out, len / 2);
        let mut lzma = vec![0xe0, 0, 0xff, 0, 0xff, body.first().copied().unwrap_or(93)];
        lzma.push(0);
        lzma.extend_from_slice(&body);
        lzma.resize(lzma.len() + 300, 0x5a);
        let _ = lzma2::Lzma2::new().decode(&lzma, &mut out, 0);
    }
}
