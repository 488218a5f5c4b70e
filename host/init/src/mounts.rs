//! File systems that the kernel makes, and where.

use rustix::mount::{MountFlags, mount};
use std::fs;

/// Type, place, options. The kernel has mounted none of them.
const MOUNTS: &[(&str, &str, &str)] = &[
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", ""),
    ("devpts", "/dev/pts", ""),
    ("tmpfs", "/run", "mode=0755"),
    ("tmpfs", "/tmp", "mode=1777"),
];

/// Links that programs expect and udev would make.
const LINKS: &[(&str, &str)] =
    &[("/dev/fd", "/proc/self/fd"), ("/dev/stdin", "fd/0"), ("/dev/stdout", "fd/1"), ("/dev/stderr", "fd/2")];

/// Mounts one; what is wrong is told with its name.
pub fn one(kind: &str, source: &str, place: &str, flags: MountFlags, options: &str) -> Result<(), String> {
    fs::create_dir_all(place).map_err(|e| format!("{place}: {e}"))?;
    let options = std::ffi::CString::new(options).map_err(|e| format!("{place}: {e}"))?;
    mount(source, place, kind, flags, options.as_c_str())
        .map_err(|e| format!("{place} ({kind}, {source}): {e}"))
}

/// Mounts all; returns what did not succeed.
pub fn all() -> Vec<String> {
    let mut failed = Vec::new();
    for (kind, place, options) in MOUNTS {
        failed.extend(one(kind, kind, place, MountFlags::empty(), options).err());
    }
    for (link, to) in LINKS {
        if fs::symlink_metadata(link).is_err()
            && let Err(error) = std::os::unix::fs::symlink(to, link)
        {
            failed.push(format!("{link}: {error}"));
        }
    }
    failed
}
