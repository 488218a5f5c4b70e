//! The store's nodes of a domain and of its devices, as libxl of Xen 4.17 writes them, so that kernels, `xenconsoled` and
//! `xl` find what they look for. Pure: what is to be written, not the writing.
//!
//! Three places belong to a VM: `/local/domain/N` (the guest reads it), `/vm/UUID`, `/libxl/N` (the toolstack's own). A device
//! has a directory of its front end below the first, one of its back end below `/local/domain/0/backend`, and one below the
//! last. A directory is written after its parent; nodes without permissions of their own inherit.

use crate::config::{Config, Disk, DiskId, Framebuffer, Mac, NicId};
use crate::layout::SPECIAL;
use crate::uuid::Uuid;
use radon_store::perm::{Access, Perm};
use radon_xen::state::State;

/// dom0, where back ends and daemons live.
const DOM0: u16 = 0;
/// `XenbusStateInitialising` (`io/xenbus.h`).
const INITIALISING: &str = State::Initialising.text();
/// Who serves framebuffers that are made here, as their directories say: what `xl` makes is qemu's.
pub const VNC: &str = "radon-vnc";

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where.
    pub path: String,
    /// What it holds.
    pub value: String,
    /// Who may do what, if not as with its parent.
    pub perms: Option<Vec<Perm>>,
}

fn node(path: String, value: impl Into<String>) -> Node {
    Node { path, value: value.into(), perms: None }
}

fn with(path: String, value: &str, perms: &[Perm]) -> Node {
    Node { path, value: value.to_owned(), perms: Some(perms.to_vec()) }
}

/// The guest's directory.
pub fn domain_path(domid: u16) -> String {
    format!("/local/domain/{domid}")
}

/// The VM's directory, which a reboot does not change.
pub fn vm_path(uuid: Uuid) -> String {
    format!("/vm/{uuid}")
}

/// The toolstack's directory.
pub fn toolstack_path(domid: u16) -> String {
    format!("/libxl/{domid}")
}

/// Event channels that a domain is born with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The store's.
    pub store: u32,
    /// The console's.
    pub console: u32,
}

/// Everything about a domain but its devices.
pub fn domain(domid: u16, uuid: Uuid, config: &Config, ports: Ports) -> Vec<Node> {
    let none = [Perm::new(DOM0, Access::NONE)];
    let reads = [Perm::new(DOM0, Access::NONE), Perm::new(domid, Access::READ)];
    let owns = [Perm::new(domid, Access::NONE)];
    let (dom, vm, tool) = (domain_path(domid), vm_path(uuid), toolstack_path(domid));
    let mut all = vec![
        with(dom.clone(), "", &reads),
        with(vm.clone(), "", &reads),
        with(tool.clone(), "", &none),
        with(format!("{tool}/device"), "", &none),
        node(format!("{tool}/type"), "pvh"),
        node(format!("{dom}/vm"), vm.clone()),
        node(format!("{dom}/name"), config.name.as_str()),
    ];
    for name in ["cpu", "memory", "device", "control"] {
        all.push(with(format!("{dom}/{name}"), "", &reads));
    }
    for name in [
        "device/suspend/event-channel",
        "control/shutdown",
        "control/feature-poweroff",
        "control/feature-reboot",
        "control/feature-suspend",
        "control/sysrq",
        "data",
        "drivers",
        "feature",
        "attr",
        "error",
    ] {
        all.push(with(format!("{dom}/{name}"), "", &owns));
    }
    all.extend([
        node(format!("{vm}/uuid"), uuid.to_string()),
        node(format!("{vm}/name"), config.name.as_str()),
        node(format!("{dom}/control/platform-feature-multiprocessor-suspend"), "1"),
        node(format!("{dom}/control/platform-feature-xs_reset_watches"), "1"),
        node(format!("{dom}/memory/static-max"), config.memory_max.get().to_string()),
        node(format!("{dom}/memory/target"), config.memory.get().to_string()),
        node(format!("{dom}/memory/videoram"), "0"),
        node(format!("{dom}/domid"), domid.to_string()),
        node(format!("{dom}/store/port"), ports.store.to_string()),
        node(format!("{dom}/store/ring-ref"), SPECIAL.store.to_string()),
    ]);
    for vcpu in 0..config.vcpus_max {
        all.push(availability(domid, vcpu, vcpu < config.vcpus));
    }
    all.extend(console(domid, ports.console));
    all
}

