//! What is asked of a running guest through the store, and what it tells about itself.

use crate::error::{Error, Result, XenContext};
use crate::nodes;
use crate::task::{Progress, Step};
use crate::wait::{self, Patience};
use radon_store::client::{self, Tx, Xenstore};
use radon_xen::privcmd::Privcmd;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a guest may take to acknowledge.
const ANSWER: Duration = Duration::from_secs(30);
/// After how long a guest that has acknowledged, and goes on, is asked again.
const AGAIN: Duration = Duration::from_secs(20);

/// How a guest is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Power off.
    PowerOff,
    /// Reboot.
    Reboot,
    /// Suspend itself.
    Suspend,
}

impl Request {
    fn word(self) -> &'static str {
        match self {
            Self::PowerOff => "poweroff",
            Self::Reboot => "reboot",
            Self::Suspend => "suspend",
        }
    }
}

/// Why a guest has ended (`SHUTDOWN_*` of `sched.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It powered off.
    PowerOff,
    /// It wants to start again.
    Reboot,
    /// It has suspended itself, as it was asked to.
    Suspend,
    /// It crashed, or its watchdog rang, or something unknown.
    Other(u8),
}

impl From<u8> for End {
    fn from(code: u8) -> Self {
        match code {
            0 => Self::PowerOff,
            1 => Self::Reboot,
            2 => Self::Suspend,
            code => Self::Other(code),
        }
    }
}

/// Asks a guest to end and waits until it has.
pub fn ask(
    xen: &Privcmd,
    store: &mut Xenstore,
    domid: u16,
    request: Request,
    limit: Duration,
    progress: &mut dyn Progress,
) -> Result<()> {
    let control = format!("{}/control", nodes::domain_path(domid));
    let path = format!("{control}/shutdown");
    let has_ended = || -> Result<Option<()>> {
        let status = xen.domain_status(domid).xen("tell the domain's state")?;
        Ok(status.is_none_or(|s| s.shutdown.is_some() || s.dying).then_some(()))
    };
    progress.at(Step::AskGuest)?;
    let feature = format!("{control}/feature-{}", request.word());
    let patience = Patience {
        who: "the guest",
        what: "say that it can be asked (is it still starting, or has it no driver for it? `destroy` works always)",
        limit: ANSWER.min(limit),
    };
    wait::until(store, &feature, patience, progress, |store| {
        let ready = store.read(Tx::NONE, &feature)?.as_deref() == Some("1");
        Ok(if ready { Some(()) } else { has_ended()? })
    })?;
    store.write(Tx::NONE, &path, request.word())?;
    progress.at(Step::AwaitAnswer)?;
    let patience = Patience { who: "the guest", what: "acknowledge", limit: ANSWER.min(limit) };
    let answered = wait::until(store, &path, patience, progress, |store| {
        let empty = store.read(Tx::NONE, &path)?.is_none_or(|v| v.is_empty());
        Ok(if empty { Some(()) } else { has_ended()? })
    });
    if let Err(error) = answered {
        take_back(store, &path, request)?;
        return Err(error);
    }
    progress.at(Step::AwaitEnd)?;
    let begun = Instant::now();
    loop {
        let left = limit.saturating_sub(begun.elapsed());
        let patience = Patience { who: "the guest", what: "end", limit: AGAIN.min(left) };
        match wait::until(store, "@releaseDomain", patience, progress, |_| has_ended()) {
            // Linux acknowledges a request and forgets it while it boots. One that does what it was asked to ignores another.
            Err(Error::Timeout { .. }) if left > AGAIN => {
                if store.read(Tx::NONE, &path)?.is_none_or(|v| v.is_empty()) {
                    store.write(Tx::NONE, &path, request.word())?;
                }
            }
            ended => {
                take_back(store, &path, request)?;
                return ended.map_err(|error| match error {
                    Error::Timeout { who, what, .. } => {
                        Error::Timeout { who, what, seconds: limit.as_secs() }
                    }
                    other => other,
                });
            }
        }
    }
}

/// What a guest has not taken is taken back, so that it does not do it at some later time.
fn take_back(store: &mut Xenstore, path: &str, request: Request) -> client::Result<()> {
    store.transaction(|store, tx| match store.read(tx, path)? {
        Some(word) if word == request.word() => store.write(tx, path, ""),
        _ => Ok(()),
    })
}

/// What a guest tells: by its agent below `attr` and `data`, and by what it uses.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Metrics {
    /// Memory that it has, KiB.
    pub memory_kib: u64,
    /// vCPUs that are online.
    pub online_vcpus: u32,
    /// Processor time, ns.
    pub cpu_time_ns: u64,
    /// The guest's own words, by path below its directory. A guest may write anything there.
    pub told: BTreeMap<String, String>,
}

/// Entries of a guest's own words that are read at most.
const MOST_WORDS: usize = 256;

/// Collects them.
pub fn metrics(xen: &Privcmd, store: &mut Xenstore, domid: u16) -> Result<Metrics> {
    let unknown = || Error::Unknown { what: "domain", name: domid.to_string() };
    let status = xen.domain_status(domid).xen("tell the domain's state")?.ok_or_else(unknown)?;
    let mut told = BTreeMap::new();
    let mut next: Vec<String> = ["attr", "data", "drivers"].map(str::to_owned).to_vec();
    while let Some(name) = next.pop() {
        let path = format!("{}/{name}", nodes::domain_path(domid));
        for child in store.list(Tx::NONE, &path)? {
            if told.len() + next.len() < MOST_WORDS {
                next.push(format!("{name}/{child}"));
            }
        }
        if let Some(value) = store.read(Tx::NONE, &path)?.filter(|v| !v.is_empty()) {
            told.insert(name, value);
        }
    }
    Ok(Metrics {
        memory_kib: status.pages * 4,
        online_vcpus: status.online_vcpus,
        cpu_time_ns: status.cpu_time_ns,
        told,
    })
}
