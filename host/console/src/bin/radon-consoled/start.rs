//! From the command line to the loop.

use crate::logger;
use crate::options::Options;
use radon_console::daemon::{Daemon, Ears, Settings};
use radon_console::discovery;
use radon_console::logs::Hypervisor;
use radon_console::machine::Xen;
use radon_console::mailbox::mailbox;
use radon_xen::privcmd::Privcmd;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};
use std::error::Error;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Serves.
pub fn run(options: &Options) -> Result<()> {
    if !options.interactive && !options.background {
        return go_to_background();
    }
    logger::start(options.interactive, options.verbose);
    raise_file_limit();
    for folder in [&options.run_dir, &options.history_dir] {
        private_folder(folder)?;
    }
    let _lock = lock(&options.run_dir)?;
    let privcmd =
        Privcmd::open().map_err(|e| format!("/dev/xen/privcmd: {e} (is this dom0, and are you root?)"))?;
    let privcmd = Arc::new(privcmd);
    let logs = options.logs_guests() || options.logs_hypervisor();
    if logs {
        fs::create_dir_all(&options.log_dir).map_err(|e| format!("{}: {e}", options.log_dir.display()))?;
    }
    let hypervisor = options.logs_hypervisor().then(|| Hypervisor::open(privcmd.clone(), &options.log_dir));
    let hypervisor = hypervisor.transpose().map_err(|e| format!("the hypervisor's log: {e}"))?;
    let (hangup, ring) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGHUP, ring)?;
    let (found_post, found) = mailbox()?;
    let (terminals, terminals_box) = mailbox()?;
    let ears = Ears { found, terminals, listener: listen(options)?, hangup, hypervisor };
    let settings = Settings {
        histories: options.history_dir.clone(),
        most: options.history_size as usize,
        boot: radon_console::record::boot(),
        logs: options.logs_guests().then(|| options.log_dir.clone()),
    };
    let mut daemon = Daemon::new(Xen::open(privcmd.clone())?, settings, ears)?;
    std::thread::Builder::new()
        .name("discovery".into())
        .spawn(move || discovery::run(&privcmd, &found_post, &terminals_box))?;
    ready(options)?;
    loop {
        daemon.turn(None)?;
    }
}

/// A folder that only root looks into: consoles show what is typed, passwords among it.
fn private_folder(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    Ok(made.map_err(|e| format!("{}: {e}", path.display()))?)
}

/// Only one daemon may serve a folder.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("console.lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(|e| format!("{}: {e}", path.display()))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| "another radon-consoled is running")?;
    Ok(lock)
}

fn listen(options: &Options) -> Result<UnixListener> {
    let socket = options.socket();
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).map_err(|e| format!("{}: {e}", socket.display()))?;
    fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Three descriptors and a client or two for each guest.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Starts this program again as a process of its own, and waits until that is ready.
fn go_to_background() -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg("--background")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut said)?;
    }
    if said.contains("ready") {
        Ok(())
    } else {
        Err(format!("the daemon did not start: {}", child.wait()?).into())
    }
}

/// The daemon is ready: tells whoever waits for it.
fn ready(options: &Options) -> Result<()> {
    if let Some(path) = &options.pid_file {
        fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|e| format!("{}: {e}", path.display()))?;
    }
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET")
        && let Ok(socket) = UnixDatagram::unbound()
    {
        let _ = socket.send_to(b"READY=1", path);
    }
    if options.background {
        setsid().ok();
        io::stdout().write_all(b"ready\n")?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
    }
    Ok(())
}
