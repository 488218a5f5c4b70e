//! PCI configuration space as dom0 writes it, over devices that answer anything.

use std::collections::BTreeMap;

use radon_vpci::{ConfigAccess, Ecam, Sbdf, VirtualPci};

use crate::random::source::Source;

const DEVICES: [Sbdf; 3] = [Sbdf::new(0, 0, 0, 0), Sbdf::new(0, 0, 2, 0), Sbdf::new(0, 1, 0, 0)];
const STEPS: u32 = 512;
const ECAM: u64 = 0xb000_0000;

/// A machine whose registers keep what is written, under a mask.
struct Machine(BTreeMap<Sbdf, [u8; 256]>);

impl ConfigAccess for Machine {
    fn read(&mut self, sbdf: Sbdf, register: u16, size: u8) -> u32 {
        assert!(matches!(size, 1 | 2 | 4) && register.is_multiple_of(size.into()), "{register:#x} {size}");
        let Some(space) = self.0.get(&sbdf) else { return u32::MAX >> (32 - 8 * u32::from(size)) };
        let byte = |i: u8| u32::from(*space.get(usize::from(register) + usize::from(i)).unwrap_or(&0));
        (0..size).rev().fold(0, |v, i| v << 8 | byte(i))
    }
    fn write(&mut self, sbdf: Sbdf, register: u16, size: u8, value: u32) {
        assert!(matches!(size, 1 | 2 | 4) && register.is_multiple_of(size.into()), "{register:#x} {size}");
        let Some(space) = self.0.get_mut(&sbdf) else { return };
        for (i, byte) in (0..size).zip(value.to_le_bytes()) {
            let at = usize::from(register) + usize::from(i);
            // Identity and capability headers are fixed.
            if at >= 4
                && !(8..16).contains(&at)
                && let Some(b) = space.get_mut(at)
            {
                *b = byte;
            }
        }
    }
}

pub fn run(data: &[u8]) {
    let s = &mut Source::of_bytes(data);
    let mut hw = Machine(BTreeMap::new());
    for sbdf in DEVICES {
        let mut space = [0u8; 256];
        space[0..4].copy_from_slice(&[0x86, 0x80, 0x34, 0x12]);
        space[6] = 0x10;
        space[0x0e] = s.pick(&[0, 0, 1, 0x80, 2]);
        space[0x34] = s.pick(&[0x40, 0x50, 0xfc, 0, 0x41]);
        for _ in 0..s.below(12) {
            let at = s.below(0xf0) as usize + 0x10;
            let any = s.word() as u8;
            space[at] = s.pick(&[5, 0x11, 0x40, 0x50, 0x60, any]);
        }
        hw.0.insert(sbdf, space);
    }
    let mut effects = |_| ();
    let mut pci = VirtualPci::new();
    pci.add_ecam(Ecam { base: ECAM, segment: 0, first_bus: 0, last_bus: 1 });
    pci.enumerate(&mut hw, 0, 0..=1, &mut effects);
    for _ in 0..STEPS {
        if s.done() {
            break;
        }
        let sbdf = if s.chance(95) {
            s.pick(&DEVICES)
        } else {
            Sbdf::from_devfn(s.word() as u16, s.word() as u8, s.word() as u8)
        };
        let register = if s.chance(90) { s.below(256) } else { s.below(4096) } as u16;
        let size = s.pick(&[1, 2, 4]);
        let value = s.odd_word();
        match s.below(10) {
            0 => drop(pci.read(&mut hw, sbdf, register & !(u16::from(size) - 1), size)),
            1..=3 => {
                pci.write(&mut hw, sbdf, register & !(u16::from(size) - 1), size, value as u32, &mut effects)
            }
            4 => pci.port_write(&mut hw, 0xcf8, 4, 1 << 31 | (value as u32 & 0x1_ffff), &mut effects),
            5 => pci.port_write(&mut hw, 0xcfc + register % 4, size, value as u32, &mut effects),
            6 => drop(pci.port_read(&mut hw, 0xcf8 + register % 8, size)),
            7 | 8 => {
                let at = if s.chance(70) { ECAM + s.below(1 << 21) } else { value };
                let size = s.pick(&[1, 2, 4, 8]);
                let _ = pci.mmio_read(&mut hw, at, size);
                let _ = pci.mmio_write(&mut hw, at, size, s.odd_word(), &mut effects);
            }
            _ if s.chance(50) => pci.remove_device(&mut hw, sbdf, &mut effects),
            _ => drop(pci.add_device(&mut hw, sbdf, &mut effects)),
        }
    }
    for sbdf in DEVICES {
        pci.remove_device(&mut hw, sbdf, &mut effects);
    }
    assert_eq!(pci.devices().count(), 0);
}
