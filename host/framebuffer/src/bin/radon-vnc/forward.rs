//! A VM's framebuffer at an address of this host.

use radon_console::client;
use std::error::Error;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

/// Lets viewers through, for ever.
pub fn run(socket: &Path, vm: &str, listen: SocketAddr) -> Result<(), Box<dyn Error>> {
    // An error now, rather than with the first viewer.
    drop(client::request(socket, &format!("attach {vm}"))?);
    let listener = TcpListener::bind(listen).map_err(|e| format!("{listen}: {e}"))?;
    let address = listener.local_addr()?;
    println!("vncviewer {}::{}", address.ip(), address.port());
    loop {
        let (viewer, _) = listener.accept()?;
        let (socket, vm): (PathBuf, String) = (socket.to_owned(), vm.to_owned());
        thread::spawn(move || {
            if let Err(error) = join(&viewer, &socket, &vm) {
                eprintln!("radon-vnc: {error}");
            }
            let _ = viewer.shutdown(Shutdown::Both);
        });
    }
}

fn join(viewer: &TcpStream, socket: &Path, vm: &str) -> io::Result<()> {
    let screen = client::request(socket, &format!("attach {vm}"))?;
    // A key is to be there at once.
    viewer.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::copy(&mut &*viewer, &mut &screen);
            let _ = screen.shutdown(Shutdown::Both);
        });
        let _ = io::copy(&mut &screen, &mut &*viewer);
        let _ = viewer.shutdown(Shutdown::Both);
    });
    Ok(())
}
