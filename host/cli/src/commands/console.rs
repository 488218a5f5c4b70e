//! `radon console`: a VM's text console on this terminal; and what a framebuffer's viewers need of it.

use crate::client::Client;
use crate::http::Server;
use crate::{Done, Failed, names};
use radon_linux::terminal::Raw;
use rustix::event::{PollFd, PollFlags, poll};
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

/// Ctrl-].
const LEAVE: u8 = 0x1d;

/// A console's connection.
pub(super) type Socket = WebSocket<StreamOwned<ClientConnection, TcpStream>>;

/// Shows it, its history first, and types; or only prints the history.
pub fn run(client: &Client, vm: &str, history: bool) -> Done {
    let path = format!("/console?vm={}&session_id={}", names::vm(client, vm)?, client.reference());
    if history {
        let mut answer = client.server().request("GET", &path, 0, &mut io::empty())?;
        io::copy(&mut answer, &mut io::stdout().lock())?;
        return Ok(());
    }
    let mut socket = open(client.server(), &path)?;
    let terminal = Raw::make()?;
    if terminal.is_terminal() {
        eprint!("Ctrl-] leaves.\r\n");
    }
    let result = exchange(&mut socket, &io::stdin(), &mut io::stdout(), Some(LEAVE));
    drop(terminal);
    match result? {
        Left::ByUser => {
            // It is closed anyhow.
            let _ = socket.close(None).and_then(|()| socket.flush());
            eprintln!();
            Ok(())
        }
        Left::ByHost => Err("the host has closed the console (has the session ended?)".into()),
    }
}

/// Connects to what a path of `/console` names.
pub(super) fn open(server: &Server, path: &str) -> Result<Socket, Failed> {
    let stream = server.connect()?;
    match tungstenite::client(format!("wss://{}{path}", server.host), stream) {
        Ok((socket, _)) => {
            socket.get_ref().sock.set_nonblocking(true)?;
            Ok(socket)
        }
        Err(HandshakeError::Failure(Error::Http(response))) => {
            let why = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            Err(format!("the host answers {}: {}", response.status(), why.trim()).into())
        }
        Err(error) => Err(error.to_string().into()),
    }
}

/// Who has left.
pub(super) enum Left {
    ByUser,
    ByHost,
}

/// Both ways, until somebody leaves: by the end of the input, or by a key.
pub(super) fn exchange(
    socket: &mut Socket,
    input: &impl AsFd,
    out: &mut impl Write,
    leave: Option<u8>,
) -> Result<Left, Failed> {
    let mut bytes = [0; 4096];
    loop {
        if let Some(left) = show(socket, out)? {
            return Ok(left);
        }
        let waits = match socket.flush() {
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => true,
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => return Ok(Left::ByHost),
            result => result.map(|()| false)?,
        };
        let flags = if waits { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let typed = {
            let stream = &socket.get_ref().sock;
            let mut fds = [PollFd::new(stream, flags), PollFd::new(input, PollFlags::IN)];
            // What was typed waits here while the host does not take what was typed before.
            let count = if waits { 1 } else { 2 };
            match poll(fds.get_mut(..count).unwrap_or_default(), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [_, typed] = fds.map(|fd| !fd.revents().is_empty());
            typed
        };
        if typed {
            // Past the buffer of the standard library: what it holds back, poll does not know of.
            let count = rustix::io::read(input, &mut bytes)?;
            let typed = bytes.get(..count).unwrap_or_default();
            let before = typed.split(|b| Some(*b) == leave).next().unwrap_or_default();
            if !before.is_empty() {
                write(socket, before)?;
            }
            if typed.is_empty() || before.len() < typed.len() {
                return Ok(Left::ByUser);
            }
        }
    }
}

fn write(socket: &mut Socket, bytes: &[u8]) -> Done {
    match socket.write(Message::Binary(bytes.to_vec().into())) {
        Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        result => Ok(result?),
    }
}

/// Prints all that has come.
fn show(socket: &mut Socket, out: &mut impl Write) -> Result<Option<Left>, Failed> {
    loop {
        match socket.read() {
            Ok(Message::Binary(bytes)) => out.write_all(&bytes)?,
            Ok(Message::Text(text)) => out.write_all(text.as_bytes())?,
            Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                return Ok(Some(Left::ByHost));
            }
            Ok(_) => {}
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                out.flush()?;
                return Ok(None);
            }
            Err(Error::Protocol(_)) => return Ok(Some(Left::ByHost)),
            Err(Error::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                return Ok(Some(Left::ByHost));
            }
            Err(error) => return Err(error.to_string().into()),
        }
    }
}
