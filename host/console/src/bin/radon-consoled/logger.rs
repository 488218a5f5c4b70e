//! Where messages go: standard error in the foreground, the system log in the background.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

struct Logger {
    /// Without a system log, standard error.
    system: Option<UnixDatagram>,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Sets logging up, once.
pub fn start(foreground: bool, verbose: bool) {
    let system = || {
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect("/dev/log").ok()?;
        Some(socket)
    };
    let system = if foreground { None } else { system() };
    let _ = log::set_logger(LOGGER.get_or_init(|| Logger { system }));
    log::set_max_level(if verbose { LevelFilter::Info } else { LevelFilter::Warn });
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let priority = match record.level() {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            _ => 7,
        };
        match &self.system {
            // Facility 3 of syslog: daemons.
            Some(socket) => {
                let process = std::process::id();
                let line = format!("<{}>radon-consoled[{process}]: {}", 24 + priority, record.args());
                let _ = socket.send(line.as_bytes());
            }
            None => drop(writeln!(std::io::stderr(), "radon-consoled: {}", record.args())),
        }
    }

    fn flush(&self) {}
}
