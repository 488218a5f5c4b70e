extern crate std;
use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use radon_addr::Maddr;

use super::*;
use crate::MsiSlot;

struct Function {
    bytes: Vec<u8>,
    /// Bits that writes change.
    writable: Vec<u8>,
}

impl Function {
    fn new(vendor: u32, header: u8) -> Self {
        let mut function = Function { bytes: vec![0; 4096], writable: vec![0; 4096] };
        function.set(0, 4, vendor);
        function.bytes[0x0e] = header;
        function.allow(4, 2, 0x407);
        function
    }

    fn set(&mut self, at: usize, size: usize, value: u32) {
        self.bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }

    fn allow(&mut self, at: usize, size: usize, mask: u32) {
        self.writable[at..at + size].copy_from_slice(&mask.to_le_bytes()[..size]);
    }

    fn bar(&mut self, index: usize, low_bits: u32, size: u64, address: u64) {
        let at = 0x10 + 4 * index;
        let mask = !(size - 1);
        self.set(at, 4, address as u32 | low_bits);
        self.allow(at, 4, mask as u32 & !0xf);
        if low_bits & 4 != 0 {
            self.set(at + 4, 4, (address >> 32) as u32);
            self.allow(at + 4, 4, (mask >> 32) as u32);
        }
    }

    fn capabilities(&mut self, list: &[(usize, u8)]) {
        self.set(6, 2, 0x10);
        self.bytes[0x34] = list[0].0 as u8;
        for (i, &(at, id)) in list.iter().enumerate() {
            self.bytes[at] = id;
            self.bytes[at + 1] = list.get(i + 1).map_or(0, |next| next.0 as u8);
        }
    }
}

#[derive(Default)]
struct Fake(BTreeMap<Sbdf, Function>);

impl ConfigAccess for Fake {
    fn read(&mut self, sbdf: Sbdf, register: u16, size: u8) -> u32 {
        assert!(matches!(size, 1 | 2 | 4) && register.is_multiple_of(u16::from(size)));
        let Some(function) = self.0.get(&sbdf) else { return u32::MAX >> (32 - 8 * u32::from(size)) };
        let mut value = [0; 4];
        let at = usize::from(register);
        value[..usize::from(size)].copy_from_slice(&function.bytes[at..at + usize::from(size)]);
        u32::from_le_bytes(value)
    }

    fn write(&mut self, sbdf: Sbdf, register: u16, size: u8, value: u32) {
        assert!(matches!(size, 1 | 2 | 4) && register.is_multiple_of(u16::from(size)));
        let Some(function) = self.0.get_mut(&sbdf) else { return };
        for (i, new) in value.to_le_bytes()[..usize::from(size)].iter().enumerate() {
            let at = usize::from(register) + i;
            let mask = function.writable[at];
            function.bytes[at] = (function.bytes[at] & !mask) | (new & mask);
        }
    }
}

const HOST: Sbdf = Sbdf::new(0, 0, 0, 0);
const NIC: Sbdf = Sbdf::new(0, 0, 2, 0);
const SMALL_A: Sbdf = Sbdf::new(0, 0, 3, 0);
const SMALL_B: Sbdf = Sbdf::new(0, 0, 3, 1);
const BRIDGE: Sbdf = Sbdf::new(0, 0, 0x1c, 0);
const DISK: Sbdf = Sbdf::new(0, 1, 0, 0);

