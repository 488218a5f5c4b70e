//! What serves guests while it runs: keeps the kernel's state, and answers DHCP, DNS and requests for metadata on each network
//! with addresses.
//!
//! The state is in files: whoever is killed and started again goes on as before. A thread per network and protocol waits for
//! datagrams; what takes time (other DNS servers, connections) gets threads of its own, so many and no more for each guest.

mod dhcp;
mod dns;
mod http;
mod slots;
mod socket;

use crate::declared::{Declared, FILE};
use crate::dns::forward;
use crate::dns::zone::Zone;
use crate::error::{Error, Result, kernel as attempt};
use crate::interface::{Guard, Interface};
use crate::mac::Mac;
use crate::name::{HostName, LinkName, NetworkName};
use crate::network::Subnet;
use crate::networks::Networks;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify;
use rustix::net::{RecvFlags, recv};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

/// After trouble the kernel's state is looked at again so soon, in seconds.
const AGAIN: i64 = 5;

/// What the services of one network know.
struct View {
    subnet: Subnet,
    mtu: u16,
    zone: Zone,
    servers: Vec<Ipv4Addr>,
    reserved: BTreeMap<Mac, Ipv4Addr>,
    kept: BTreeSet<Ipv4Addr>,
    names: BTreeMap<Mac, HostName>,
    /// Locked interfaces by address: who asks for metadata.
    guests: BTreeMap<Ipv4Addr, Interface>,
}

impl View {
    fn new(declared: &Declared, name: &NetworkName, resolv: &str) -> Option<Self> {
        let network = declared.networks.get(name)?;
        let subnet = network.subnet.clone()?;
        let own =
            |a: Ipv4Addr| declared.networks.values().filter_map(|n| n.subnet.as_ref()).any(|s| s.host == a);
        let servers = if subnet.forwarders.is_empty() {
            forward::servers(resolv, own)
        } else {
            subnet.forwarders.iter().copied().filter(|a| !own(*a)).collect()
        };
        let all = || declared.of(name).map(|(_, interface)| interface);
        let locked = all().filter(|i| i.guard == Guard::Locked);
        Some(Self {
            mtu: network.mtu,
            zone: Zone::new(&subnet, all()),
            servers,
            reserved: declared.reserved(name),
            kept: all().flat_map(|i| i.ipv4.iter().copied()).chain([subnet.host]).collect(),
            names: all().filter_map(|i| Some((i.mac, i.host_name.clone()?))).collect(),
            guests: locked.flat_map(|i| i.ipv4.iter().map(|a| (*a, i.clone()))).collect(),
            subnet,
        })
    }
}

/// A view that follows what is declared: whoever has declared an interface can rely on its guest being told what was declared.
#[derive(Clone)]
struct Shared(Arc<Following>);

struct Following {
    dir: PathBuf,
    name: NetworkName,
    view: RwLock<Arc<View>>,
    /// Which file the view was made of: each is written under a number of its own.
    made_of: Mutex<Option<(u64, i64, i64)>>,
}

impl Shared {
    fn new(dir: &Path, name: &NetworkName, view: View) -> Self {
        let view = RwLock::new(Arc::new(view));
        let made_of = Mutex::new(None);
        Self(Arc::new(Following { dir: dir.to_owned(), name: name.clone(), view, made_of }))
    }

    fn get(&self) -> Arc<View> {
        let file = std::fs::metadata(self.0.dir.join(FILE)).ok();
        let file = file.map(|m| (m.ino(), m.mtime(), m.mtime_nsec()));
        let mut made_of = self.0.made_of.lock().unwrap_or_else(PoisonError::into_inner);
        if *made_of != file
            && let Ok(declared) = Declared::load(&self.0.dir)
            && let Some(view) = View::new(&declared, &self.0.name, &resolv_conf())
        {
            self.set(view);
            *made_of = file;
        }
        drop(made_of);
        Arc::clone(&self.0.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, view: View) {
        *self.0.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }
}

fn resolv_conf() -> String {
    std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}

/// The services of one network.
struct Service {
    bridge: LinkName,
    /// The kernel's number of the bridge: a bridge made anew needs new sockets.
    index: u32,
    host: Ipv4Addr,
    view: Shared,
    stop: Arc<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
}

impl Service {
    fn start(dir: &Path, name: &NetworkName, bridge: &LinkName, index: u32, view: View) -> Result<Self> {
        fn at<T>(what: &str, name: &NetworkName, result: io::Result<T>) -> Result<T> {
            attempt(format!("{what} of network {name}"), result)
        }
        let stop = Arc::new(at(
            "serve the guests",
            name,
            eventfd(0, EventfdFlags::CLOEXEC).map_err(io::Error::from),
        )?);
        let host = view.subnet.host;
        let view = Shared::new(dir, name, view);
        let dhcp = dhcp::Server::open(dir, name, bridge, view.clone())?;
        let dns = at("serve the names", name, dns::Server::open(bridge, host, view.clone()))?;
        let http = at("serve the metadata", name, http::Server::open(bridge, view.clone()))?;
        let mut threads = Vec::new();
        let mut spawn = |what: &str, run: Box<dyn FnOnce(&OwnedFd) + Send>| {
            let stop = Arc::clone(&stop);
            let thread = std::thread::Builder::new().name(format!("{what} {bridge}")).stack_size(STACK);
            thread.spawn(move || run(&stop)).map(|thread| threads.push(thread))
        };
        let (dns, tcp) = (Arc::clone(&dns), dns);
        let started = spawn("dhcp", Box::new(move |stop| dhcp.run(stop)))
            .and_then(|()| spawn("dns", Box::new(move |stop| dns.run_udp(stop))))
            .and_then(|()| spawn("dns-tcp", Box::new(move |stop| tcp.run_tcp(stop))))
            .and_then(|()| spawn("metadata", Box::new(move |stop| http.run(stop))));
        let service = Self { bridge: bridge.clone(), index, host, view, stop, threads };
        match at("serve the guests", name, started) {
            Ok(()) => Ok(service),
            Err(error) => {
                service.end();
                Err(error)
            }
        }
    }

