//! Consoles that the store tells of: a thread of its own, because the store may take its time, or be started again, and guests'
//! output is not to wait for that.

use radon_domain::error::{Result, XenContext};
use radon_domain::nodes::domain_path;
use radon_domain::uuid::Uuid;
use radon_linux::mailbox::{Mailbox, Post};
use radon_store::client::{self, Tx, Xenstore};
use radon_xen::privcmd::Privcmd;
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A console that is to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its domain.
    pub domid: u16,
    /// The VM, by the number that the domain's maker gave it.
    pub vm: Uuid,
    /// Its name.
    pub name: String,
    /// Frame of the ring's page in the domain.
    pub frame: u64,
    /// The domain's event channel.
    pub port: u32,
}

/// A terminal that the store is to tell of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Whose: the console as it was found.
    pub of: Found,
    /// Its path.
    pub path: String,
}

/// How long nothing is tried after the store was not there.
const PAUSE: Duration = Duration::from_secs(1);
/// The toolstack's name of a console that is served by this daemon.
const TYPE: &str = "xenconsoled";
const DOMAINS: &str = "domains";

/// Tells `out` of all consoles at each change, and the store of terminals, for ever.
pub fn run(privcmd: &Arc<Privcmd>, out: &Post<Vec<Found>>, terminals: &Mailbox<Terminal>) {
    let mut known: BTreeMap<u16, Terminal> = BTreeMap::new();
    let mut told = String::new();
    loop {
        let Err(error) = watch(privcmd, out, terminals, &mut known) else { return };
        let error = error.to_string();
        if error != told {
            log::error!("{error}");
            told = error;
        }
        std::thread::sleep(PAUSE);
    }
}

fn console(domid: u16) -> String {
    format!("{}/console", domain_path(domid))
}

/// With one connection to the store, until it breaks.
fn watch(
    privcmd: &Privcmd,
    out: &Post<Vec<Found>>,
    terminals: &Mailbox<Terminal>,
    known: &mut BTreeMap<u16, Terminal>,
) -> Result<()> {
    let mut store = Xenstore::open()?;
    store.watch("@introduceDomain", DOMAINS)?;
    store.watch("@releaseDomain", DOMAINS)?;
    let mut domains: BTreeMap<u16, Domain> = BTreeMap::new();
    let mut last: Option<Vec<Found>> = None;
    // After the connection broke: a store that began anew has none of them.
    for terminal in known.values() {
        tell(&mut store, terminal)?;
    }
    loop {
        let mut look = last.is_none();
        let mut changed = Vec::new();
        while let Some(event) = store.next_event(Instant::now())? {
            match event.token.parse::<u16>() {
                Ok(domid) => changed.push(domid),
                Err(_) => look = true,
            }
        }
        if look {
            scan(privcmd, &mut store, &mut domains, &mut changed)?;
        }
        for domid in changed {
            if let Some(domain) = domains.get_mut(&domid) {
                domain.console = read(&mut store, domid, domain.vm)?;
            }
        }
        let all: Vec<Found> = domains.values().filter_map(|d| d.console.clone()).collect();
        if last.as_ref() != Some(&all) {
            out.send(all.clone());
            last = Some(all);
        }
        for terminal in terminals.take() {
            tell(&mut store, &terminal)?;
            known.insert(terminal.of.domid, terminal);
        }
        known.retain(|domid, _| domains.contains_key(domid));
        if !store.has_events() {
            let mut fds = [
                PollFd::from_borrowed_fd(store.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(terminals.as_fd(), PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    let (what, path) = ("wait for", "changes".to_owned());
                    return Err(client::Error { what, path, source: error.into() }.into());
                }
            }
        }
    }
}

struct Domain {
    vm: Uuid,
    console: Option<Found>,
}

/// Domains that came are watched, those that went are not any more.
fn scan(
    privcmd: &Privcmd,
    store: &mut Xenstore,
    domains: &mut BTreeMap<u16, Domain>,
    changed: &mut Vec<u16>,
) -> Result<()> {
    let alive: BTreeMap<u16, Uuid> = privcmd
        .all_domains()
        .xen("list domains")?
        .into_iter()
        .filter(|d| d.domid != 0 && !d.dying)
        .map(|d| (d.domid, Uuid::from_bytes(d.handle)))
        .collect();
    let gone: Vec<u16> =
        domains.iter().filter(|(id, d)| alive.get(id) != Some(&d.vm)).map(|(id, _)| *id).collect();
    for domid in gone {
        domains.remove(&domid);
        store.unwatch(&console(domid), &domid.to_string())?;
    }
    for (domid, vm) in alive {
        if let std::collections::btree_map::Entry::Vacant(entry) = domains.entry(domid) {
            store.watch(&console(domid), &domid.to_string())?;
            entry.insert(Domain { vm, console: None });
            changed.push(domid);
        }
    }
    Ok(())
}

/// A domain's console, if it has one that is this daemon's and whose nodes are all there.
fn read(store: &mut Xenstore, domid: u16, vm: Uuid) -> Result<Option<Found>> {
    let console = console(domid);
    let mut get = |name: &str| store.read(Tx::NONE, &format!("{console}/{name}"));
    if get("type")?.is_some_and(|t| t != TYPE) {
        return Ok(None);
    }
    let frame = get("ring-ref")?.and_then(|v| v.parse::<i64>().ok());
    let port = get("port")?.and_then(|v| v.parse::<u32>().ok());
    let (Some(frame), Some(port)) = (frame, port) else { return Ok(None) };
    let name = store.read(Tx::NONE, &format!("{}/name", domain_path(domid)))?;
    let name = name.filter(|n| !n.is_empty()).unwrap_or_else(|| format!("domain-{domid}"));
    // libxl writes frames as signed numbers.
    Ok(Some(Found { domid, vm, name, frame: frame.cast_unsigned(), port }))
}

/// Writes a terminal's path, if the console is still the one that it belongs to: a domain that is gone is not to come back as a node.
fn tell(store: &mut Xenstore, terminal: &Terminal) -> Result<()> {
    let console = console(terminal.of.domid);
    let wanted = terminal.of.port.to_string();
    store.transaction(|store, tx| {
        if store.read(tx, &format!("{console}/port"))?.as_deref() == Some(&wanted) {
            store.write(tx, &format!("{console}/tty"), &terminal.path)?;
        }
        Ok(())
    })?;
    Ok(())
}
