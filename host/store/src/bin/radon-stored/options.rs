//! The command line: xenstored's, as far as it means something here, and our own.

use clap::Parser;
use radon_store::quota::Limits;
use std::path::PathBuf;

/// The store of a Xen host: serves kernels over rings and tools over a socket.
///
/// Takes the place of xenstored. Goes to the background when it is ready, unless told otherwise. After a kill it goes
/// on from its journal; `--live-update` replaces a running one without a gap.
#[derive(Clone, Debug, Parser)]
#[command(name = "radon-stored", version, disable_help_flag = true, disable_version_flag = true)]
pub struct Options {
    /// Print help
    #[arg(short = 'H', long, short_alias = 'h', action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Print version
    #[arg(long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// Do not connect to Xen: serve the socket only
    #[arg(short = 'D', long)]
    pub no_domain_init: bool,
    /// Write the daemon's process number to this file
    #[arg(short = 'F', long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Stay in the foreground, and log to standard error
    #[arg(short = 'N', long)]
    pub no_fork: bool,
    /// Print the daemon's process number
    #[arg(short = 'P', long)]
    pub output_pid: bool,
    /// Trace every request to this file (reopened on SIGHUP)
    #[arg(short = 'T', long, value_name = "FILE")]
    pub trace_file: Option<PathBuf>,
    /// Nodes per guest
    #[arg(short = 'E', long, value_name = "N", default_value_t = Limits::default().nodes)]
    pub entry_nb: u32,
    /// Bytes per node of a guest
    #[arg(short = 'S', long, value_name = "N", default_value_t = Limits::default().node_size)]
    pub entry_size: u32,
    /// Watches per guest
    #[arg(short = 'W', long, value_name = "N", default_value_t = Limits::default().watches)]
    pub watch_nb: u32,
    /// Open transactions per guest
    #[arg(short = 't', long, value_name = "N", default_value_t = Limits::default().transactions)]
    pub transaction: u32,
    /// Permissions per node of a guest
    #[arg(short = 'A', long, value_name = "N", default_value_t = Limits::default().permissions)]
    pub perm_nb: u32,
    /// Characters of a path, not counting /local/domain/<domid>/
    #[arg(short = 'M', long, value_name = "N", default_value_t = Limits::default().path_max)]
    pub path_max: u32,
    /// A limit by name, as `xenstore-control quota` shows them
    #[arg(short = 'Q', long, value_name = "WHAT=N", value_parser = limit)]
    pub quota: Vec<(String, u32)>,
    /// A limit that is only warned about: memory
    #[arg(short = 'q', long, value_name = "WHAT=N", value_parser = limit)]
    pub quota_soft: Vec<(String, u32)>,
    /// Keep nodes of domains that are gone (they go to domain 0)
    #[arg(short = 'K', long)]
    pub keep_orphans: bool,
    /// A further domain that may do everything
    #[arg(long, value_name = "DOMID")]
    pub priv_domid: Option<u16>,
    /// Log more
    #[arg(short = 'V', long)]
    pub verbose: bool,
    /// Folder of socket, journal and lock
    #[arg(long, value_name = "DIR", env = "XENSTORED_RUNDIR", default_value = "/run/xenstored")]
    pub run_dir: PathBuf,
    /// The socket, if not `socket` in the folder
    #[arg(long, value_name = "FILE", env = "XENSTORED_PATH")]
    pub socket: Option<PathBuf>,
    /// Keep no journal: a killed daemon's successor begins with an empty store
    #[arg(long)]
    pub no_journal: bool,
    /// Replace the running daemon by this program, and exit
    #[arg(short = 'U', long)]
    pub live_update: bool,
    /// Read a state from standard input; success means that this program can go on from it
    #[arg(long)]
    pub check_state: bool,
    /// Go on from a state, as the successor in a live update
    #[arg(long, value_name = "FD", hide = true)]
    pub resume_from: Option<i32>,
    /// In the background already
    #[arg(long, hide = true)]
    pub background: bool,
}

fn limit(text: &str) -> Result<(String, u32), String> {
    let (name, value) = text.split_once('=').ok_or("not WHAT=N")?;
    Ok((name.to_owned(), value.parse().map_err(|e| format!("{value}: {e}"))?))
}

impl Options {
    /// The socket's path.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.run_dir.join("socket"))
    }

    /// The limits that they ask for.
    pub fn limits(&self) -> Result<Limits, String> {
        let mut limits = Limits::default();
        let plain = [
            ("nodes", self.entry_nb),
            ("node-size", self.entry_size),
            ("watches", self.watch_nb),
            ("transactions", self.transaction),
            ("permissions", self.perm_nb),
            ("path-max", self.path_max),
        ];
        let named = |list: &[(String, u32)], soft| {
            list.iter().map(|(n, v)| (n.clone(), soft, *v)).collect::<Vec<_>>()
        };
        let plain = plain.map(|(name, value)| (name.to_owned(), false, value));
        let all = plain.into_iter().chain(named(&self.quota, false)).chain(named(&self.quota_soft, true));
        for (name, soft, value) in all {
            limits.set(&name, soft, value).map_err(|_| format!("bad limit: {name}={value}"))?;
        }
        Ok(limits)
    }
}