/// Whether the guest is to use a vCPU.
pub fn availability(domid: u16, vcpu: u32, online: bool) -> Node {
    node(format!("{}/cpu/{vcpu}/availability", domain_path(domid)), if online { "online" } else { "offline" })
}

/// The guest's console, as `xenconsoled` serves it.
fn console(domid: u16, port: u32) -> Vec<Node> {
    let reads = [Perm::new(DOM0, Access::NONE), Perm::new(domid, Access::READ)];
    let owns = [Perm::new(domid, Access::NONE), Perm::new(DOM0, Access::READ)];
    let front = format!("{}/console", domain_path(domid));
    let back = backend_path("console", domid, 0);
    let tool = format!("{}/device/console/0", toolstack_path(domid));
    let mut all = vec![
        with(front.clone(), "", &reads),
        node(format!("{front}/backend"), back.clone()),
        with(format!("{front}/backend-id"), "0", &owns),
    ];
    for (name, value) in [
        ("limit", "1048576".to_owned()),
        ("type", "xenconsoled".to_owned()),
        ("output", "pty".to_owned()),
        ("tty", String::new()),
        ("port", port.to_string()),
        ("ring-ref", SPECIAL.console.to_string()),
    ] {
        all.push(with(format!("{front}/{name}"), &value, &reads));
    }
    let state = [
        ("frontend-id", &*domid.to_string()),
        ("online", "1"),
        ("state", INITIALISING),
        ("protocol", "vt100"),
    ]
    .map(|(k, v)| (k, v.to_owned()));
    all.extend(backend(&back, &front, &tool, domid, &state));
    all
}

/// Where a device's back end is.
pub fn backend_path(kind: &str, domid: u16, id: u32) -> String {
    format!("/local/domain/0/backend/{kind}/{domid}/{id}")
}

/// Where a device's front end is: a disk's is the same whoever serves it.
pub fn frontend_path(kind: &str, domid: u16, id: u32) -> String {
    let kind = if kind == "rdisk" { "vbd" } else { kind };
    format!("{}/device/{kind}/{id}", domain_path(domid))
}

/// Where the toolstack notes a device.
pub fn note_path(kind: &str, domid: u16, id: u32) -> String {
    format!("{}/device/{kind}/{id}", toolstack_path(domid))
}

/// Back end and toolstack's note of a device.
fn backend(back: &str, front: &str, tool: &str, domid: u16, entries: &[(&str, String)]) -> Vec<Node> {
    let reads = [Perm::new(DOM0, Access::NONE), Perm::new(domid, Access::READ)];
    let mut all = vec![
        node(format!("{tool}/frontend"), front),
        node(format!("{tool}/backend"), back),
        with(back.to_owned(), "", &reads),
        node(format!("{back}/frontend"), front),
    ];
    all.extend(entries.iter().map(|(k, v)| node(format!("{back}/{k}"), v.as_str())));
    all.extend(entries.iter().map(|(k, v)| node(format!("{tool}/{k}"), v.as_str())));
    all
}

fn device(
    kind: &str,
    domid: u16,
    id: u32,
    front_entries: &[(&str, String)],
    back_entries: &[(&str, String)],
) -> Vec<Node> {
    let owns = [Perm::new(domid, Access::NONE), Perm::new(DOM0, Access::READ)];
    let front = frontend_path(kind, domid, id);
    let back = backend_path(kind, domid, id);
    let mut all = vec![with(front.clone(), "", &owns), node(format!("{front}/backend"), back.clone())];
    let common = [("backend-id", "0".to_owned()), ("state", INITIALISING.to_owned())];
    all.extend(common.iter().chain(front_entries).map(|(k, v)| with(format!("{front}/{k}"), v, &owns)));
    let mut entries = vec![
        ("frontend-id", domid.to_string()),
        ("online", "1".to_owned()),
        ("state", INITIALISING.to_owned()),
    ];
    entries.extend_from_slice(back_entries);
    all.extend(backend(&back, &front, &note_path(kind, domid, id), domid, &entries));
    all
}

