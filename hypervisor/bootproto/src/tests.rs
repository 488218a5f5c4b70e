//! Each protocol from a hand-built byte image; normalisation against a naive per-unit model; arbitrary bytes.

use super::*;
use alloc::string::ToString;
use alloc::vec;
use proptest::prelude::*;

/// Machine memory: one byte image at `base`.
struct Image {
    base: u64,
    bytes: Vec<u8>,
}

impl Image {
    fn new(len: usize) -> Self {
        Self { base: 0x9000, bytes: vec![0; len] }
    }
    fn put(&mut self, at: usize, data: &[u8]) {
        self.bytes[at..at + data.len()].copy_from_slice(data);
    }
    fn put32(&mut self, at: usize, value: u64) {
        self.put(at, &(value as u32).to_le_bytes());
    }
    fn put64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }
    fn parse(&self, magic: u32) -> Result<BootInfo, Error> {
        parse(magic, Maddr::new(self.base), &|at, buf| {
            let Some(from) = at.raw().checked_sub(self.base) else { return false };
            let from = usize::try_from(from).unwrap_or(usize::MAX);
            match self.bytes.get(from..from.saturating_add(buf.len())) {
                Some(src) => {
                    buf.copy_from_slice(src);
                    true
                }
                None => false,
            }
        })
    }
}

fn region(start: u64, len: u64, kind: MemKind) -> MemRegion {
    MemRegion { start: Maddr::new(start), len, kind }
}

fn multiboot1(loader: &str) -> Image {
    let mut m = Image::new(0x400);
    m.put32(0, (1 << 2) | (1 << 3) | (1 << 6) | (1 << 9));
    m.put32(16, m.base + 0x100);
    m.put(0x100, b"radon console=com1\0");
    m.put32(64, m.base + 0x140);
    m.put(0x140, loader.as_bytes());
    m.put32(20, 1);
    m.put32(24, m.base + 0x180);
    m.put32(0x180, 0x100_0000);
    m.put32(0x184, 0x100_1234);
    m.put32(0x188, m.base + 0x1a0);
    m.put(0x1a0, b"/boot/vmlinuz root=/dev/ram0 quiet\0");
    m.put32(44, 48);
    m.put32(48, m.base + 0x200);
    for (i, (start, len, kind)) in
        [(0u64, 0x9fc00u64, 1u64), (0x10_0000, 0x700_0000, 1)].into_iter().enumerate()
    {
        m.put32(0x200 + i * 24, 20);
        m.put64(0x204 + i * 24, start);
        m.put64(0x20c + i * 24, len);
        m.put32(0x214 + i * 24, kind);
    }
    m
}

#[test]
fn multiboot1_strips_file_names_unless_grub2() {
    let boot = multiboot1("qemu").parse(MULTIBOOT1_MAGIC).unwrap();
    assert_eq!(boot.cmdline, "console=com1");
    assert_eq!(boot.modules[0].cmdline, "root=/dev/ram0 quiet");
    assert_eq!((boot.modules[0].start, boot.modules[0].len), (Maddr::new(0x100_0000), 0x1234));
    assert_eq!(boot.memory, [region(0, 0x9fc00, MemKind::Ram), region(0x10_0000, 0x700_0000, MemKind::Ram)]);
    let boot = multiboot1("GRUB 2.06-13").parse(MULTIBOOT1_MAGIC).unwrap();
    assert_eq!(boot.cmdline, "radon console=com1");
    assert_eq!(multiboot1("GNU GRUB 0.97").parse(MULTIBOOT1_MAGIC).unwrap().cmdline, "console=com1");
}

#[test]
fn multiboot1_falls_back_to_basic_memory() {
    let mut m = Image::new(0x80);
    m.put32(0, 1);
    m.put32(4, 640);
    m.put32(8, 1024);
    let boot = m.parse(MULTIBOOT1_MAGIC).unwrap();
    assert_eq!(boot.memory, [region(0, 640 << 10, MemKind::Ram), region(1 << 20, 1 << 20, MemKind::Ram)]);
    m.put32(0, 0);
    assert_eq!(m.parse(MULTIBOOT1_MAGIC), Err(Error::NoMemory));
}

