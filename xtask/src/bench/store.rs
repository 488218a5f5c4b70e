//! `cargo xtask bench store`: our store against Debian's xenstored, both real, over their sockets on this host.
//!
//! The host has no Xen. Ours can do without; Debian's is given libraries that pretend (`xtask/store/no-xen.c`). Both
//! are filled with the nodes and watches of some domains, then asked the same by one client: how many answers come
//! in a second, and how much processor time of the daemon each takes. They take turns, and the best of several turns
//! counts, so that a busy host harms both alike.

use crate::packages::Packages;
use crate::store::WithoutXen;
use crate::{paths, setup, store};
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Domains whose nodes are there.
const DOMAINS: &[u32] = &[1, 100, 1000];

/// What is measured.
const WORK: &[&str] = &["read", "write", "transaction", "watch"];

const TURNS: u32 = 5;
const TURN: Duration = Duration::from_millis(500);

/// Nodes of one domain with a disk and a network interface, below its own node.
const NODES: &[&str] = &[
    "name",
    "vm",
    "cpu/0/availability",
    "memory/static-max",
    "memory/target",
    "memory/videoram",
    "control/shutdown",
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
    "control/platform-feature-xs_reset_watches",
    "console/port",
    "console/limit",
    "console/type",
    "console/tty",
    "store/port",
    "store/ring-ref",
    "device/vbd/51712/backend",
    "device/vbd/51712/backend-id",
    "device/vbd/51712/state",
    "device/vbd/51712/virtual-device",
    "device/vbd/51712/ring-ref",
    "device/vbd/51712/event-channel",
    "device/vif/0/backend",
    "device/vif/0/backend-id",
    "device/vif/0/state",
    "device/vif/0/mac",
    "device/vif/0/tx-ring-ref",
    "device/vif/0/rx-ring-ref",
    "device/vif/0/event-channel",
    "data/updated",
    "domid",
];

/// Watches of the control domain for one guest.
const WATCHED: &[&str] = &["device/vbd/51712/state", "device/vif/0/state", "control/shutdown"];

const READ: u32 = 2;
const WATCH: u32 = 4;
const START: u32 = 6;
const END: u32 = 7;
const WRITE: u32 = 11;
const SET_PERMS: u32 = 14;
const EVENT: u32 = 15;
const ERROR: u32 = 16;

/// Measures both and prints the table.
pub fn run() -> Result<()> {
    setup::run()?;
    let packages = Packages::fetch()?;
    let programs = [Daemon::ours()?, Daemon::debians(&packages.dom0)?];
    println!(
        "{:<12} {:>8} {:>12} {:>12} {:>7} {:>10} {:>10} {:>7}",
        "request", "domains", "Radon /s", "C /s", "ratio", "Radon us", "C us", "ratio"
    );
    for domains in DOMAINS {
        let mut best = [[Figure::default(); WORK.len()]; 2];
        let mut running = Vec::new();
        for program in &programs {
            let daemon = program.start()?;
            daemon.fill(*domains)?;
            running.push(daemon);
        }
        for _ in 0..TURNS {
            for (which, work) in WORK.iter().enumerate() {
                for (daemon, best) in running.iter().zip(&mut best) {
                    let figure = daemon.measure(work, *domains)?;
                    best[which].rate = best[which].rate.max(figure.rate);
                    best[which].cpu = best[which].cpu.min(figure.cpu);
                }
            }
        }
        for (which, work) in WORK.iter().enumerate() {
            let (ours, theirs) = (best[0][which], best[1][which]);
            println!(
                "{work:<12} {domains:>8} {:>12.0} {:>12.0} {:>7.2} {:>10.2} {:>10.2} {:>7.2}",
                ours.rate,
                theirs.rate,
                ours.rate / theirs.rate,
                ours.cpu,
                theirs.cpu,
                ours.cpu / theirs.cpu
            );
        }
    }
    let _ = fs::remove_dir_all(base());
    Ok(())
}

/// Answers in a second; microseconds of the daemon's processor time for each.
#[derive(Clone, Copy, Debug)]
struct Figure {
    rate: f64,
    cpu: f64,
}

impl Default for Figure {
    fn default() -> Self {
        Self { rate: 0.0, cpu: f64::INFINITY }
    }
}

/// How to start a daemon.
struct Daemon {
    program: PathBuf,
    environment: Vec<(&'static str, PathBuf)>,
    arguments: &'static [&'static str],
    dir: PathBuf,
}

impl Daemon {
    fn ours() -> Result<Self> {
        let arguments = &["--no-domain-init", "--no-fork"];
        Ok(Self { program: store::build()?, environment: Vec::new(), arguments, dir: dir("radon")? })
    }

    fn debians(tree: &Path) -> Result<Self> {
        let dir = dir("xenstored")?;
        let WithoutXen { program, shim, libraries } = WithoutXen::build(tree, &dir)?;
        let environment = vec![("LD_PRELOAD", shim), ("LD_LIBRARY_PATH", libraries)];
        Ok(Self { program, environment, arguments: &["--no-fork"], dir })
    }

