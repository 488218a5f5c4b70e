//! XenAPI as its clients use it: `radond` on this machine over a real XFS, driven by the SDK from PyPI.

use super::Report;
use crate::packages::{self, Packages};
use crate::scenario::{self, Event, Options, Outcome};
use crate::xfs::Xfs;
use crate::{guest, paths, program, shell};
use anyhow::{Context, Result, anyhow, bail};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The SDK's version: the tests are to mean the same tomorrow.
const SDK: &str = "XenAPI==26.21.1";
/// The client of WebSockets that is none of ours.
const WEBSOCKETS: &str = "websockets==15.0.1";
/// The VNC viewer that is none of ours.
const VIEWER: &str = "vncdotool==1.4.2";
/// How long the clients may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs the test on this machine, if the filter wants it.
pub fn run(report: &mut Report) {
    report.run("xenapi", "sdk", sdk);
}

/// The same API in dom0 of an emulated machine, with VMs: if the filter wants it.
pub fn machine(report: &mut Report, options: &Options) {
    report.run("system-xenapi", "vms", || vms(options));
}

/// Python with the SDK, in a folder of its own below the target directory.
fn python() -> Result<PathBuf> {
    let venv = paths::cache().join("xenapi-sdk");
    let (python, done) = (venv.join("bin/python"), venv.join(format!("{SDK} {WEBSOCKETS} {VIEWER}")));
    if done.exists() && python.exists() {
        return Ok(python);
    }
    let _ = fs::remove_dir_all(&venv);
    shell::quiet(shell::command("python3").args(["-m", "venv"]).arg(&venv))?;
    shell::quiet(Command::new(venv.join("bin/pip")).args(["install", "--quiet", SDK, WEBSOCKETS, VIEWER]))
        .context("the SDK cannot be installed from PyPI (is the network up?)")?;
    File::create(&done)?;
    Ok(python)
}