/// A NIC (MSI, MSI-X, decoding on), two functions that share a page, a bridge, and a disk behind it (64-bit BAR, MSI64, ROM).
fn machine() -> Fake {
    let mut nic = Function::new(0x10d3_8086, 0);
    nic.set(4, 2, 7);
    nic.bar(0, 0, 0x2_0000, 0xfeb8_0000);
    nic.bar(2, 1, 0x20, 0xc040);
    nic.bar(3, 0, 0x4000, 0xfebd_0000);
    nic.capabilities(&[(0x50, 5), (0x70, 0x11)]);
    nic.set(0x52, 2, 0x0001);
    nic.allow(0x52, 2, 0x0071);
    nic.allow(0x54, 4, !3);
    nic.allow(0x58, 2, 0xffff);
    nic.set(0x72, 2, 4);
    nic.allow(0x72, 2, 0xc000);
    nic.set(0x74, 4, 3 | 0x1000);
    nic.set(0x78, 4, 3 | 0x2000);

    let mut disk = Function::new(0x1001_1af4, 0);
    disk.bar(0, 0xc, 0x1_0000_0000, 0x8_0000_0000);
    disk.allow(0x30, 4, 0xffff_0001);
    disk.capabilities(&[(0x40, 9), (0x60, 5)]);
    disk.set(0x62, 2, 0x0180 | 6);
    disk.allow(0x62, 2, 0x0071);
    disk.allow(0x64, 4, !3);
    disk.allow(0x68, 4, !0);
    disk.allow(0x6c, 2, 0xffff);
    disk.allow(0x70, 4, 1);

    let mut small = [Function::new(0x1111_1234, 0x80), Function::new(0x1112_1234, 0x80)];
    small[0].bar(0, 0, 0x100, 0xfebf_1000);
    small[1].bar(0, 0, 0x100, 0xfebf_1100);
    let [small_a, small_b] = small;
    let functions = [
        (HOST, Function::new(0x29c0_8086, 0)),
        (NIC, nic),
        (SMALL_A, small_a),
        (SMALL_B, small_b),
        (BRIDGE, Function::new(0x3420_8086, 1)),
        (DISK, disk),
    ];
    Fake(functions.into_iter().collect())
}

struct Bench {
    hw: Fake,
    pci: VirtualPci,
}

impl Bench {
    fn new() -> (Self, Vec<Effect>) {
        let mut bench = Bench { hw: machine(), pci: VirtualPci::new() };
        bench.pci.add_ecam(Ecam { base: 0xb000_0000, segment: 0, first_bus: 0, last_bus: 255 });
        let mut effects = Vec::new();
        bench.pci.enumerate(&mut bench.hw, 0, 0..=255, &mut |effect| effects.push(effect));
        (bench, effects)
    }

    fn write(&mut self, sbdf: Sbdf, register: u16, size: u8, value: u32) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.pci.write(&mut self.hw, sbdf, register, size, value, &mut |effect| effects.push(effect));
        effects
    }

    fn read(&mut self, sbdf: Sbdf, register: u16, size: u8) -> u32 {
        self.pci.read(&mut self.hw, sbdf, register, size)
    }

    fn store(&mut self, address: u64, size: u8, value: u64) -> (MmioWrite, Vec<Effect>) {
        let mut effects = Vec::new();
        let done =
            self.pci.mmio_write(&mut self.hw, address, size, value, &mut |effect| effects.push(effect));
        (done, effects)
    }

    fn load(&mut self, address: u64, size: u8) -> MmioRead {
        self.pci.mmio_read(&mut self.hw, address, size)
    }
}

fn pages(address: u64, size: u64) -> Pages {
    Pages::covering(address, size).unwrap()
}

#[test]
fn enumeration() {
    let (mut bench, effects) = Bench::new();
    let found: Vec<Sbdf> = bench.pci.devices().collect();
    assert_eq!(found, [HOST, NIC, SMALL_A, SMALL_B, BRIDGE, DISK]);
    let expected = [
        Effect::Trap(pages(0xfebd_1000, 80)),
        Effect::Map(pages(0xfeb8_0000, 0x2_0000)),
        Effect::Map(pages(0xfebd_0000, 0x1000)),
        Effect::Map(pages(0xfebd_2000, 0x2000)),
    ];
    assert_eq!(effects, expected);
    // Sizing left everything as it was, and MSI is off.
    assert_eq!(bench.hw.read(NIC, 0x10, 4), 0xfeb8_0000);
    assert_eq!(bench.hw.read(NIC, 0x18, 4), 0xc041);
    assert_eq!(bench.hw.read(NIC, 4, 2), 7);
    assert_eq!(bench.hw.read(NIC, 0x52, 2), 0);
}

