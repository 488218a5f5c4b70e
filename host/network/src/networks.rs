//! The networks of one host: what the rest of the host layer uses.

use crate::declared::Declared;
use crate::dhcp::LeaseFile;
use crate::error::{Error, Result, kernel as attempt};
use crate::interface::Interface;
use crate::kernel::{self, Netlink};
use crate::name::{LinkName, NetworkName};
use crate::network::Network;
use crate::observed::Observed;
use crate::op::Op;
use crate::{plan, rules};
use rustix::fs::{FlockOperation, flock};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where the state is unless somebody says otherwise.
pub const DEFAULT_DIR: &str = "/var/lib/radon/networks";

/// The networks of this host. Any number of threads and processes may use one folder at the same time.
#[derive(Clone, Debug)]
pub struct Networks {
    dir: PathBuf,
}

/// What is declared, next to what the kernel has.
#[derive(Debug, serde::Serialize)]
pub struct State {
    /// What there is to be.
    pub declared: Declared,
    /// What the kernel has.
    pub observed: Observed,
    /// What a reconciliation would change, in words; the packet filter's rules are set by each and not listed.
    pub pending: Vec<String>,
}

impl Networks {
    /// The networks whose state is in a folder, which is made if need be.
    pub fn open(dir: &Path) -> Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| Error::File { path: dir.to_owned(), source })?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What is declared.
    pub fn declared(&self) -> Result<Declared> {
        Declared::load(&self.dir)
    }

    /// A network is to be, or is to be another than before. What it replaces, its interfaces keep working with.
    ///
    /// Written down first: if the kernel then refuses, the error says so, and [`Self::reconcile`] tries again.
    pub fn declare_network(&self, name: &NetworkName, network: Network) -> Result<()> {
        let (_, problems) = self.change(|declared, _| {
            declared.networks.insert(name.clone(), network);
            Ok(())
        })?;
        first(problems, |_| true)
    }

    /// A network goes, which no interface may be part of any more.
    pub fn remove_network(&self, name: &NetworkName) -> Result<()> {
        let (_, problems) = self.change(|declared, _| {
            if let Some((link, _)) = declared.of(name).next() {
                return Err(Error::Invalid(format!(
                    "network {name} is in use by interface {link}; remove that first"
                )));
            }
            let gone = declared.networks.remove(name);
            gone.map(drop).ok_or_else(|| Error::Unknown { what: "network", name: name.to_string() })
        })?;
        first(problems, |_| true)
    }

    /// An interface is to be a part of a network, or another than before. Its rules are in force before it is connected; it may
    /// not be there yet: whoever serves the networks connects it as soon as it is, and so does [`Self::reconcile`].
    ///
    /// Another declaration of the same hardware address on that network, whose interface is gone, is replaced: it is the same guest's,
    /// from before the host was started anew, or from a domain that ended while nobody looked. Its address stays the guest's.
    ///
    /// Returns what is declared: with an address, if it had none and its network has addresses to give.
    pub fn declare_interface(&self, link: &LinkName, interface: Interface) -> Result<Interface> {
        let mut interface = interface;
        let there = observe(&mut attempt("open a netlink socket", Netlink::open())?)?.links;
        let (declared, problems) = self.change(|declared, dir| {
            let taken = leased(dir, &interface.network)?;
            declared.give_way(link, &interface, |other| there.contains_key(other.as_str()));
            declared.assign(link, &mut interface, &taken)?;
            declared.interfaces.insert(link.clone(), interface.clone());
            Ok(())
        })?;
        // Trouble with other networks keeps nobody's guest from starting.
        let bridge = declared.networks.get(&interface.network).map(|n| n.bridge.as_str());
        first(problems, |about| about == link.as_str() || Some(about) == bridge)?;
        Ok(interface)
    }

    /// An interface is part of no network any more. No error, if it was none.
    pub fn remove_interface(&self, link: &LinkName) -> Result<()> {
        let (_, problems) = self.change(|declared, _| {
            declared.interfaces.remove(link);
            Ok(())
        })?;
        first(problems, |about| about == link.as_str())
    }

    /// Everything is to be so, and nothing else: what else was declared goes.
    pub fn declare(&self, all: Declared) -> Result<()> {
        let (_, problems) = self.change(|declared, _| {
            *declared = all;
            Ok(())
        })?;
        first(problems, |_| true)
    }

    /// What is declared, next to what the kernel has.
    pub fn observe(&self) -> Result<State> {
        let declared = self.declared()?;
        let observed = observe(&mut attempt("open a netlink socket", Netlink::open())?)?;
        let plan = plan::plan(&declared, &observed, &self.seed()?);
        let ops = plan.ops.iter().filter(|op| **op != Op::Rules).map(ToString::to_string);
        let pending = ops.chain(plan.problems.iter().map(|(_, error)| error.to_string())).collect();
        Ok(State { declared, observed, pending })
    }

    /// Makes the kernel's state equal to what is declared, and says in words what was changed. Killed at any moment and called
    /// again, it ends in the same state.
    pub fn reconcile(&self) -> Result<Vec<String>> {
        let mut done = Vec::new();
        self.reconcile_and(&mut |op| done.push(op.to_string()))?;
        Ok(done)
    }

    /// The same; `after` is called after each change.
    pub fn reconcile_and(&self, after: &mut dyn FnMut(&Op)) -> Result<()> {
        let turn = self.turn()?;
        first(self.carry_out(&self.declared()?, &turn, after)?, |_| true)
    }

    /// Changes what is declared, then the kernel's state. What is then declared, and what could not be done.
    fn change(
        &self,
        edit: impl FnOnce(&mut Declared, &Path) -> Result<()>,
    ) -> Result<(Declared, Vec<(String, Error)>)> {
        let turn = self.turn()?;
        let before = self.declared()?;
        let mut declared = before.clone();
        edit(&mut declared, &self.dir)?;
        declared.check()?;
        if declared != before {
            declared.store(&self.dir)?;
        }
        let problems = self.carry_out(&declared, &turn, &mut |_| {})?;
        Ok((declared, problems))
    }

    /// The right to change the state: one thread of one process at a time.
    fn turn(&self) -> Result<Turn> {
        let path = self.dir.join("lock");
        let file = |source| Error::File { path: path.clone(), source };
        let mut options = OpenOptions::new();
        let lock = options.write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(file)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|e| file(e.into()))?;
        Ok(Turn(lock))
    }

    /// What could not be done is handed back, with the interface that it is about.
    fn carry_out(
        &self,
        declared: &Declared,
        _turn: &Turn,
        after: &mut dyn FnMut(&Op),
    ) -> Result<Vec<(String, Error)>> {
        let mut netlink = attempt("open a netlink socket", Netlink::open())?;
        let observed = observe(&mut netlink)?;
        let plan::Plan { ops, mut problems } = plan::plan(declared, &observed, &self.seed()?);
        // After a change that failed, its interface is left as it is: without its limits it is not to be connected.
        let mut failed = BTreeSet::new();
        for op in &ops {
            if op.name().is_some_and(|name| failed.contains(name)) {
                continue;
            }
            if *op == Op::Rules {
                // Without rules nobody is connected.
                rules::apply(&rules::script(declared))?;
            } else if let Err(error) = attempt(op.to_string(), kernel::execute(&mut netlink, op)) {
                failed.extend(op.name().map(str::to_owned));
                problems.push((op.name().unwrap_or_default().to_owned(), error));
            }
            after(op);
        }
        forget_leases(&self.dir, declared)?;
        Ok(problems)
    }

    /// A text that no other host has, made once.
    fn seed(&self) -> Result<String> {
        let path = self.dir.join("host-id");
        let file = |source| Error::File { path: path.clone(), source };
        match fs::read_to_string(&path) {
            Ok(seed) => return Ok(seed),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(file(source)),
        }
        let mut bytes = [0; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| file(e.into()))?;
        let seed: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        // Whoever makes one at the same moment makes one that is as good, until one of them is kept.
        let new = self.dir.join(format!("host-id.{}", std::process::id()));
        fs::write(&new, &seed).and_then(|()| fs::hard_link(&new, &path)).or_else(|error| {
            if error.kind() == std::io::ErrorKind::AlreadyExists { Ok(()) } else { Err(file(error)) }
        })?;
        fs::remove_file(&new).map_err(file)?;
        fs::read_to_string(&path).map_err(file)
    }
}