    /// Ends the threads, and with them the sockets.
    fn end(self) {
        // Never full: it is written once.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// What a thread that answers needs.
const STACK: usize = 256 << 10;

/// Serves the networks until the process ends. `ready` is called when all of them are served for the first time; `log` gets what
/// goes wrong.
pub fn serve(networks: &Networks, mut ready: impl FnMut(), log: impl Fn(&Error)) -> Result<()> {
    let dir = networks.dir();
    let _alone = alone(dir)?;
    let links = attempt("watch interfaces", crate::kernel::watch_links())?;
    let files = attempt("watch the state's folder", watch(dir).map_err(io::Error::from))?;
    let mut services: BTreeMap<NetworkName, Service> = BTreeMap::new();
    let mut known: Option<Declared> = None;
    let mut said = BTreeSet::new();
    loop {
        let errors = follow(networks, &mut services, &mut known).unwrap_or_else(|error| vec![error]);
        // What goes on being wrong is said once.
        errors.iter().filter(|error| !said.contains(&error.to_string())).for_each(&log);
        said = errors.iter().map(ToString::to_string).collect();
        let trouble = !errors.is_empty();
        if !trouble {
            ready();
        }
        let limit = trouble.then_some(Timespec { tv_sec: AGAIN, tv_nsec: 0 });
        let mut fds = [PollFd::new(&links, PollFlags::IN), PollFd::new(&files, PollFlags::IN)];
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return attempt("wait for changes", Err(error.into())),
        }
        // Changes come in bursts: all that is there is one reason to look. A guest that plugs and unplugs keeps nobody busy.
        let pause = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let _ = poll(&mut [], Some(&pause));
        drain(&links, &files);
    }
}

/// One of these for each folder: the leases are written by one process.
fn alone(dir: &Path) -> Result<std::fs::File> {
    let path = dir.join("serving");
    let file = |source| Error::File { path: path.clone(), source };
    let lock =
        std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(file)?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Error::Invalid(format!("{} is served by another process already", dir.display())))
        }
        Err(error) => Err(file(error.into())),
    }
}

fn watch(dir: &Path) -> rustix::io::Result<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&fd, dir, inotify::WatchFlags::MOVED_TO)?;
    Ok(fd)
}

/// Takes what the sockets have to say: only that there was something counts.
fn drain(links: &OwnedFd, files: &OwnedFd) {
    let mut buffer = [0; 8192];
    while recv(links, &mut buffer[..], RecvFlags::DONTWAIT).is_ok_and(|(count, _)| count > 0) {}
    while rustix::io::read(files, &mut buffer).is_ok_and(|count| count > 0) {}
}

/// Brings kernel and services to what is declared. What went wrong with single ones is handed back.
fn follow(
    networks: &Networks,
    services: &mut BTreeMap<NetworkName, Service>,
    known: &mut Option<Declared>,
) -> Result<Vec<Error>> {
    let mut errors = Vec::new();
    let state = networks.observe()?;
    let declared = state.declared;
    let changed = known.as_ref() != Some(&declared);
    if changed || !state.pending.is_empty() {
        // Set again when there is no reason to, the rules would forget how much each guest has sent.
        errors.extend(networks.reconcile().err());
    }
    let observed = networks.observe()?.observed;
    let resolv = resolv_conf();
    let fits = |name: &NetworkName, service: &Service| {
        let network = declared.networks.get(name);
        let host = network.and_then(|n| n.subnet.as_ref()).map(|s| s.host);
        let index = network.and_then(|n| observed.links.get(n.bridge.as_str())).map(|l| l.index);
        (host, index) == (Some(service.host), Some(service.index))
            && network.is_some_and(|n| n.bridge == service.bridge)
    };
    let gone: Vec<NetworkName> = services
        .iter()
        .filter(|(name, service)| !fits(name, service))
        .map(|(name, _)| name.clone())
        .collect();
    gone.iter().filter_map(|name| services.remove(name)).for_each(Service::end);
    for (name, network) in &declared.networks {
        let Some(view) = View::new(&declared, name, &resolv) else { continue };
        let bridge = observed.links.get(network.bridge.as_str()).filter(|l| l.ours());
        match (services.get(name), bridge) {
            // Others may have declared something since: that they look for themselves.
            (Some(service), _) => drop(service.view.get()),
            (None, Some(link)) => {
                match Service::start(networks.dir(), name, &network.bridge, link.index, view) {
                    Ok(service) => drop(services.insert(name.clone(), service)),
                    Err(error) => errors.push(error),
                }
            }
            // That its bridge is missing was said already.
            (None, None) => {}
        }
    }
    // Looked at again if something went wrong.
    *known = errors.is_empty().then_some(declared);
    Ok(errors)
}
