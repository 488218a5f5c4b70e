//! The warning about DMA without an IOMMU: dom0's own RAM is 1:1, guests' pages are not.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use radon_hw::console;
use radon_vpci::Sbdf;

use crate::domain::Domain;
use crate::hardware;

/// Devices named in the warning; the rest is counted.
const NAMED: usize = 8;

/// What a device of this class code moves by itself in memory; `None` for those that are only spoken to: bridges, memory,
/// serial ports, system peripherals, input, processors, SMBus.
fn bus_master(class: u32) -> Option<&'static str> {
    Some(match (class >> 16 & 0xff, class >> 8 & 0xff) {
        (0x01, _) => "storage",
        (0x02, _) => "network",
        (0x03, _) => "display",
        (0x04, _) => "multimedia",
        (0x0c, 0x00) => "FireWire",
        (0x0c, 0x03) => "USB",
        (0x0c, 0x05 | 0x07) | (0x05..=0x0b, _) => return None,
        (0x0d, _) => "wireless network",
        (0x10, _) => "encryption",
        (0x12 | 0x40, _) => "accelerator",
        _ => "other",
    })
}

/// Will the kernel with these arguments copy all DMA through buffers of its own?
pub fn copies_all_dma(kernel_args: &str) -> bool {
    let values = kernel_args.split_ascii_whitespace().filter_map(|word| word.strip_prefix("swiotlb="));
    // Linux remembers a `force` of any of them.
    values.flat_map(|value| value.split(',')).any(|item| item == "force")
}

/// The devices as lines, at most [`NAMED`].
fn lines(devices: &[(Sbdf, &str)]) -> Vec<String> {
    let mut lines: Vec<String> =
        devices.iter().take(NAMED).map(|(sbdf, kind)| alloc::format!("  {sbdf} {kind}")).collect();
    if let Some(more) = devices.len().checked_sub(NAMED).filter(|more| *more > 0) {
        lines.push(alloc::format!("  and {more} more"));
    }
    lines
}

/// Says, loudly, what must not be done with dom0's devices, unless dom0's kernel was told to copy.
pub fn warn(domain: &Arc<Domain>, kernel_args: &str) {
    let devices: Vec<(Sbdf, &str)> = hardware::pci_classes(domain)
        .into_iter()
        .filter_map(|(sbdf, class)| bus_master(class).map(|kind| (sbdf, kind)))
        .collect();
    if devices.is_empty() {
        return;
    }
    if copies_all_dma(kernel_args) {
        radon_hw::info!(
            "dom0: {} DMA devices and no IOMMU; its kernel copies all DMA (swiotlb=force)",
            devices.len()
        );
        return;
    }
    let list = lines(&devices).join("\n");
    console::print(format_args!(
        "***************************************************\n\
         WARNING: no IOMMU is in use, but {} of dom0's devices use DMA:\n{list}\n\
         dom0's own memory is 1:1, but pages of guests are NOT where these devices would look\n\
         for them. A back end in dom0 that hands a guest's page straight to a device (blkback on\n\
         a physical disk, netback bridged to a physical card) lets it read or write OTHER memory.\n\
         Cure: add \"swiotlb=force\" to the arguments of dom0's kernel, so that all DMA is copied;\n\
         or give guests only files and networks that stay inside dom0.\n\
         ***************************************************\n",
        devices.len()
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_are_only_spoken_to_are_left_out() {
        for (class, kind) in [
            (0x01_06_01, Some("storage")),
            (0x01_08_02, Some("storage")),
            (0x02_00_00, Some("network")),
            (0x0c_03_30, Some("USB")),
            (0x00_ff_00, Some("other")),
            (0xff_00_00, Some("other")),
            (0x06_01_00, None),
            (0x06_04_00, None),
            (0x08_06_00, None),
            (0x07_00_02, None),
            (0x0c_05_00, None),
        ] {
            assert_eq!(bus_master(class), kind, "{class:#08x}");
        }
    }

    #[test]
    fn only_force_copies_everything() {
        for (args, copies) in [
            ("console=hvc0 swiotlb=force", true),
            ("swiotlb=65536,force quiet", true),
            ("swiotlb=32768,2,force swiotlb=noforce", true),
            ("", false),
            ("swiotlb=65536", false),
            ("swiotlb=noforce", false),
            ("xswiotlb=force", false),
        ] {
            assert_eq!(copies_all_dma(args), copies, "{args}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let all: Vec<_> = (0..10).map(|d| (Sbdf::new(0, 0, d, 0), "network")).collect();
        assert_eq!(lines(&all[..NAMED]).len(), NAMED);
        let cut = lines(&all);
        assert_eq!(cut.len(), NAMED + 1);
        assert_eq!(cut[NAMED], "  and 2 more");
    }
}