#[test]
fn ports() {
    let (mut bench, _) = Bench::new();
    assert!(VirtualPci::claims_port(0xcf8, 4) && VirtualPci::claims_port(0xcfe, 2));
    assert!(!VirtualPci::claims_port(0xcf9, 1) && !VirtualPci::claims_port(0xcf8, 1));
    let Bench { hw, pci } = &mut bench;
    let mut none = |effect| panic!("{effect:?}");
    assert_eq!(pci.port_read(hw, 0xcfc, 4), u32::MAX, "disabled");
    pci.port_write(hw, 0xcf8, 4, 0x8000_1000, &mut none);
    assert_eq!(pci.port_read(hw, 0xcf8, 4), 0x8000_1000);
    assert_eq!(pci.port_read(hw, 0xcfc, 4), 0x10d3_8086);
    assert_eq!(pci.port_read(hw, 0xcfe, 2), 0x10d3);
    assert_eq!(pci.port_read(hw, 0xcfe, 4), u32::MAX, "unaligned");
    pci.port_write(hw, 0xcf8, 4, 0x8000_103c, &mut none);
    hw.0.get_mut(&NIC).unwrap().allow(0x3c, 1, 0xff);
    pci.port_write(hw, 0xcfc, 1, 11, &mut none);
    assert_eq!(hw.read(NIC, 0x3c, 1), 11);
}

#[test]
fn ecam() {
    let (mut bench, _) = Bench::new();
    let nic = 0xb000_0000 + (2 << 15);
    assert!(bench.pci.claims_mmio(nic) && !bench.pci.claims_mmio(0xc000_0000));
    assert_eq!(bench.load(nic, 4), MmioRead::Value(0x10d3_8086));
    assert_eq!(bench.load(nic, 8), MmioRead::Value(0x0010_0007_10d3_8086));
    assert_eq!(bench.load(nic + 1, 2), MmioRead::Value(u64::MAX));
    assert_eq!(bench.load(0xb000_0000 + (1 << 20), 2), MmioRead::Value(0x1af4));
    assert_eq!(bench.load(0xb000_0000 + (9 << 20), 2), MmioRead::Value(0xffff));
    assert_eq!(bench.load(0xd000_0000, 4), MmioRead::Unclaimed);
    // Command off through the window.
    let (done, effects) = bench.store(nic + 4, 2, 0);
    assert_eq!(done, MmioWrite::Done);
    assert_eq!(
        effects,
        [Effect::Unmap(pages(0xfeb8_0000, 0x2_0000)), Effect::Unmap(pages(0xfebd_0000, 0x4000))]
    );
    assert!(!bench.pci.claims_mmio(0xfebd_1000));
}

fn msi(sbdf: Sbdf, active: bool, address: u64, data: u32) -> Effect {
    Effect::MsiUpdate { sbdf, slot: MsiSlot::Msi, active, masked: false, address, data }
}

#[test]
fn msi_is_virtual() {
    for (sbdf, at, data_at) in [(NIC, 0x50, 0x58), (DISK, 0x60, 0x6c)] {
        let (mut bench, _) = Bench::new();
        let control = bench.read(sbdf, at + 2, 2);
        assert_eq!(control & 0x7f, 0, "one message, off");
        assert_eq!(bench.write(sbdf, at + 4, 4, 0xfee0_1000), []);
        assert_eq!(bench.write(sbdf, data_at, 2, 0x4031), []);
        assert_eq!(bench.hw.read(sbdf, at + 4, 4), 0, "the machine does not see it");
        assert_eq!(bench.read(sbdf, at + 4, 4), 0xfee0_1000);
        assert_eq!(bench.write(sbdf, at + 2, 2, control | 1), [msi(sbdf, true, 0xfee0_1000, 0x4031)]);
        assert_eq!(bench.read(sbdf, at, 4) >> 16, control | 1);
        assert_eq!(bench.hw.read(sbdf, at + 2, 2) & 1, 0, "not before it is programmed");
        bench.pci.program_msi(&mut bench.hw, sbdf, 0xfee0_0000, 0x77);
        assert_eq!(bench.hw.read(sbdf, at + 2, 2) & 0x71, 1);
        assert_eq!(bench.hw.read(sbdf, at + 4, 4), 0xfee0_0000);
        assert_eq!(bench.hw.read(sbdf, data_at, 2), 0x77);
        assert_eq!(bench.read(sbdf, data_at, 2), 0x4031);
        // Another CPU; a byte write of the data.
        assert_eq!(bench.write(sbdf, at + 4, 4, 0xfee0_3000), [msi(sbdf, true, 0xfee0_3000, 0x4031)]);
        assert_eq!(bench.write(sbdf, data_at, 1, 0x42), [msi(sbdf, true, 0xfee0_3000, 0x4042)]);
        assert_eq!(bench.write(sbdf, at, 4, control << 16), [msi(sbdf, false, 0xfee0_3000, 0x4042)]);
        assert_eq!(bench.hw.read(sbdf, at + 2, 2) & 1, 0);
        bench.pci.program_msi(&mut bench.hw, sbdf, 0xfee0_0000, 0x77);
        assert_eq!(bench.hw.read(sbdf, at + 2, 2) & 1, 0, "stays off");
    }
    // The mask register passes through.
    let (mut bench, _) = Bench::new();
    assert_eq!(bench.write(DISK, 0x70, 4, 1), []);
    assert_eq!(bench.hw.read(DISK, 0x70, 4), 1);
}

