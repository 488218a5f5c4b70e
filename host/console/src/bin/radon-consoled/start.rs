//! From the command line to the loop.

use crate::options::Options;
use radon_console::daemon::{Daemon, Ears, Settings};
use radon_console::discovery;
use radon_console::logs::Hypervisor;
use radon_console::machine::Xen;
use radon_linux::mailbox::mailbox;
use radon_linux::messages::Messages;
use radon_linux::service;
use radon_xen::privcmd::Privcmd;
use std::error::Error;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, OnceLock};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Serves.
pub fn run(options: &Options) -> Result<()> {
    if !options.interactive && !options.background {
        service::go_to_background("--background")?;
        return Ok(());
    }
    static MESSAGES: OnceLock<Messages> = OnceLock::new();
    let messages = MESSAGES.get_or_init(|| Messages::open("radon-consoled", options.interactive));
    let _ = log::set_logger(messages);
    log::set_max_level(if options.verbose { log::LevelFilter::Info } else { log::LevelFilter::Warn });
    service::raise_file_limit();
    for folder in [&options.run_dir, &options.history_dir] {
        private_folder(folder)?;
    }
    let _lock = service::lock(&options.run_dir.join("console.lock"))?;
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
    let ears = Ears { found, terminals, listener: service::listen(&options.socket())?, hangup, hypervisor };
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
    service::ready(options.pid_file.as_deref(), options.background)?;
    loop {
        daemon.turn(None)?;
    }
}

/// A folder that only root looks into: consoles show what is typed, passwords among it.
fn private_folder(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    Ok(made.map_err(|e| format!("{}: {e}", path.display()))?)
}
