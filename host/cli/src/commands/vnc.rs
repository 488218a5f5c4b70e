//! `radon console --vnc`: a VM's framebuffer at an address of this machine, for any VNC viewer.

use super::console;
use crate::client::Client;
use crate::http::Server;
use crate::{Done, names};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Lets viewers through until it is ended.
pub fn run(client: &Client, vm: &str, listen: SocketAddr) -> Done {
    let vm = names::vm(client, vm)?;
    let path = format!("/console?vm={vm}&protocol=rfb&session_id={}", client.reference());
    // An error now, rather than with the first viewer.
    drop(console::open(client.server(), &path)?);
    let listener = TcpListener::bind(listen).map_err(|e| format!("{listen}: {e}"))?;
    let address = listener.local_addr()?;
    println!("vncviewer {}::{}", address.ip(), address.port());
    loop {
        let (viewer, _) = listener.accept()?;
        let (server, path) = (client.server().clone(), path.clone());
        thread::spawn(move || {
            if let Err(error) = join(&viewer, &server, &path) {
                eprintln!("radon: {error}");
            }
            let _ = viewer.shutdown(Shutdown::Both);
        });
    }
}

fn join(viewer: &TcpStream, server: &Server, path: &str) -> Done {
    viewer.set_nodelay(true)?;
    let mut socket = console::open(server, path)?;
    console::exchange(&mut socket, viewer, &mut &*viewer, None)?;
    let _ = socket.close(None).and_then(|()| socket.flush());
    Ok(())
}