/// The first problem that counts.
fn first(problems: Vec<(String, Error)>, counts: impl Fn(&str) -> bool) -> Result<()> {
    problems.into_iter().find(|(about, _)| counts(about)).map_or(Ok(()), |(_, error)| Err(error))
}

/// The right to change the state, for as long as this is alive.
struct Turn(#[expect(dead_code, reason = "held, and let go of when closed")] File);

fn observe(netlink: &mut Netlink) -> Result<Observed> {
    attempt("read the state of dom0's network", kernel::observe(netlink))
}

/// Addresses that DHCP has given away.
fn leased(dir: &Path, network: &NetworkName) -> Result<BTreeSet<std::net::Ipv4Addr>> {
    Ok(LeaseFile::read(dir, network)?.into_keys().collect())
}

/// Removes the leases of networks that are no more.
fn forget_leases(dir: &Path, declared: &Declared) -> Result<()> {
    let known: BTreeMap<PathBuf, ()> =
        declared.networks.keys().map(|name| (LeaseFile::path(dir, name), ())).collect();
    let entries = fs::read_dir(dir).map_err(|source| Error::File { path: dir.to_owned(), source })?;
    for path in entries.filter_map(|e| Some(e.ok()?.path())) {
        if LeaseFile::is_one(&path) && !known.contains_key(&path) {
            fs::remove_file(&path).map_err(|source| Error::File { path, source })?;
        }
    }
    Ok(())
}
