//! Screens by VM, and the socket that viewers come by: a line asks, a line answers (`ok`, or `error WHY`), and then the protocol of viewers
//! begins.
//!
//! | request | after `ok` |
//! |---|---|
//! | `attach VM` | the protocol of viewers (RFC 6143), without a password |
//! | `list` | a line `UUID DOMID NAME` for each VM with a framebuffer |
//!
//! VM is a UUID, a domain's number, or a running VM's name.

use crate::screen::Screen;
use crate::viewer;
use radon_console::request::{LONGEST, Who};
use radon_domain::uuid::Uuid;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Clients at a time.
const MOST_CLIENTS: usize = 256;
/// How long a request may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Entry {
    screen: Arc<Screen>,
    /// Its newest domain, while it has one.
    domid: Option<u16>,
    name: String,
}

/// The screens of all VMs with a framebuffer, and of those that somebody still looks at.
#[derive(Debug, Default)]
pub struct Screens(Mutex<BTreeMap<Uuid, Entry>>);

impl Screens {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Uuid, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A VM's, which has such a domain now.
    pub fn of(&self, vm: Uuid, domid: u16, name: &str) -> Arc<Screen> {
        let mut all = self.all();
        let new = || Entry { screen: Arc::default(), domid: None, name: String::new() };
        let entry = all.entry(vm).or_insert_with(new);
        entry.domid = Some(domid);
        name.clone_into(&mut entry.name);
        entry.screen.clone()
    }

    /// A VM's domain is gone; unless it has a newer one.
    pub fn ended(&self, vm: Uuid, domid: u16) {
        if let Some(entry) = self.all().get_mut(&vm).filter(|entry| entry.domid == Some(domid)) {
            entry.domid = None;
        }
        self.tidy();
    }

    /// Screens without a domain go with their last viewer.
    fn tidy(&self) {
        self.all().retain(|_, entry| entry.domid.is_some() || Arc::strong_count(&entry.screen) > 1);
    }

    fn find(&self, who: &Who) -> Result<(Arc<Screen>, String), String> {
        let all = self.all();
        let found: Vec<(&Uuid, &Entry)> = all
            .iter()
            .filter(|(vm, entry)| match who {
                Who::Vm(wanted) => *vm == wanted,
                Who::Domain(domid) => entry.domid == Some(*domid),
                Who::Name(name) => entry.domid.is_some() && entry.name == *name,
            })
            .collect();
        match *found {
            [(_, entry)] => Ok((entry.screen.clone(), entry.name.clone())),
            [] => Err("no such VM runs with a framebuffer".to_owned()),
            _ => Err("several VMs are called so: say which by its UUID".to_owned()),
        }
    }

    fn list(&self) -> String {
        let all = self.all();
        let running = all.iter().filter_map(|(vm, entry)| Some((vm, entry.domid?, &entry.name)));
        running.map(|(vm, domid, name)| format!("{vm} {domid} {name}\n")).collect()
    }
}

/// Serves whoever connects, for ever: a thread for each.
pub fn run(listener: &UnixListener, screens: &Arc<Screens>) -> io::Result<()> {
    let clients = Arc::new(AtomicUsize::new(0));
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if clients.fetch_add(1, Ordering::SeqCst) >= MOST_CLIENTS {
            clients.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (screens, counted) = (screens.clone(), clients.clone());
        let run = move || {
            if let Err(error) = client(stream, &screens) {
                log::info!("a viewer: {error}");
            }
            screens.tidy();
            counted.fetch_sub(1, Ordering::SeqCst);
        };
        if let Err(error) = std::thread::Builder::new().name("client".into()).spawn(run) {
            log::warn!("no thread for a viewer: {error}");
            clients.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn client(mut stream: UnixStream, screens: &Screens) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = Vec::new();
    // One byte at a time: what follows is the viewer's.
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        match byte {
            [b'\n'] => break,
            [byte] if line.len() < LONGEST => line.push(byte),
            _ => return stream.write_all(b"error the request is too long\n"),
        }
    }
    let line = String::from_utf8_lossy(&line);
    match line.trim_end().split_once(' ') {
        Some(("attach", who)) => match screens.find(&Who::parse(who)) {
            Ok((screen, name)) => {
                stream.write_all(b"ok\n")?;
                viewer::serve(stream, &screen, &name)
            }
            Err(why) => stream.write_all(format!("error {who}: {why}\n").as_bytes()),
        },
        None if line.trim_end() == "list" => stream.write_all(format!("ok\n{}", screens.list()).as_bytes()),
        _ => stream.write_all(b"error not one of: attach VM, list\n"),
    }
}
