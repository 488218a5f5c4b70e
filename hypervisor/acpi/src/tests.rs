use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;
use radon_addr::{Gpa, Maddr};

use crate::testing::{Memory, rsdp, table};
use crate::*;

const TABLES: u64 = 0x7fe0_0000;

fn madt_body() -> Vec<u8> {
    let mut b = Vec::new();
    b.extend_from_slice(&0xfee0_0000u32.to_le_bytes());
    b.extend_from_slice(&1u32.to_le_bytes());
    b.extend_from_slice(&[0, 8, 0, 0, 1, 0, 0, 0]); // cpu 0
    b.extend_from_slice(&[0, 8, 1, 2, 1, 0, 0, 0]); // cpu 1, apic id 2
    b.extend_from_slice(&[0, 8, 2, 4, 0, 0, 0, 0]); // disabled
    b.extend_from_slice(&[0, 8, 3, 0xff, 1, 0, 0, 0]); // broadcast id: absent
    b.extend_from_slice(&[9, 16, 0, 0, 0x2c, 1, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0]); // x2apic 300
    b.extend_from_slice(&[9, 16, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]); // apic id 2 again
    b.extend_from_slice(&[1, 12, 7, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    b.extend_from_slice(&[1, 12, 8, 0, 0, 0x10, 0xc0, 0xfe, 24, 0, 0, 0]);
    b.extend_from_slice(&[2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    b.extend_from_slice(&[2, 10, 0, 9, 9, 0, 0, 0, 0xf, 0]);
    b.extend_from_slice(&[3, 8, 5, 0, 23, 0, 0, 0]);
    b.extend_from_slice(&[4, 6, 0xff, 5, 0, 1]);
    b.extend_from_slice(&[0x7f, 4, 1, 2]); // unknown type
    b
}

fn fadt_body(len: usize) -> Vec<u8> {
    let mut t = vec![0u8; len];
    let mut put = |off: usize, v: &[u8]| {
        for (i, x) in v.iter().enumerate() {
            if let Some(d) = t.get_mut(off - 36 + i) {
                *d = *x;
            }
        }
    };
    put(36, &0x7fe1_0000u32.to_le_bytes());
    put(40, &0x7fe2_0000u32.to_le_bytes());
    put(46, &9u16.to_le_bytes());
    put(48, &0xb2u32.to_le_bytes());
    put(52, &[2, 3]);
    put(56, &0x600u32.to_le_bytes());
    put(64, &0x604u32.to_le_bytes());
    put(76, &0x608u32.to_le_bytes());
    put(88, &[4, 2, 0, 4]);
    put(112, &((1u32 << 8) | (1 << 10)).to_le_bytes());
    put(116, &[1, 8, 0, 0, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0]);
    put(128, &[0xf]);
    put(208, &[1, 32, 0, 3, 0x08, 0x16, 0, 0, 0, 0, 0, 0]);
    t
}

/// A machine with RSDP in the BIOS area and the usual tables.
fn machine(wide: bool) -> Memory {
    let mut m = Memory::default();
    let mut at = TABLES + 0x1000;
    let mut entries = vec![0, 0xdead_0000]; // an empty and an unreadable slot
    let hpet =
        [&[0x01, 0xa2, 0x86, 0x80][..], &[0, 64, 0, 0, 0, 0, 0xd0, 0xfe, 0, 0, 0, 0], &[0, 0x80, 0, 0]]
            .concat();
    let mcfg = [&[0u8; 8][..], &0xb000_0000u64.to_le_bytes(), &[0, 0, 0, 0xff, 0, 0, 0, 0]].concat();
    let ivhd = [
        &[0u8; 12][..],
        &[0x10, 0x32, 24, 0, 0x10, 0, 0x40, 0],
        &0xfed8_0000u64.to_le_bytes(),
        &[0u8; 8],
        &[0x11, 0x32, 40, 0, 0x10, 0, 0x40, 0],
        &0xfed8_0000u64.to_le_bytes(),
        &[0u8; 24],
        &[0x21, 0, 32, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &0x7000_0000u64.to_le_bytes(),
        &0x2000u64.to_le_bytes(),
    ]
    .concat();
    for (sig, rev, body) in [
        (b"FACP", 3, fadt_body(208)),
        (b"APIC", 5, madt_body()),
        (b"SSDT", 1, vec![1, 2, 3]),
        (b"HPET", 1, hpet),
        (b"MCFG", 1, mcfg),
        (b"IVRS", 2, ivhd),
        (b"SSDT", 1, vec![4]),
        (b"WAET", 1, vec![0; 4]),
    ] {
        entries.push(at);
        at += m.table(at, sig, rev, &body).next_multiple_of(16);
    }
    let mut facs = vec![0u8; 64];
    facs[..4].copy_from_slice(b"FACS");
    facs[4] = 64;
    m.put(0x7fe1_0000, &facs);
    m.table(0x7fe2_0000, b"DSDT", 2, &[0x42; 100]);
    let root: Vec<u8> = entries
        .iter()
        .flat_map(|e| if wide { e.to_le_bytes().to_vec() } else { (*e as u32).to_le_bytes().to_vec() })
        .collect();
    m.table(TABLES, if wide { b"XSDT" } else { b"RSDT" }, 1, &root);
    m.put(0xf_5800, &[0u8; 1024]); // the rest of the BIOS area is unreadable: passed over
    m.put(0xf_5a10, &rsdp(if wide { 0 } else { TABLES as u32 }, wide.then_some(TABLES)));
    m
}

fn load(m: &Memory) -> Tables {
    Tables::load(m, find_rsdp(m).unwrap()).unwrap()
}

#[test]
fn finds_rsdp_in_bios_area_and_ebda() {
    let mut m = machine(true);
    assert_eq!(find_rsdp(&m), Some(Maddr::new(0xf_5a10)));
    m.put(0x40e, &[0xc0, 0x9f]);
    m.put(0x9_fc00, &[0u8; 1024]);
    m.put(0x9_fc40, &rsdp(1, None));
    assert_eq!(find_rsdp(&m), Some(Maddr::new(0x9_fc40)));
    m.put(0x9_fc48, &[1]); // broken checksum: fall through to the BIOS area
    assert_eq!(find_rsdp(&m), Some(Maddr::new(0xf_5a10)));
    assert_eq!(find_rsdp(&Memory::default()), None);
}

#[test]
fn soft_off_is_found_in_the_dsdt() {
    let mut m = machine(true);
    assert_eq!(load(&m).soft_off(&m), None);
    let mut body = [0x42; 100];
    body[60..72].copy_from_slice(b"\x08_S5_\x12\x07\x02\x0a\x05\x01\x42");
    m.table(0x7fe2_0000, b"DSDT", 2, &body);
    assert_eq!(load(&m).soft_off(&m), Some((5, 1)));
    m.put(0x7fe2_0000 + 100, &[0x41]); // a table with a wrong checksum says nothing
    assert_eq!(load(&m).soft_off(&m), None);
}

#[test]
fn walks_both_root_tables() {
    for wide in [false, true] {
        let t = load(&machine(wide));
        let names: Vec<_> = t.list().iter().map(|t| t.signature).collect();
        let want = [b"FACP", b"APIC", b"SSDT", b"HPET", b"MCFG", b"IVRS", b"SSDT", b"WAET", b"DSDT", b"FACS"];
        assert_eq!(names, want.map(|w| *w));
        assert_eq!(t.skipped(), 1);
        assert_eq!(t.find(b"DSDT").unwrap().len, 136);
    }
}

#[test]
fn broken_xsdt_falls_back_to_rsdt() {
    let mut m = machine(false);
    m.put(0x10_0000, &[0xff; 64]);
    m.put(0xf_5a10, &rsdp(TABLES as u32, Some(0x10_0000)));
    assert_eq!(load(&m).root_header()[..4], *b"RSDT");
    m.put(0xf_5a10, &rsdp(0, Some(0x10_0000)));
    assert!(Tables::load(&m, Maddr::new(0xf_5a10)).is_err());
}

#[test]
fn madt_contents() {
    let m = machine(true);
    let madt = load(&m).madt(&m).unwrap().unwrap();
    assert_eq!(madt.cpus().collect::<Vec<_>>(), [0, 2, 300]);
    assert_eq!(madt.lapic_address, 0xfee0_0000);
    assert!(madt.pcat_compat);
    assert_eq!(madt.ioapics.len(), 2);
    assert_eq!(madt.ioapics[1], IoApic { id: 8, address: 0xfec0_1000, gsi_base: 24 });
    assert_eq!(madt.isa_to_gsi(0), (2, 0));
    assert_eq!(madt.isa_to_gsi(4), (4, 0));
    assert!(madt.overrides[1].active_low() && madt.overrides[1].level());
    assert_eq!(madt.nmi_sources, [NmiSource { gsi: 23, flags: 5 }]);
    assert_eq!(madt.local_nmis, [LocalNmi { uid: None, lint: 1, flags: 5 }]);
}

#[test]
fn fadt_contents() {
    let m = machine(true);
    let f = load(&m).fadt(&m).unwrap().unwrap();
    assert_eq!(f.pm1a_control.and_then(|r| r.port()), Some(0x604));
    assert_eq!(f.pm1a_event.map(|r| r.bit_width), Some(32));
    assert_eq!(f.pm1b_control, None);
    assert_eq!(f.pm_timer.and_then(|r| r.port()), Some(0x1608)); // the 64-bit field wins
    assert_eq!(f.pm_timer_bits, 32);
    assert_eq!(f.reset.map(|(r, v)| (r.port(), v)), Some((Some(0xcf9), 0xf)));
    assert_eq!((f.sci_irq, f.smi_cmd, f.acpi_enable), (9, 0xb2, 2));
    // ACPI 1.0: no reset register, no 64-bit fields.
    let old = Fadt::parse(&table(b"FACP", 1, &fadt_body(80))).unwrap();
    assert_eq!(old.pm_timer.and_then(|r| r.port()), Some(0x608));
    assert_eq!(old.reset, None);
    assert_eq!(Fadt::parse(&table(b"FACP", 1, &fadt_body(79))), Err(Error::BadLength(*b"FACP")));
}

#[test]
fn platform_and_iommu() {
    let m = machine(true);
    let t = load(&m);
    assert_eq!(t.hpet(&m).unwrap().unwrap().base, Maddr::new(0xfed0_0000));
    let mcfg = t.mcfg(&m).unwrap();
    assert_eq!(mcfg.len(), 1);
    assert_eq!(mcfg[0].range(), Some((Maddr::new(0xb000_0000), 0x1000_0000)));
    let iommu = t.ivrs(&m).unwrap().unwrap();
    assert_eq!(iommu.units.len(), 1);
    assert_eq!((iommu.units[0].base, iommu.units[0].record_type), (Maddr::new(0xfed8_0000), 0x11));
    assert_eq!(iommu.reserved, [ReservedRange { start: Maddr::new(0x7000_0000), len: 0x2000 }]);
    assert!(t.dmar(&m).unwrap().is_none());
    assert!(t.srat(&m).unwrap().is_none());
}

#[test]
fn dmar_contents() {
    let body = [
        &[38, 1][..],
        &[0; 10],
        &[0, 0, 16, 0, 1, 0, 2, 0],
        &0xfed9_0000u64.to_le_bytes(),
        &[1, 0, 24, 0, 0, 0, 0, 0],
        &0x1000u64.to_le_bytes(),
        &0x1fffu64.to_le_bytes(),
    ]
    .concat();
    let d = Remapping::parse_dmar(&table(b"DMAR", 1, &body)).unwrap();
    assert_eq!((d.units[0].base, d.units[0].segment, d.info), (Maddr::new(0xfed9_0000), 2, 1));
    assert_eq!(d.reserved, [ReservedRange { start: Maddr::new(0x1000), len: 0x1000 }]);
}

#[test]
fn numa_contents() {
    let mut b = vec![0u8; 12];
    b.extend_from_slice(&[0, 16, 1, 4, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]);
    b.extend_from_slice(&[0, 16, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // disabled
    b.extend_from_slice(&[2, 24, 0, 0, 3, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut mem = vec![1, 40, 3, 0, 0, 0, 0, 0];
    mem.extend_from_slice(&0x1_0000_0000u64.to_le_bytes());
    mem.extend_from_slice(&0x4000_0000u64.to_le_bytes());
    mem.extend_from_slice(&[0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    b.extend_from_slice(&mem);
    let s = Srat::parse(&table(b"SRAT", 3, &b)).unwrap();
    let cpus = [CpuAffinity { apic_id: 4, domain: 0x201 }, CpuAffinity { apic_id: 256, domain: 3 }];
    assert_eq!(s.cpus, cpus);
    assert!(s.memory[0].hotplug && s.memory[0].domain == 3 && s.memory[0].len == 0x4000_0000);
    assert_eq!(Srat::parse(&table(b"SRAT", 1, &b)).unwrap().cpus[0].domain, 1);
    let slit = Slit::parse(&table(b"SLIT", 1, &[2, 0, 0, 0, 0, 0, 0, 0, 10, 20, 21, 10])).unwrap();
    assert_eq!((slit.distance(1, 0), slit.distance(0, 2), slit.distance(2, 0)), (Some(21), None, None));
    assert!(Slit::parse(&table(b"SLIT", 1, &[0xff; 8])).is_err());
}

#[test]
fn bad_tables_are_errors() {
    let mut m = machine(true);
    let apic = load(&m).find(b"APIC").unwrap().at.raw();
    m.put(apic + 40, &[0xff]);
    assert_eq!(load(&m).madt(&m), Err(Error::BadChecksum(*b"APIC")));
    for tail in [&[0u8, 0][..], &[0, 1], &[1], &[0, 7, 0, 0, 1, 0, 0], &[1, 200, 0]] {
        let body = [&[0u8; 8][..], tail].concat();
        assert_eq!(Madt::parse(&table(b"APIC", 1, &body)), Err(Error::BadLength(*b"APIC")), "{tail:?}");
    }
    let mut window = [0u8; 8 + 16];
    window[8 + 3] = 0xb0;
    assert!(parse_mcfg(&table(b"MCFG", 1, &window)).is_ok());
    assert_eq!(parse_mcfg(&table(b"MCFG", 1, &window[..20])), Err(Error::BadLength(*b"MCFG")));
    window[8 + 10] = 1; // ends before it starts
    assert_eq!(parse_mcfg(&table(b"MCFG", 1, &window)), Err(Error::BadValue(*b"MCFG")));
}

#[test]
fn dom0_tables_round_trip() {
    for wide in [false, true] {
        let m = machine(wide);
        let t = load(&m);
        let madt = t.madt(&m).unwrap().unwrap();
        let p = Dom0Params { vcpus: 3, ioapics: &madt.ioapics, overrides: &madt.overrides };
        let at = Gpa::new(0x3fff_0000);
        // The second SSDT is claimed to lie in RAM: it must not show.
        let second = t.list()[6].at;
        let ok = |a: Maddr, _: u64| a != second;
        let built = build_dom0(&t, &p, at, ok).unwrap();
        assert_eq!(built.bytes.len(), build_dom0(&t, &p, Gpa::new(0), ok).unwrap().bytes.len());
        let mut guest = m.clone();
        guest.put(at.raw(), &built.bytes);
        let g = Tables::load(&guest, Maddr::new(built.rsdp.raw())).unwrap();
        assert_eq!(g.skipped(), 0);
        let names: Vec<_> = g.list().iter().map(|t| t.signature).collect();
        assert_eq!(names, [*b"APIC", *b"FACP", *b"SSDT", *b"MCFG", *b"DSDT", *b"FACS"]);
        let gm = g.madt(&guest).unwrap().unwrap();
        assert_eq!(gm.cpus().collect::<Vec<_>>(), [0, 2, 4]);
        assert_eq!(gm.ioapics, madt.ioapics);
        assert_eq!(gm.overrides, madt.overrides);
        assert!(gm.local_nmis.is_empty());
        assert_eq!(g.find(b"DSDT"), t.find(b"DSDT"));
        let ranges = dom0_ranges(&t, ok);
        assert_eq!(ranges.len(), 6); // FACP APIC SSDT MCFG DSDT FACS
        assert!(ranges.contains(&(t.find(b"APIC").unwrap().at, t.find(b"APIC").unwrap().len.into())));
    }
}

/// Reads that always succeed with bytes from a short repeating pattern.
struct Noise(Vec<u8>);
impl PhysReader for Noise {
    fn read(&self, at: Maddr, buf: &mut [u8]) -> bool {
        let n = self.0.len() as u64;
        for (i, b) in buf.iter_mut().enumerate() {
            *b = self.0[(at.raw().wrapping_add(i as u64) % n) as usize];
        }
        true
    }
}

fn parse_everything(t: &Tables, r: &impl PhysReader) {
    let madt = t.madt(r);
    let _ = (t.fadt(r), t.hpet(r), t.mcfg(r), t.srat(r), t.slit(r), t.dmar(r), t.ivrs(r));
    if let Ok(Some(madt)) = madt {
        let p = Dom0Params { vcpus: 2, ioapics: &madt.ioapics, overrides: &madt.overrides };
        build_dom0(t, &p, Gpa::new(0x1000), |_, _| true).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn noise_is_never_a_panic(pattern in prop::collection::vec(any::<u8>(), 1..97), at in any::<u64>()) {
        let mut pattern = pattern;
        let sig = *b"RSD PTR ";
        for (p, s) in pattern.iter_mut().zip(sig) { *p = s; }
        let r = Noise(pattern);

        if let Ok(t) = Tables::load(&r, Maddr::new(at)) { parse_everything(&t, &r); }
    }

    #[test]
    fn parsers_take_any_bytes(b in prop::collection::vec(any::<u8>(), 0..300), n in 0usize..300) {
        // Well-sized headers reach further than pure noise does.
        let mut small = b.clone();
        for x in small.iter_mut().skip(n) { *x %= 24; }
        for b in [&b, &small] {
            let _ = (Madt::parse(b), Fadt::parse(b), Hpet::parse(b), parse_mcfg(b), Srat::parse(b), Slit::parse(b));
            let _ = (Remapping::parse_dmar(b), Remapping::parse_ivrs(b));
        }
    }

    #[test]
    fn flipped_machine_never_panics(flips in prop::collection::vec((0usize..3000, any::<u8>()), 1..12), fix in any::<bool>()) {
        let mut m = machine(true);
        let keys: Vec<u64> = m.0.keys().copied().filter(|k| *k >= TABLES || (0xf_5a10..0xf_5a40).contains(k)).collect();
        for (i, v) in flips { m.0.insert(keys[i % keys.len()], v); }
        if fix {
            // Repair the checksums so that the damage reaches the parsers.
            if let Ok(t) = Tables::load(&m, Maddr::new(0xf_5a10)) {
                for t in t.list() {
                    let mut b = vec![0; t.len as usize];
                    if m.read(t.at, &mut b) { le::seal(&mut b, 9); m.put(t.at.raw(), &b); }
                }
            }
        }
        if let Ok(t) = Tables::load(&m, Maddr::new(0xf_5a10)) { parse_everything(&t, &m); }
    }
}
