//! `radon-volume nbd`: serves volumes as network block devices.

use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use radon_nbd::{Export, Server};
use rustix::fs::Mode;
use rustix::process::umask;
use serde_json::json;

use super::Error;
use crate::Repository;

/// Arguments of `nbd`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which; clients see them under these words
    #[arg(required = true)]
    volumes: Vec<String>,
    /// Serve at this Unix socket (only its owner can connect)
    #[arg(long, required_unless_present = "listen")]
    socket: Option<PathBuf>,
    /// Serve at this TCP address and port (anybody who reaches it can connect)
    #[arg(long, conflicts_with = "socket")]
    listen: Option<String>,
    /// Clients may write; a virtual machine must not have the volume open at the same time
    #[arg(long)]
    writable: bool,
    /// Tell clients what changed since this snapshot, as metadata context `x-radon:changed`
    #[arg(long, conflicts_with = "writable")]
    since: Option<String>,
    /// End after so many clients have come and gone
    #[arg(long)]
    clients: Option<usize>,
}

/// Serves until it is ended.
pub fn run(repository: &Repository, args: &Args, json: bool) -> Result<(), Error> {
    let since = args.since.as_deref().map(|s| repository.find(s)).transpose()?;
    let mut exports = Vec::new();
    for name in &args.volumes {
        let volume = repository.find(name)?;
        let (device, changed) = match &since {
            Some(since) => {
                let (disk, changed) = repository.open_frozen_since(since.id, volume.id)?;
                (disk, Some(changed))
            }
            None if args.writable => (repository.open_volume(volume.id)?, None),
            None => (repository.open_frozen(volume.id)?, None),
        };
        exports.push(Export { name: name.clone(), device: Box::new(device), changed });
    }
    let server = Server::new(exports);
    let goes_on = |count: usize| args.clients.is_none_or(|c| count < c);
    if let Some(path) = &args.socket {
        let listener = bind(path).map_err(|e| format!("{}: {e}", path.display()))?;
        announce(&format!("nbd+unix:///?socket={}", path.display()), json)?;
        server.unix(&listener, goes_on)?;
        fs::remove_file(path)?;
    } else if let Some(address) = &args.listen {
        let listener = TcpListener::bind(address).map_err(|e| format!("{address}: {e}"))?;
        announce(&format!("nbd://{}", listener.local_addr()?), json)?;
        server.tcp(&listener, goes_on)?;
    }
    Ok(())
}

/// Tells where, now that clients can connect.
fn announce(uri: &str, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", json!({ "uri": uri }))?
    } else {
        writeln!(out, "{uri}")?
    }
    out.flush()
}

/// A socket that only its owner can use. One that nobody serves any more is replaced.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::from_raw_mode(0o177));
    let mut listener = UnixListener::bind(path);
    if listener.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::AddrInUse)
        && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
    {
        listener = fs::remove_file(path).and_then(|()| UnixListener::bind(path));
    }
    umask(before);
    listener
}