    fn start(&self) -> Result<Running> {
        let socket = self.dir.join("socket");
        let _ = fs::remove_file(&socket);
        let _ = fs::remove_file(self.dir.join("journal"));
        let mut command = Command::new(&self.program);
        command.args(self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("XENSTORED_RUNDIR", &self.dir).env("XENSTORED_ROOTDIR", &self.dir);
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        let child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        let running = Running { child, socket };
        let end = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(&running.socket).is_err() {
            if Instant::now() > end {
                bail!("{} does not answer", self.program.display());
            }
            std::thread::yield_now();
        }
        Ok(running)
    }
}

/// A folder in memory, as /run is.
fn base() -> PathBuf {
    let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { paths::cache() };
    base.join(format!("radon-bench-{}", std::process::id()))
}

fn dir(name: &str) -> Result<PathBuf> {
    let dir = base().join(name);
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

struct Running {
    child: Child,
    socket: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn node(domain: u32, name: &str) -> String {
    format!("/local/domain/{}/{name}", domain + 1)
}

impl Running {
    fn client(&self) -> Result<Client> {
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Client { stream, bytes: Vec::new() })
    }

    /// Processor time the daemon has had, in nanoseconds.
    fn cpu(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.child.id()))?;
        text.split_whitespace().next().and_then(|n| n.parse().ok()).context("no schedstat")
    }

    fn fill(&self, domains: u32) -> Result<()> {
        let mut client = self.client()?;
        for domain in 0..domains {
            let home = format!("/local/domain/{}", domain + 1);
            client.ask(WRITE, 0, format!("{home}\0").as_bytes())?;
            client.ask(SET_PERMS, 0, format!("{home}\0n0\0r{}\0", domain + 1).as_bytes())?;
            for name in NODES {
                client.ask(WRITE, 0, format!("{}\0some value", node(domain, name)).as_bytes())?;
            }
        }
        Ok(())
    }

    fn measure(&self, work: &str, domains: u32) -> Result<Figure> {
        let mut client = self.client()?;
        let mut watcher = self.client()?;
        if work == "watch" {
            for domain in 0..domains {
                for name in WATCHED {
                    watcher.ask(WATCH, 0, format!("{}\0token\0", node(domain, name)).as_bytes())?;
                    watcher.event()?;
                }
            }
        }
        let (begun, before) = (Instant::now(), self.cpu()?);
        let mut count = 0u32;
        while begun.elapsed() < TURN {
            // Any order will do, as long as both get the same.
            let domain = count.wrapping_mul(7919) % domains;
            let name = NODES[count.wrapping_mul(31) as usize % NODES.len()];
            let path = node(domain, name);
            match work {
                "read" => drop(client.ask(READ, 0, format!("{path}\0").as_bytes())?),
                "write" => drop(client.ask(WRITE, 0, format!("{path}\0value {count}").as_bytes())?),
                "transaction" => client.transaction(domain, count)?,
                _ => {
                    let watched = node(domain, WATCHED[count as usize % WATCHED.len()]);
                    client.ask(WRITE, 0, format!("{watched}\0{count}").as_bytes())?;
                    watcher.event()?;
                }
            }
            count += 1;
        }
        let (time, cpu) = (begun.elapsed().as_secs_f64(), self.cpu()?.saturating_sub(before));
        Ok(Figure { rate: f64::from(count) / time, cpu: cpu as f64 / 1000.0 / f64::from(count) })
    }
}

struct Client {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Client {
    fn message(&mut self) -> Result<(u32, Vec<u8>)> {
        loop {
            if let Some((head, rest)) = self.bytes.split_at_checked(16) {
                let word = |n: usize| u32::from_le_bytes([head[n], head[n + 1], head[n + 2], head[n + 3]]);
                let (kind, length) = (word(0), word(12) as usize);
                if let Some(payload) = rest.get(..length) {
                    let payload = payload.to_vec();
                    self.bytes.drain(..16 + length);
                    return Ok((kind, payload));
                }
            }
            let mut some = [0; 8192];
            match self.stream.read(&mut some)? {
                0 => bail!("the daemon has hung up"),
                count => self.bytes.extend_from_slice(&some[..count]),
            }
        }
    }

    fn ask(&mut self, kind: u32, tx: u32, payload: &[u8]) -> Result<Vec<u8>> {
        let words = [kind, 1, tx, payload.len() as u32];
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        bytes.extend_from_slice(payload);
        self.stream.write_all(&bytes)?;
        match self.message()? {
            (ERROR, payload) => bail!("request {kind}: {}", String::from_utf8_lossy(&payload)),
            (_, payload) => Ok(payload),
        }
    }

    fn event(&mut self) -> Result<()> {
        match self.message()? {
            (EVENT, _) => Ok(()),
            (kind, _) => bail!("a message of kind {kind} instead of an event"),
        }
    }

    /// What a device's driver does when it connects: reads two nodes and writes three.
    fn transaction(&mut self, domain: u32, count: u32) -> Result<()> {
        let reply = self.ask(START, 0, b"\0")?;
        let id = String::from_utf8_lossy(&reply).trim_end_matches('\0').parse()?;
        for name in ["device/vbd/51712/backend", "device/vbd/51712/backend-id"] {
            self.ask(READ, id, format!("{}\0", node(domain, name)).as_bytes())?;
        }
        for name in ["device/vbd/51712/ring-ref", "device/vbd/51712/event-channel", "device/vbd/51712/state"]
        {
            self.ask(WRITE, id, format!("{}\0{count}", node(domain, name)).as_bytes())?;
        }
        self.ask(END, id, b"T\0").map(drop)
    }
}
