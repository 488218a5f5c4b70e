//! Disks and interfaces of a domain, served by dom0's kernel (blkback, netback), or disks by `radon-block`. What scripts do
//! elsewhere is done here: loop devices, and the bridge.

use crate::builder;
use crate::config::{Backend, Disk, DiskId, Framebuffer, Mac, Nic, NicId};
use crate::error::{Error, Result};
use crate::nodes::{self, BlockNumber};
use crate::port;
use crate::task::{Progress, Step};
use crate::wait::{self, Patience};
use radon_linux::{link, loopdev};
use radon_store::client::{Tx, Xenstore};
use radon_xen::state::State;
use std::path::Path;
use std::time::Duration;

/// How long dom0's kernel may take to make a back end.
const BACKEND: Duration = Duration::from_secs(30);
/// How long a back end may take to close when nobody asks the guest.
const FORCED: Duration = Duration::from_secs(10);

/// Kinds of devices, as their back ends' directories are called.
pub const KINDS: [&str; 5] = ["vbd", "rdisk", "vif", "vfb", "vkbd"];

/// A disk appears in the domain.
pub fn attach_disk(
    store: &mut Xenstore,
    domid: u16,
    id: DiskId,
    disk: &Disk,
    progress: &mut dyn Progress,
) -> Result<()> {
    let file = |source| Error::File { path: disk.path.clone(), source };
    progress.at(Step::OpenDisk)?;
    if disk.backend == Backend::Radon {
        // Opened, and locked, by who serves it; here only so that a wrong path is found at once.
        std::fs::metadata(&disk.path).map_err(file)?;
        progress.at(Step::WriteDisk)?;
        let all = nodes::own_disk(domid, id, disk);
        store.transaction(|store, tx| builder::write(store, tx, &all))?;
        progress.at(Step::AwaitDisk)?;
        return await_backend(store, "rdisk", domid, id.number(), &id.to_string(), progress, || true);
    }
    let block = loopdev::block_number(&disk.path).map_err(file)?;
    // Kept open until the back end has it open too: then it stays for as long as that does.
    let (_loop, (major, minor)) = match block {
        Some(number) => (None, number),
        None => {
            let device = loopdev::LoopDevice::attach(&disk.path, disk.read_only).map_err(file)?;
            let number = device.number();
            (Some(device), number)
        }
    };
    progress.at(Step::WriteDisk)?;
    let all = nodes::disk(domid, id, disk, BlockNumber { major, minor });
    store.transaction(|store, tx| builder::write(store, tx, &all))?;
    progress.at(Step::AwaitDisk)?;
    let opened = format!("/sys/bus/xen-backend/devices/vbd-{domid}-{}/physical_device", id.number());
    await_backend(store, "vbd", domid, id.number(), &id.to_string(), progress, || Path::new(&opened).exists())
}

/// An interface appears in the domain, and its other end on the bridge.
pub fn attach_nic(
    store: &mut Xenstore,
    domid: u16,
    id: NicId,
    nic: &Nic,
    mac: Mac,
    progress: &mut dyn Progress,
) -> Result<()> {
    progress.at(Step::WriteNic)?;
    let bridge = match &nic.port {
        Some(port) => port::bridge(&port.network)?,
        None => nic.bridge.clone(),
    };
    let all = nodes::nic(domid, id, &bridge, mac);
    store.transaction(|store, tx| builder::write(store, tx, &all))?;
    progress.at(Step::AwaitNic)?;
    let interface = interface(domid, id);
    let made = || link::index(&interface).is_ok_and(|index| index.is_some());
    await_backend(store, "vif", domid, id.0, &id.to_string(), progress, made)?;
    progress.at(Step::JoinBridge)?;
    match &nic.port {
        Some(port) => port::connect(&interface, port, mac)?,
        None => link::join(&interface, &nic.bridge).map_err(|source| Error::Kernel {
            what: format!("put {interface} on the bridge {}", nic.bridge),
            source,
        })?,
    }
    let status = format!("{}/hotplug-status", nodes::backend_path("vif", domid, id.0));
    Ok(store.write(Tx::NONE, &status, "connected")?)
}

/// One of the two devices of a framebuffer ([`Config::screen`](crate::config::Config::screen)) appears in the domain.
pub fn attach_screen(
    store: &mut Xenstore,
    domid: u16,
    kind: &'static str,
    framebuffer: &Framebuffer,
    progress: &mut dyn Progress,
) -> Result<()> {
    progress.at(Step::WriteScreen)?;
    let nodes = if kind == "vfb" { nodes::framebuffer } else { nodes::keyboard };
    let all = nodes(domid, framebuffer);
    store.transaction(|store, tx| builder::write(store, tx, &all))?;
    progress.at(Step::AwaitScreen)?;
    await_backend(store, kind, domid, 0, kind, progress, || true)
}