const TABLE: u64 = 0xfebd_1000;

fn entry(index: u16, active: bool, masked: bool, address: u64, data: u32) -> Effect {
    let at = Maddr::new(TABLE + 16 * u64::from(index));
    let slot = MsiSlot::Msix { index, entry: Some(at) };
    Effect::MsiUpdate { sbdf: NIC, slot, active, masked, address, data }
}

#[test]
fn msix_as_linux_uses_it() {
    let (mut bench, _) = Bench::new();
    assert_eq!(bench.read(NIC, 0x72, 2), 4);
    assert_eq!(bench.write(NIC, 0x72, 2, 0xc000), []);
    assert_eq!(bench.hw.read(NIC, 0x72, 2), 0xc004);
    assert_eq!(bench.load(TABLE + 12, 4), MmioRead::Value(1), "masked after reset");
    for (field, value) in [(0, 0xfee0_2000), (4, 0), (8, 0x55)] {
        assert_eq!(bench.store(TABLE + 16 + field, 4, value), (MmioWrite::Done, vec![]));
    }
    assert_eq!(bench.store(TABLE + 28, 4, 0).1, [entry(1, true, false, 0xfee0_2000, 0x55)]);
    assert_eq!(bench.write(NIC, 0x72, 2, 0x8000), []);
    assert_eq!(bench.hw.read(NIC, 0x72, 2), 0x8004);
    // Moving it to another CPU.
    assert_eq!(bench.store(TABLE + 28, 4, 1).1, [entry(1, true, true, 0xfee0_2000, 0x55)]);
    assert_eq!(bench.store(TABLE + 16, 8, 0xfee0_4000).1, []);
    assert_eq!(bench.store(TABLE + 24, 8, 0x66).1, [entry(1, true, false, 0xfee0_4000, 0x66)]);
    assert_eq!(bench.load(TABLE + 16, 8), MmioRead::Value(0xfee0_4000));
    assert_eq!(bench.load(TABLE + 24, 8), MmioRead::Value(0x66));
    // Off: only the bound entry is released.
    assert_eq!(bench.write(NIC, 0x72, 2, 0), [entry(1, false, false, 0xfee0_4000, 0x66)]);
    assert_eq!(bench.write(NIC, 0x72, 2, 0x8000), [entry(1, true, false, 0xfee0_4000, 0x66)]);
}

#[test]
fn msix_table_page() {
    let (mut bench, _) = Bench::new();
    assert_eq!(bench.load(TABLE + 80, 4), MmioRead::Hardware, "after the table");
    assert_eq!(bench.store(TABLE + 0xff8, 8, 1), (MmioWrite::Hardware, vec![]));
    assert_eq!(bench.load(TABLE + 0x1000, 4), MmioRead::Unclaimed);
    assert_eq!(bench.load(TABLE + 1, 1), MmioRead::Value(u64::MAX));
    assert_eq!(bench.load(TABLE + 4, 8), MmioRead::Value(u64::MAX));
    bench.store(TABLE + 2, 2, 0x1234);
    assert_eq!(bench.load(TABLE, 4), MmioRead::Value(0));
    // It moves with its BAR.
    bench.write(NIC, 4, 2, 0);
    bench.write(NIC, 0x1c, 4, 0xe000_0000);
    let effects = bench.write(NIC, 4, 2, 2);
    assert!(effects.contains(&Effect::Trap(pages(0xe000_1000, 80))), "{effects:?}");
    assert!(effects.contains(&Effect::Map(pages(0xe000_0000, 0x1000))));
    assert!(bench.pci.claims_mmio(0xe000_1000));
}

