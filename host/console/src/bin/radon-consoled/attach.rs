//! A console on this terminal.

use radon_console::client;
use radon_linux::terminal::Raw;
use rustix::event::{PollFd, PollFlags, poll};
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::path::Path;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Ctrl-].
const LEAVE: u8 = 0x1d;

/// Sends a request and prints what comes of it.
pub fn print(socket: &Path, line: &str) -> Result<()> {
    let mut stream = client::request(socket, line)?;
    io::copy(&mut stream, &mut io::stdout().lock())?;
    Ok(())
}

/// Shows a console, until Ctrl-] or the end of the input.
pub fn attach(socket: &Path, vm: &str) -> Result<()> {
    let mut stream = client::request(socket, &format!("attach {vm}"))?;
    let _terminal = Raw::make()?;
    let input = io::stdin();
    let mut out = io::stdout();
    let mut bytes = [0; 4096];
    loop {
        let mut fds = [PollFd::new(&input, PollFlags::IN), PollFd::new(&stream, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        let [typed, shown] = fds.map(|fd| !fd.revents().is_empty());
        if shown {
            let count = stream.read(&mut bytes)?;
            if count == 0 {
                return Ok(());
            }
            out.write_all(bytes.get(..count).unwrap_or_default())?;
            out.flush()?;
        }
        if typed {
            // Past the buffer of the standard library: what it holds back, poll does not know of.
            let count = rustix::io::read(&input, &mut bytes)?;
            let typed = bytes.get(..count).unwrap_or_default();
            if typed.is_empty() || typed.contains(&LEAVE) {
                let before = typed.split(|b| *b == LEAVE).next().unwrap_or_default();
                stream.write_all(before)?;
                stream.shutdown(Shutdown::Both)?;
                return Ok(());
            }
            stream.write_all(typed)?;
        }
    }
}
