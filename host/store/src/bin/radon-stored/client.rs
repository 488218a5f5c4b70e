//! `--live-update`: asks the running daemon to let this program take over.

use radon_store::wire;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use xen_abi::xs_wire::XS_CONTROL;

/// The steps of `xenstore-control live-update`, with this program as the new one.
pub fn live_update(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    let program = std::env::current_exe()?;
    command(&mut stream, &[b"live-update", b"-f", program.as_os_str().as_bytes()])?;
    command(&mut stream, &[b"live-update", b"-s"])
}

fn command(stream: &mut UnixStream, arguments: &[&[u8]]) -> io::Result<()> {
    let payload: Vec<u8> = arguments.iter().flat_map(|a| a.iter().copied().chain([0])).collect();
    stream.write_all(&wire::message(XS_CONTROL, 1, 0, &payload))?;
    let mut bytes = Vec::new();
    loop {
        let mut some = [0; 4096];
        let count = stream.read(&mut some)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(some.get(..count).unwrap_or_default());
        if let Some((reply, _)) = wire::split(&bytes).map_err(io::Error::other)? {
            let text = String::from_utf8_lossy(reply.payload).trim_end_matches('\0').to_owned();
            return if text == "OK" { Ok(()) } else { Err(io::Error::other(text)) };
        }
    }
}