#[test]
fn a_bar_that_moves_while_it_is_decoded_takes_its_pages_along() {
    let (mut bench, _) = Bench::new();
    let effects = bench.write(NIC, 0x10, 4, 0x8004_0000);
    assert_eq!(bench.read(NIC, 0x10, 4), 0x8004_0000);
    assert_eq!(bench.read(NIC, 4, 2), 7, "it goes on decoding");
    assert!(effects.contains(&Effect::Unmap(pages(0xfeb8_0000, 0x2_0000))), "{effects:?}");
    assert!(effects.contains(&Effect::Map(pages(0x8004_0000, 0x2_0000))), "{effects:?}");
    // The one with the MSI-X table: it is trapped where it is now, and not where it was.
    let effects = bench.write(NIC, 0x1c, 4, 0x8008_0000);
    assert!(effects.contains(&Effect::Trap(pages(0x8008_1000, 80))), "{effects:?}");
    assert!(bench.pci.claims_mmio(0x8008_1000) && !bench.pci.claims_mmio(0xfebd_1000));
    // Ports have no pages.
    assert_eq!(bench.write(NIC, 0x18, 4, 0xd041), []);
    assert_eq!(bench.hw.0[&NIC].bytes[0x18], 0x41);
    // Sized while it decodes, as some do: there and back.
    bench.write(NIC, 0x10, 4, !0);
    assert_eq!(bench.read(NIC, 0x10, 4), 0xfffe_0000);
    let effects = bench.write(NIC, 0x10, 4, 0x8004_0000);
    assert!(effects.contains(&Effect::Map(pages(0x8004_0000, 0x2_0000))), "{effects:?}");
}

#[test]
fn both_halves_of_a_wide_bar_move_while_it_is_decoded() {
    let (mut bench, _) = Bench::new();
    bench.write(DISK, 4, 2, 6);
    bench.write(DISK, 0x14, 4, 9);
    let effects = bench.write(DISK, 0x14, 4, 10);
    assert_eq!(
        effects,
        [
            Effect::Unmap(pages(0x9_0000_0000, 0x1_0000_0000)),
            Effect::Map(pages(0xa_0000_0000, 0x1_0000_0000))
        ]
    );
}

#[test]
fn wide_bars_and_roms() {
    let (mut bench, _) = Bench::new();
    assert_eq!(bench.write(DISK, 0x30, 4, 0xfe00_0001), []);
    let bar = Effect::Map(pages(0x8_0000_0000, 0x1_0000_0000));
    let rom = Effect::Map(pages(0xfe00_0000, 0x1_0000));
    assert_eq!(bench.write(DISK, 4, 2, 6), [bar, rom]);
    assert_eq!(bench.read(DISK, 0x30, 4), 0xfe00_0001);
    assert_eq!(bench.write(DISK, 0x30, 4, 0xfe00_0000), [Effect::Unmap(pages(0xfe00_0000, 0x1_0000))]);
    assert_eq!(bench.write(DISK, 0x30, 4, 0xfd00_0001), [Effect::Map(pages(0xfd00_0000, 0x1_0000))]);
}

#[test]
fn shared_pages_stay_mapped() {
    let (mut bench, _) = Bench::new();
    let page = pages(0xfebf_1000, 0x1000);
    assert_eq!(bench.write(SMALL_A, 4, 2, 2), [Effect::Map(page)]);
    assert_eq!(bench.write(SMALL_B, 4, 2, 2), [Effect::Map(page)]);
    assert_eq!(bench.write(SMALL_A, 4, 2, 0), []);
    assert_eq!(bench.write(SMALL_B, 4, 2, 0), [Effect::Unmap(page)]);
}

#[test]
fn restrictions() {
    let mut bench = Bench { hw: machine(), pci: VirtualPci::new() };
    bench.pci.restrict(NIC, Exposure::ReadOnly);
    bench.pci.restrict(SMALL_B, Exposure::Hidden);
    bench.pci.enumerate(&mut bench.hw, 0, 0..=1, &mut |effect| panic!("{effect:?}"));
    assert_eq!(bench.hw.read(NIC, 0x52, 2), 1, "not touched");
    assert_eq!(bench.read(NIC, 0, 4), 0x10d3_8086);
    assert_eq!(bench.write(NIC, 4, 2, 0), []);
    assert_eq!(bench.read(NIC, 4, 2), 7);
    assert_eq!(bench.read(SMALL_B, 0, 4), u32::MAX);
    assert_eq!(bench.read(SMALL_A, 0, 4), 0x1111_1234);
}

