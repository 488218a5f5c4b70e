//! The client's end of the daemon's socket: for other programs of dom0.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Where the daemon listens.
pub const SOCKET: &str = "/run/radon/console.sock";

/// The longest answer that is one line.
const LONGEST: usize = 1024;

/// Sends a request, and reads the answer's line: the stream is what follows it.
pub fn request(socket: &Path, line: &str) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).map_err(|e| {
        io::Error::new(e.kind(), format!("{}: {e} (is radon-consoled running?)", socket.display()))
    })?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = Vec::new();
    // One byte at a time: nothing of what follows is taken.
    while answer.last() != Some(&b'\n') {
        let mut byte = [0];
        if answer.len() == LONGEST || stream.read(&mut byte)? == 0 {
            return Err(io::Error::other("radon-consoled gives no answer"));
        }
        answer.extend(byte);
    }
    let answer = String::from_utf8_lossy(&answer);
    match answer.trim_end().split_once(' ') {
        None if answer.trim_end() == "ok" => Ok(stream),
        Some(("error", why)) => Err(io::Error::other(why.to_owned())),
        _ => Err(io::Error::other(format!("radon-consoled answers {}", answer.trim_end()))),
    }
}