/// dom0's end of an interface.
pub fn interface(domid: u16, id: NicId) -> String {
    format!("vif{domid}.{}", id.0)
}

fn await_backend(
    store: &mut Xenstore,
    kind: &str,
    domid: u16,
    id: u32,
    name: &str,
    progress: &dyn Progress,
    ready: impl Fn() -> bool,
) -> Result<()> {
    let back = nodes::backend_path(kind, domid, id);
    let complaint = format!("/local/domain/0/error/backend/{kind}/{domid}/{id}/error");
    let (who, what) = match kind {
        "rdisk" => (
            "radon-block",
            "take up the disk (does it run? cure: `radon-block serve`, or dom0's kernel as the disk's back end: docs/block.md)",
        ),
        "vfb" | "vkbd" => ("radon-vnc", "take up the framebuffer (does it run?)"),
        _ => ("dom0's kernel", "take up the device (is its back-end driver loaded?)"),
    };
    let patience = Patience { who, what, limit: BACKEND };
    wait::until(store, &format!("{back}/state"), patience, progress, |store| {
        let now = store.read(Tx::NONE, &format!("{back}/state"))?;
        match now.as_deref().map(|text| State::parse(Some(text))) {
            Some(Some(State::InitWait | State::Initialised | State::Connected)) if ready() => Ok(Some(())),
            Some(Some(State::Closing | State::Closed)) | None => {
                let message = store.read(Tx::NONE, &complaint)?.unwrap_or_else(|| "it closed".to_owned());
                Err(Error::Device { device: name.to_owned(), message })
            }
            _ => Ok(None),
        }
    })
}

/// How a device goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The guest is asked, and may take so long.
    Asked(Duration),
    /// Without the guest: its end is taken away first.
    Forced,
}

/// A device goes: back end closed, nodes removed, and with them the kernel's part (loop device, interface).
pub fn detach(
    store: &mut Xenstore,
    kind: &str,
    domid: u16,
    id: u32,
    removal: Removal,
    progress: &mut dyn Progress,
) -> Result<()> {
    let back = nodes::backend_path(kind, domid, id);
    let front = nodes::frontend_path(kind, domid, id);
    progress.at(Step::Detach)?;
    let there = store.transaction(|store, tx| {
        if removal == Removal::Forced {
            store.remove(tx, &front)?;
        }
        let now = store.read(tx, &format!("{back}/state"))?;
        if now.as_deref().is_some_and(|now| now != State::Closed.text()) {
            store.write(tx, &format!("{back}/online"), "0")?;
            store.write(tx, &format!("{back}/state"), State::Closing.text())?;
        }
        Ok(now.is_some())
    })?;
    if there {
        let (who, limit) = match removal {
            Removal::Asked(limit) => ("the guest", limit),
            Removal::Forced => ("its back end", FORCED),
        };
        let patience = Patience { who, what: "let go of the device (is it in use?)", limit };
        let closed = wait::until(store, &format!("{back}/state"), patience, progress, |store| {
            let now = store.read(Tx::NONE, &format!("{back}/state"))?;
            Ok(now.is_none_or(|now| now == State::Closed.text()).then_some(()))
        });
        match closed {
            // A back end that no driver ever took up does not close: its nodes go all the same.
            Err(Error::Timeout { .. }) if removal == Removal::Forced => {}
            result => result?,
        }
    }
    progress.at(Step::RemoveDevice)?;
    if kind == "vif" {
        // While the nodes are there: whoever is killed here finds the interface by them.
        port::disconnect(&interface(domid, NicId(id)))?;
    }
    store.transaction(|store, tx| {
        for path in [&back, &front, &nodes::note_path(kind, domid, id)] {
            store.remove(tx, path)?;
        }
        store.remove(tx, &format!("/local/domain/0/error/backend/{kind}/{domid}/{id}"))
    })?;
    Ok(())
}

/// Devices that a domain has, or had when something was cut short: (kind, number).
pub fn present(store: &mut Xenstore, domid: u16) -> Result<Vec<(&'static str, u32)>> {
    let mut found = Vec::new();
    for kind in KINDS {
        for place in [
            nodes::toolstack_path(domid) + "/device/" + kind,
            format!("/local/domain/0/backend/{kind}/{domid}"),
        ] {
            for id in store.list(Tx::NONE, &place)?.iter().filter_map(|id| id.parse().ok()) {
                if !found.contains(&(kind, id)) {
                    found.push((kind, id));
                }
            }
        }
    }
    Ok(found)
}