#[test]
fn removal_and_hotplug() {
    let (mut bench, _) = Bench::new();
    bench.write(NIC, 0x52, 2, 1);
    let mut effects = Vec::new();
    bench.pci.remove_device(&mut bench.hw, NIC, &mut |effect| effects.push(effect));
    assert_eq!(effects[0], msi(NIC, false, 0, 0));
    assert!(effects[1..].contains(&Effect::Unmap(pages(0xfeb8_0000, 0x2_0000))));
    let mut effects = Vec::new();
    assert!(bench.pci.add_device(&mut bench.hw, NIC, &mut |effect| effects.push(effect)));
    assert_eq!(effects.len(), 4);
    assert!(!bench.pci.add_device(&mut bench.hw, Sbdf::new(0, 9, 0, 0), &mut |_| ()));
}

#[test]
fn a_reset_device_is_restored() {
    let (mut bench, _) = Bench::new();
    bench.write(NIC, 0x72, 2, 0x8000);
    bench.store(TABLE + 12, 4, 0);
    // The device loses its configuration; dom0 writes it back: BARs, command, MSI-X entry.
    for register in [4, 0x10, 0x18, 0x1c] {
        bench.hw.write(NIC, register, 4, 0);
    }
    bench.write(NIC, 0x1c, 4, 0xfebd_0000);
    bench.write(NIC, 0x10, 4, 0xfeb8_0000);
    let effects = bench.write(NIC, 4, 2, 7);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Unmap(_))));
    assert_eq!(bench.store(TABLE + 12, 4, 0).1, [entry(0, true, false, 0, 0)]);
}

/// The pages dom0 has after a list of effects.
fn follow(map: &mut BTreeSet<u64>, effects: &[Effect]) {
    for effect in effects {
        let (Effect::Map(pages) | Effect::Unmap(pages) | Effect::Trap(pages)) = effect else { continue };
        for page in (pages.first().raw()..).take(pages.count() as usize) {
            if matches!(effect, Effect::Map(_)) {
                map.insert(page)
            } else {
                map.remove(&page)
            };
        }
    }
}

proptest! {
    #[test]
    fn any_access_keeps_the_map_right(
        accesses in prop::collection::vec(
            (0usize..4, prop_oneof![Just(4u16), 0x10u16..0x34, 0x50u16..0x84], 0u8..3, prop_oneof![any::<u32>(), Just(2), Just(0)]),
            0..60,
        ),
    ) {
        let (mut bench, effects) = Bench::new();
        // A ROM or BAR of 4 GiB makes the page sets of this test too large.
        let functions = [NIC, SMALL_A, SMALL_B, BRIDGE];
        let mut map = BTreeSet::new();
        follow(&mut map, &effects);
        for (function, register, size, value) in accesses {
            let size = 1 << size;
            let sbdf = functions[function];
            let effects = bench.write(sbdf, register, size, value);
            bench.read(sbdf, register, size);
            for effect in &effects {
                if let Effect::MsiUpdate { sbdf: from, .. } = effect {
                    prop_assert_eq!(*from, sbdf);
                }
            }
            follow(&mut map, &effects);
            // The naive model: what the machine decodes.
            let mut decoded = BTreeSet::new();
            let mut trapped = BTreeSet::new();
            for (sbdf, bar, size) in
                [(NIC, 0x10, 0x2_0000u64), (NIC, 0x1c, 0x4000), (SMALL_A, 0x10, 0x100), (SMALL_B, 0x10, 0x100)]
            {
                let address = u64::from(bench.hw.read(sbdf, bar, 4) & !0xf);
                if bench.hw.read(sbdf, 4, 2) & 2 == 0 || address == 0 {
                    continue;
                }
                decoded.extend(address >> 12..=(address + size - 1) >> 12);
                if bar == 0x1c {
                    trapped.insert((address >> 12) + 1);
                }
            }
            let expected: BTreeSet<u64> = decoded.difference(&trapped).copied().collect();
            prop_assert_eq!(&map, &expected);
        }
    }
}