/// A block device's major and minor number, as blkback reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockNumber {
    /// Driver.
    pub major: u32,
    /// Device.
    pub minor: u32,
}

/// A disk, served by dom0's kernel from a block device.
pub fn disk(domid: u16, id: DiskId, disk: &Disk, number: BlockNumber) -> Vec<Node> {
    let mut back = disk_entries(id, disk, "phy");
    back.push(("physical-device", format!("{:x}:{:x}", number.major, number.minor)));
    device("vbd", domid, id.number(), &disk_front(id), &back)
}

/// A disk, served by `radon-block` from a file or block device.
pub fn own_disk(domid: u16, id: DiskId, disk: &Disk) -> Vec<Node> {
    device("rdisk", domid, id.number(), &disk_front(id), &disk_entries(id, disk, "file"))
}

fn disk_front(id: DiskId) -> [(&'static str, String); 3] {
    [
        ("virtual-device", id.number().to_string()),
        ("device-type", "disk".to_owned()),
        ("trusted", "1".to_owned()),
    ]
}

fn disk_entries(id: DiskId, disk: &Disk, kind: &str) -> Vec<(&'static str, String)> {
    vec![
        ("removable", "0".to_owned()),
        ("bootable", "1".to_owned()),
        ("dev", id.to_string()),
        ("type", kind.to_owned()),
        ("mode", if disk.read_only { "r" } else { "w" }.to_owned()),
        ("device-type", "disk".to_owned()),
        ("discard-enable", "1".to_owned()),
        ("params", disk.path.display().to_string()),
    ]
}

/// A network interface, served by dom0's kernel.
pub fn nic(domid: u16, id: NicId, bridge: &str, mac: Mac) -> Vec<Node> {
    let front = [("handle", id.0.to_string()), ("mac", mac.to_string()), ("trusted", "1".to_owned())];
    let back = [
        // The kernel insists on a name; nobody runs it.
        ("script", "/bin/true".to_owned()),
        ("mac", mac.to_string()),
        ("bridge", bridge.to_owned()),
        ("handle", id.0.to_string()),
        ("type", "vif".to_owned()),
        ("hotplug-status", String::new()),
    ];
    device("vif", domid, id.0, &front, &back)
}

/// A framebuffer, served by `radon-vnc`. Linux reads the size and what the pointer can do when it finds the device.
pub fn framebuffer(domid: u16, framebuffer: &Framebuffer) -> Vec<Node> {
    let size = size(framebuffer);
    // MiB, rounded up: Linux takes no more than that, nor than its own `xen_fbfront.video`.
    let bytes = 4 * u32::from(framebuffer.width) * u32::from(framebuffer.height);
    let own = [("server", VNC.to_owned()), ("videoram", bytes.div_ceil(1 << 20).to_string())];
    device("vfb", domid, 0, &[], &[&own[..], &size].concat())
}

/// The keyboard and the pointer that belong to a framebuffer.
pub fn keyboard(domid: u16, framebuffer: &Framebuffer) -> Vec<Node> {
    let own = [
        ("server", VNC.to_owned()),
        ("feature-abs-pointer", "1".to_owned()),
        ("feature-raw-pointer", "1".to_owned()),
    ];
    device("vkbd", domid, 0, &[], &[&own[..], &size(framebuffer)].concat())
}

fn size(framebuffer: &Framebuffer) -> [(&'static str, String); 2] {
    [("width", framebuffer.width.to_string()), ("height", framebuffer.height.to_string())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Backend;
    use std::collections::BTreeMap;

    fn find<'a>(all: &'a [Node], path: &str) -> &'a Node {
        all.iter().find(|n| n.path == path).unwrap_or_else(|| panic!("no {path}"))
    }

    fn config() -> Config {
        let mut config = Config::new("a", "/k".into());
        (config.vcpus, config.vcpus_max) = (1, 3);
        config
    }

    #[test]
    fn no_node_is_written_twice_and_parents_with_permissions_come_first() {
        let uuid = Uuid::from_bytes([7; 16]);
        let mut all = domain(5, uuid, &config(), Ports { store: 1, console: 2 });
        let d = Disk { path: "/d".into(), read_only: false, backend: Backend::Kernel };
        all.extend(disk(5, "xvda".parse().unwrap(), &d, BlockNumber { major: 7, minor: 1 }));
        all.extend(nic(5, NicId(0), "b", Mac::xen([0; 3])));
        all.extend(framebuffer(5, &Framebuffer::default()));
        all.extend(keyboard(5, &Framebuffer::default()));
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for (at, n) in all.iter().enumerate() {
            assert_eq!(seen.insert(&n.path, at), None, "{} twice", n.path);
        }
        for (at, n) in all.iter().enumerate() {
            let mut path = n.path.as_str();
            while let Some((parent, _)) = path.rsplit_once('/') {
                if let Some(p) = seen.get(parent) {
                    assert!(*p < at, "{} before its parent", n.path);
                }
                path = parent;
            }
        }
    }

    #[test]
    fn what_the_guest_may_write_is_only_what_it_has_to() {
        let uuid = Uuid::from_bytes([7; 16]);
        let all = domain(5, uuid, &config(), Ports { store: 1, console: 2 });
        let owned: Vec<&str> = all
            .iter()
            .filter(|n| n.perms.as_ref().is_some_and(|p| p[0].domid.0 == 5))
            .map(|n| n.path.trim_start_matches("/local/domain/5/"))
            .collect();
        assert_eq!(
            owned,
            [
                "device/suspend/event-channel",
                "control/shutdown",
                "control/feature-poweroff",
                "control/feature-reboot",
                "control/feature-suspend",
                "control/sysrq",
                "data",
                "drivers",
                "feature",
                "attr",
                "error",
                "console/backend-id"
            ]
        );
        assert_eq!(find(&all, "/local/domain/5/cpu/0/availability").value, "online");
        assert_eq!(find(&all, "/local/domain/5/cpu/2/availability").value, "offline");
        assert_eq!(find(&all, "/local/domain/5/store/ring-ref").value, "1044476");
    }

    #[test]
    fn a_framebuffer_as_linux_reads_it() {
        let large = Framebuffer { width: 1024, height: 768 };
        let all = [framebuffer(5, &large), keyboard(5, &large)].concat();
        let back =
            |kind, name| find(&all, &format!("/local/domain/0/backend/{kind}/5/0/{name}")).value.as_str();
        assert_eq!(
            (back("vfb", "videoram"), back("vfb", "width"), back("vkbd", "height")),
            ("3", "1024", "768")
        );
        assert_eq!((back("vfb", "server"), back("vkbd", "server")), (VNC, VNC));
        assert_eq!(
            find(&all, "/local/domain/5/device/vkbd/0/backend").value,
            "/local/domain/0/backend/vkbd/5/0"
        );
        assert_eq!(find(&all, "/libxl/5/device/vfb/0/frontend").value, "/local/domain/5/device/vfb/0");
    }

    #[test]
    fn a_disk_as_blkback_reads_it() {
        let d = Disk { path: "/dev/x".into(), read_only: true, backend: Backend::Kernel };
        let all = disk(5, "xvdb".parse().unwrap(), &d, BlockNumber { major: 7, minor: 31 });
        let back = "/local/domain/0/backend/vbd/5/51728";
        assert_eq!(find(&all, &format!("{back}/physical-device")).value, "7:1f");
        assert_eq!(find(&all, &format!("{back}/mode")).value, "r");
        assert_eq!(find(&all, "/local/domain/5/device/vbd/51728/backend").value, back);
        assert_eq!(find(&all, "/libxl/5/device/vbd/51728/backend").value, back);
        let all = own_disk(5, "xvdb".parse().unwrap(), &d);
        let back = "/local/domain/0/backend/rdisk/5/51728";
        assert_eq!(find(&all, &format!("{back}/frontend")).value, "/local/domain/5/device/vbd/51728");
        assert_eq!(find(&all, &format!("{back}/params")).value, "/dev/x");
        assert_eq!(find(&all, "/local/domain/5/device/vbd/51728/backend").value, back);
    }
}
