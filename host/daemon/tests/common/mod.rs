//! A daemon in a folder of its own, on a machine without a hypervisor.

use radon_daemon::app::Places;
use radon_daemon::domains::Xen;
use radon_domain::config::Backend;
use std::path::Path;

/// Below that folder.
pub fn places(dir: &Path) -> Places {
    Places {
        state: dir.join("state"),
        kernels: dir.join("kernels"),
        networks: dir.join("networks"),
        consoles: dir.join("consoles"),
        framebuffers: dir.join("framebuffers"),
        disks: Backend::Radon,
    }
}

/// The layer of domains, with nothing below it.
pub fn xen(dir: &Path) -> Xen {
    Xen::new(dir.join("domains.redb"), dir.join("suspended"))
}
