//! Base address registers: their sizes and where they are.

use alloc::vec::Vec;

use crate::pages::Pages;
use crate::{ConfigAccess, Sbdf};

pub(crate) const COMMAND: u16 = 0x04;
pub(crate) const COMMAND_MEMORY: u32 = 1 << 1;
pub(crate) const FIRST_BAR: u16 = 0x10;

const BAR_IO: u32 = 1;
const BAR_TYPE: u32 = 6;
const BAR_64: u32 = 4;
const BAR_ADDRESS: u32 = !0xf;
pub(crate) const ROM_ENABLE: u32 = 1;
const ROM_ADDRESS: u32 = !0x7ff;

/// A memory BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bar {
    /// 0..=5: number of its (low) register.
    pub(crate) index: u8,
    pub(crate) address: u64,
    /// In bytes, a power of two.
    pub(crate) size: u64,
}

pub(crate) fn bar_register(index: u8) -> u16 {
    FIRST_BAR.wrapping_add(u16::from(index).wrapping_mul(4))
}

/// Sizes the memory BARs of a function whose memory decoding is off. Every register ends with the value it had.
pub(crate) fn memory_bars(hw: &mut dyn ConfigAccess, sbdf: Sbdf, count: u8) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut index = 0;
    while index < count {
        let register = bar_register(index);
        let low = hw.read(sbdf, register, 4);
        if low & BAR_IO != 0 {
            index += 1;
            continue;
        }
        let mask = u64::from(probe(hw, sbdf, register, low) & BAR_ADDRESS);
        let mut bar = Bar { index, address: u64::from(low & BAR_ADDRESS), size: mask };
        index += 1;
        if low & BAR_TYPE == BAR_64 && index < count {
            let register = bar_register(index);
            let high = hw.read(sbdf, register, 4);
            bar.address |= u64::from(high) << 32;
            bar.size |= u64::from(probe(hw, sbdf, register, high)) << 32;
            index += 1;
        }
        // The lowest writable bit.
        bar.size &= bar.size.wrapping_neg();
        if bar.size != 0 {
            bars.push(bar);
        }
    }
    bars
}

/// The writable bits of an address register.
fn probe(hw: &mut dyn ConfigAccess, sbdf: Sbdf, register: u16, value: u32) -> u32 {
    hw.write(sbdf, register, 4, u32::MAX);
    let mask = hw.read(sbdf, register, 4);
    hw.write(sbdf, register, 4, value);
    mask
}

/// Sizes the expansion ROM while it is disabled; its size in bytes, 0 when there is none.
pub(crate) fn rom_size(hw: &mut dyn ConfigAccess, sbdf: Sbdf, register: u16) -> u32 {
    let value = hw.read(sbdf, register, 4);
    hw.write(sbdf, register, 4, ROM_ADDRESS);
    let mask = hw.read(sbdf, register, 4) & ROM_ADDRESS;
    hw.write(sbdf, register, 4, value);
    mask & mask.wrapping_neg()
}

/// Pages of the expansion ROM when its register holds `value`.
pub(crate) fn rom_pages(value: u32, size: u32) -> Option<Pages> {
    if value & ROM_ENABLE == 0 {
        return None;
    }
    Pages::covering(u64::from(value & ROM_ADDRESS), u64::from(size))
}