#[test]
fn multiboot2_tags() {
    let mut m = Image::new(0x200);
    let mut at = 8;
    let tag = |m: &mut Image, at: &mut usize, kind: u64, body: &[u8]| {
        m.put32(*at, kind);
        m.put32(*at + 4, 8 + body.len() as u64);
        m.put(*at + 8, body);
        *at = (*at + 8 + body.len()).next_multiple_of(8);
    };
    tag(&mut m, &mut at, 1, b"loglvl=all\0");
    tag(&mut m, &mut at, 2, b"GRUB 2.06\0");
    let mut module = [0x10_0000u32.to_le_bytes(), 0x10_2000u32.to_le_bytes()].concat();
    module.extend_from_slice(b"ro\0");
    tag(&mut m, &mut at, 3, &module);
    let mut map = [24u32.to_le_bytes(), 0u32.to_le_bytes()].concat();
    map.extend_from_slice(&0x10_0000u64.to_le_bytes());
    map.extend_from_slice(&0x20_0000u64.to_le_bytes());
    map.extend_from_slice(&1u64.to_le_bytes());
    tag(&mut m, &mut at, 6, &map);
    tag(&mut m, &mut at, 12, &0x7f00_0000u64.to_le_bytes());
    let rsdp = at + 8;
    tag(&mut m, &mut at, 15, b"RSD PTR ");
    tag(&mut m, &mut at, 14, b"RSD PTR ");
    tag(&mut m, &mut at, 0, b"");
    m.put32(0, at as u64);
    let boot = m.parse(MULTIBOOT2_MAGIC).unwrap();
    assert_eq!((boot.cmdline.as_str(), boot.loader.as_str()), ("loglvl=all", "GRUB 2.06"));
    assert_eq!(
        boot.modules,
        [Module { start: Maddr::new(0x10_0000), len: 0x2000, cmdline: "ro".to_string() }]
    );
    assert_eq!(boot.memory, [region(0x10_0000, 0x20_0000, MemKind::Ram)]);
    assert_eq!(boot.rsdp, Some(Maddr::new(m.base + rsdp as u64)));
    assert_eq!(boot.efi.unwrap().system_table, Maddr::new(0x7f00_0000));
    assert_eq!(boot.loader_data, [(Maddr::new(m.base), at as u64)]);
}

#[test]
fn pvh_start_info() {
    let mut m = Image::new(0x200);
    m.put32(0, u64::from(PVH_MAGIC));
    m.put32(4, 1);
    m.put32(12, 1);
    m.put64(16, m.base + 0x80);
    m.put64(24, m.base + 0x100);
    m.put(0x100, b"dom0_mem=1G\0");
    m.put64(32, 0xf5000);
    m.put64(40, m.base + 0xc0);
    m.put32(48, 1);
    m.put64(0x80, 0x200_0000);
    m.put64(0x88, 77);
    m.put64(0xc0, 0);
    m.put64(0xc8, 0x800_0000);
    m.put32(0xd0, 1);
    let boot = m.parse(PVH_MAGIC).unwrap();
    assert_eq!((boot.cmdline.as_str(), boot.rsdp), ("dom0_mem=1G", Some(Maddr::new(0xf5000))));
    assert_eq!(boot.modules, [Module { start: Maddr::new(0x200_0000), len: 77, cmdline: String::new() }]);
    assert_eq!(boot.memory, [region(0, 0x800_0000, MemKind::Ram)]);
    assert_eq!(m.parse(1), Err(Error::UnknownProtocol(1)));
    m.put32(0, 0);
    assert_eq!(m.parse(PVH_MAGIC), Err(Error::BadMagic(0)));
}

#[test]
fn regions_beyond_the_address_space_are_cut() {
    let map =
        normalise(&[region(u64::MAX - 5, 100, MemKind::Ram), region((1 << 52) - 10, u64::MAX, MemKind::Ram)]);
    assert_eq!(map, [region((1 << 52) - 10, 10, MemKind::Ram)]);
}

proptest! {
    #[test]
    fn normalise_agrees_with_a_table(
        list in proptest::collection::vec((0u64..60, 0u64..20, 0usize..5), 0..12)
    ) {
        let kinds = [MemKind::Ram, MemKind::AcpiReclaim, MemKind::AcpiNvs, MemKind::Reserved, MemKind::Unusable];
        let mut table = [None; 80];
        for (start, len, kind) in &list {
            for cell in &mut table[*start as usize..(start + len) as usize] {
                *cell = (*cell).max(Some(kinds[*kind]));
            }
        }
        let map = normalise(&list.iter().map(|(s, l, k)| region(*s, *l, kinds[*k])).collect::<Vec<_>>());
        let mut seen = [None; 80];
        for r in &map {
            for cell in &mut seen[r.start.raw() as usize..r.end().raw() as usize] {
                prop_assert_eq!(*cell, None);
                *cell = Some(r.kind);
            }
        }
        prop_assert_eq!(table, seen);
        for pair in map.windows(2) {
            prop_assert!(pair[0].end() < pair[1].start || (pair[0].end() == pair[1].start && pair[0].kind != pair[1].kind));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), which in 0usize..3) {
        let magic = [MULTIBOOT1_MAGIC, MULTIBOOT2_MAGIC, PVH_MAGIC][which];
        let mut m = Image { base: 0x9000, bytes };
        if which == 2 && m.bytes.len() > 8 {
            m.put32(0, u64::from(PVH_MAGIC));
        }
        let _ = m.parse(magic);
    }
}
