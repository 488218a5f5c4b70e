//! `HYPERVISOR_physdev_op` (33): what a PVH hardware domain tells of its PCI devices.
//!
//! Its interrupts come through its APICs (`XENFEAT_hvm_pirqs` is not offered), so everything about physical interrupts by
//! number is `-ENOSYS`, as Xen answers.

use radon_vpci::Sbdf;
use xen_abi::Errno;
use xen_abi::physdev::{
    PHYSDEVOP_DBGP_OP, PHYSDEVOP_PCI_DEVICE_ADD, PHYSDEVOP_PCI_DEVICE_REMOVE, PHYSDEVOP_PCI_MMCFG_RESERVED,
    PhysdevDbgpOp, PhysdevPciDevice, PhysdevPciDeviceAdd, PhysdevPciMmcfgReserved,
};

use super::{Caller, OK, Reply};
use crate::hardware;

/// `args`: sub-operation, pointer.
pub fn call(caller: &mut Caller<'_>, args: [u64; 6]) -> Reply {
    let [op, arg, ..] = args;
    if !caller.domain.config.hardware {
        return Err(Errno::ENOSYS);
    }
    match op as u32 {
        // The windows were taken from the MCFG table when dom0 was built.
        PHYSDEVOP_PCI_MMCFG_RESERVED => {
            let _: PhysdevPciMmcfgReserved = caller.read(arg)?;
            OK
        }
        PHYSDEVOP_PCI_DEVICE_ADD => {
            let d: PhysdevPciDeviceAdd = caller.read(arg)?;
            // Most have been found when dom0 was built; then there is nothing to do.
            hardware::pci_device_added(caller.domain, Sbdf::from_devfn(d.seg, d.bus, d.devfn));
            OK
        }
        PHYSDEVOP_PCI_DEVICE_REMOVE => {
            let d: PhysdevPciDevice = caller.read(arg)?;
            hardware::pci_device_removed(caller.domain, Sbdf::from_devfn(d.seg, d.bus, d.devfn));
            OK
        }
        // The hypervisor's console is on no EHCI debug port: resets of the controller do not matter.
        PHYSDEVOP_DBGP_OP => {
            let _: PhysdevDbgpOp = caller.read(arg)?;
            OK
        }
        _ => Err(Errno::ENOSYS),
    }
}
