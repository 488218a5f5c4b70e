//! Where things are: the workspace, the build directory, the caches under it.

use std::path::{Path, PathBuf};

/// Root of the workspace (the folder that holds the root `Cargo.toml`).
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Cargo's build directory: `CARGO_TARGET_DIR`, or `target` in the workspace.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => std::path::absolute(&dir).unwrap_or_else(|_| dir.into()),
        None => root().join("target"),
    }
}

/// Fetched packages and everything made from them.
pub fn cache() -> PathBuf {
    target().join("cache")
}

/// One file per emulated machine that was run: its whole serial output.
pub fn logs() -> PathBuf {
    target().join("logs")
}

/// Scripts and configuration that `xtask` puts into the images it makes.
pub fn assets() -> PathBuf {
    root().join("xtask")
}

/// The whole-system scenarios: shell scripts that run inside dom0.
pub fn scenarios() -> PathBuf {
    root().join("tests/system")
}