fn sdk() -> Result<()> {
    let python = python()?;
    let mut cargo = Command::new(env!("CARGO"));
    shell::loud(cargo.current_dir(paths::root()).args([
        "build",
        "--quiet",
        "-p",
        "radon-daemon",
        "-p",
        "radon-cli",
    ]))?;
    let mount = Xfs::new(paths::target().join("xenapi"), 2 << 30)?;
    let state = mount.base().join("radond");
    fs::create_dir_all(&state)?;
    let script = paths::root().join("tests/xenapi/run.py");
    // Networks of its own: the bridges that the daemon makes are not this machine's.
    let mut clients = shell::command("unshare");
    clients.args(["--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]).arg(python);
    clients.env("PYTHONDONTWRITEBYTECODE", "1").arg(script).arg(paths::target().join("debug/radond"));
    clients.arg(paths::target().join("debug/radon"));
    clients.arg(&state).arg(mount.folder("one")?).arg(mount.folder("two")?);
    shell::within(LIMIT, &clients, clients_pass).with_context(|| log(&state))
}

fn clients_pass(clients: &mut Command) -> Result<()> {
    let said = shell::output(clients)?;
    if !said.contains("xenapi: all passed") {
        bail!("the clients did not come to their end:\n{said}");
    }
    said.lines().for_each(|line| println!("  {line}"));
    Ok(())
}

/// Bytes of the disk for volumes.
const DISK: u64 = 1 << 30;
/// How long the machine may run, on a quiet host.
const MACHINE_LIMIT: Duration = Duration::from_secs(800);

/// A port of this machine that nobody has right now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn vms(options: &Options) -> Result<()> {
    let python = python()?;
    let packages = Packages::with_kernel(options.kernel)?;
    let guest = guest::disk(&packages)?;
    let mut cargo = Command::new(env!("CARGO"));
    shell::loud(cargo.current_dir(paths::root()).args(["build", "--quiet", "-p", "radon-cli"]))?;
    let mut extra = packages::networks()?;
    for (package, name) in [
        ("radon-daemon", "radond"),
        ("radon-cli", "radon"),
        ("radon-network", "radon-network"),
        ("radon-block", "radon-block"),
        ("radon-framebuffer", "radon-vnc"),
    ] {
        extra.push((format!("usr/local/sbin/{name}"), fs::read(program::build(package, name)?)?));
    }
    let options =
        Options { cpus: 2, dom0_cpus: Some(1), dom0_args: "swiotlb=force".into(), ..options.clone() };
    let mut machine = options.prepare("xenapi", &extra)?;
    let dir = paths::target().join("xenapi-machine");
    fs::create_dir_all(&dir)?;
    let disk = dir.join("volumes.img");
    File::create(&disk)?.set_len(DISK)?;
    shell::quiet(shell::command("mkfs.xfs").args(["-q", "-f", "-m", "reflink=1"]).arg(&disk))?;
    let (https, http) = (free_port()?, free_port()?);
    let forward = format!("hostfwd=tcp:127.0.0.1:{https}-:443,hostfwd=tcp:127.0.0.1:{http}-:8080");
    machine.extra.extend([
        "-drive".to_owned(),
        format!("if=none,id=volumes,format=raw,cache=unsafe,file={}", disk.display()),
        "-device".to_owned(),
        "nvme,serial=volumes,drive=volumes".to_owned(),
        "-netdev".to_owned(),
        format!("user,id=net,{forward}"),
        "-device".to_owned(),
        "e1000e,netdev=net".to_owned(),
    ]);
    let limit = Duration::from_secs(options.limit).max(MACHINE_LIMIT);
    let mut run = machine.start("system-xenapi", limit)?;
    let mut clients: Option<Clients> = None;
    loop {
        // The machine's words go on into its log while the clients work.
        match run.line_or_pause(Duration::from_millis(200))? {
            None => {}
            Some(line) => match scenario::parse(&line) {
                Some(Event::Milestone(name)) if name.starts_with("xenapi ") => {
                    let password = name.trim_start_matches("xenapi ").trim().to_owned();
                    clients = Some(Clients::start(
                        &python,
                        [&https.to_string(), &http.to_string(), &password],
                        &guest,
                    )?);
                }
                Some(Event::Failed(cause)) => bail!("{cause}; {}", run.last_words()),
                Some(Event::Verdict { name, outcome: Outcome::Fail(why) }) => bail!("{name}: {why}"),
                Some(Event::Verdict { name, .. }) if name.starts_with("killed") => println!("  pass {name}"),
                _ => {}
            },
        }
        if let Some(done) = clients.as_mut().map(Clients::ended).transpose()?.flatten() {
            let _ = fs::remove_file(&disk);
            return done.with_context(|| format!("see {}", run.log().display()));
        }
    }
}

/// The clients of the machine, as a process; ended with the test.
struct Clients {
    process: Child,
    said: PathBuf,
}

impl Clients {
    fn start(python: &Path, arguments: [&str; 3], disk: &Path) -> Result<Self> {
        let said = paths::logs().join("system-xenapi-clients.log");
        let out = File::create(&said)?;
        let mut command = Command::new(python);
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(paths::root().join("tests/xenapi/guest.py"));
        command
            .args(arguments)
            .arg(disk)
            .arg(paths::target().join("debug/radon"))
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        Ok(Self { process: command.spawn().context("cannot start the clients")?, said })
    }

    /// What came of them, once they have ended.
    fn ended(&mut self) -> Result<Option<Result<()>>> {
        if self.process.try_wait()?.is_none() {
            return Ok(None);
        }
        let said = fs::read_to_string(&self.said)?;
        let verdicts = said.lines().filter(|l| l.starts_with("VERDICT"));
        verdicts.for_each(|line| println!("  {}", line.trim_start_matches("VERDICT ")));
        Ok(Some(if said.contains("xenapi: all passed") {
            Ok(())
        } else {
            Err(anyhow!("the clients said:\n{said}"))
        }))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The end of the daemon's log.
fn log(state: &Path) -> String {
    let text = fs::read_to_string(state.join("radond.log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(10).collect();
    format!("radond said last:\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
}
