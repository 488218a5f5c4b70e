//! Where messages go: standard error in the foreground, the system log in the background; requests to a trace file.

use log::{LevelFilter, Log, Metadata, Record};
use radon_linux::messages::Messages;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Target of the lines that tell every request.
pub const TRACE: &str = "trace";

struct Logger {
    messages: Messages,
    trace: Mutex<Trace>,
    tracing: AtomicBool,
}

#[derive(Default)]
struct Trace {
    path: Option<PathBuf>,
    file: Option<File>,
}

static LOGGER: std::sync::OnceLock<Logger> = std::sync::OnceLock::new();

/// Sets logging up, once.
pub fn start(foreground: bool, verbose: bool, trace_file: Option<&Path>) {
    let logger = LOGGER.get_or_init(|| Logger {
        messages: Messages::open("radon-stored", foreground),
        trace: Mutex::default(),
        tracing: AtomicBool::new(false),
    });
    let _ = log::set_logger(logger);
    log::set_max_level(if verbose { LevelFilter::Debug } else { LevelFilter::Info });
    if let Some(path) = trace_file {
        trace_to(path);
    }
}

/// Whether requests are traced.
pub fn is_tracing() -> bool {
    LOGGER.get().is_some_and(|l| l.tracing.load(Ordering::Relaxed))
}

/// Traces requests to this file from now on.
pub fn trace_to(path: &Path) {
    if let Some(logger) = LOGGER.get()
        && let Ok(mut trace) = logger.trace.lock()
    {
        trace.path = Some(path.to_owned());
    }
    trace(true);
}

/// Opens the trace file anew (after it was rotated, say), or closes it.
pub fn trace(on: bool) {
    let Some(logger) = LOGGER.get() else { return };
    let Ok(mut trace) = logger.trace.lock() else { return };
    trace.file = None;
    if let (true, Some(path)) = (on, &trace.path) {
        match OpenOptions::new().create(true).append(true).open(path) {
            Ok(file) => trace.file = Some(file),
            Err(error) => eprintln!("radon-stored: cannot trace to {}: {error}", path.display()),
        }
    }
    logger.tracing.store(trace.file.is_some(), Ordering::Relaxed);
}

/// One line for the trace file; the time stands before it, in seconds since 1970.
pub fn trace_line(line: &str) {
    if let Some(logger) = LOGGER.get()
        && let Ok(mut trace) = logger.trace.lock()
        && let Some(file) = &mut trace.file
    {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let _ = writeln!(file, "{}.{:06} {line}", since.as_secs(), since.subsec_micros());
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.messages.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.messages.log(record);
            trace_line(&format!("{}: {}", record.level(), record.args()));
        }
    }

    fn flush(&self) {}
}
