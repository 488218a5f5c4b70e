//! What can go wrong, with the cause and, where there is one, the cure.

use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation on a VM failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The hypervisor refused.
    #[error("the hypervisor refused to {what}: {source}")]
    Xen {
        /// What was asked for.
        what: &'static str,
        /// Its errno.
        source: io::Error,
    },
    /// The store refused, or is gone.
    #[error(transparent)]
    Store(#[from] radon_store::client::Error),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// dom0's kernel refused.
    #[error("dom0's kernel refused to {what}: {source}")]
    Kernel {
        /// What was asked for.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A declared network's state could not be changed.
    #[error("networks: {0}")]
    Network(Box<radon_network::Error>),
    /// The kernel image is none that can be started.
    #[error("{path}: {why}")]
    Image {
        /// Which image.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The configuration makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// No such VM, disk or interface.
    #[error("no {what} {name}")]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The VM's state does not allow it.
    #[error("VM {vm} is {is}; this needs it {needs}")]
    State {
        /// Which VM.
        vm: String,
        /// What it is.
        is: String,
        /// What it should be.
        needs: &'static str,
    },
    /// Somebody did not answer in time.
    #[error("{who} did not {what} within {seconds} s")]
    Timeout {
        /// Who.
        who: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        seconds: u64,
    },
    /// A back end gave up.
    #[error("the back end of {device} reports: {message}")]
    Device {
        /// Which device.
        device: String,
        /// Its words.
        message: String,
    },
    /// The task was cancelled.
    #[error("cancelled at step {0}")]
    Cancelled(String),
    /// The record of VMs cannot be read or written.
    #[error("the record of VMs: {0}")]
    Record(String),
}

/// Names what was asked of the hypervisor.
pub trait XenContext<T> {
    /// `what` completes "refused to ...".
    fn xen(self, what: &'static str) -> Result<T>;
}

impl<T> XenContext<T> for io::Result<T> {
    fn xen(self, what: &'static str) -> Result<T> {
        self.map_err(|source| Error::Xen { what, source })
    }
}
