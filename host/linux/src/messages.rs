//! Where a service's messages go: standard error in the foreground, the system log in the background.

use log::{Level, Log, Metadata, Record};
use std::io::Write;
use std::os::unix::net::UnixDatagram;

/// A logger.
#[derive(Debug)]
pub struct Messages {
    /// Stands before each.
    program: &'static str,
    /// Without a system log, standard error.
    system: Option<UnixDatagram>,
}

impl Messages {
    /// A program's on standard error.
    pub const fn to_standard_error(program: &'static str) -> Self {
        Self { program, system: None }
    }

    /// A program's; in the background to the system log, if there is one.
    pub fn open(program: &'static str, foreground: bool) -> Self {
        let system = || {
            let socket = UnixDatagram::unbound().ok()?;
            socket.connect("/dev/log").ok()?;
            Some(socket)
        };
        Self { program, system: if foreground { None } else { system() } }
    }
}

impl Log for Messages {
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
        let program = self.program;
        match &self.system {
            // Facility 3 of syslog: daemons.
            Some(socket) => {
                let process = std::process::id();
                let line = format!("<{}>{program}[{process}]: {}", 24 + priority, record.args());
                let _ = socket.send(line.as_bytes());
            }
            None => drop(writeln!(std::io::stderr(), "{program}: {}", record.args())),
        }
    }

    fn flush(&self) {}
}
