//! Waits for other people: back ends, guests, the hypervisor.

use crate::error::{Error, Result};
use crate::task::Progress;
use radon_store::client::Xenstore;
use std::time::{Duration, Instant};

/// How often a condition is looked at that the store does not report (files of the kernel, the hypervisor's own state).
const TICK: Duration = Duration::from_millis(20);

/// Who is waited for, what for, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Patience<'a> {
    /// Who.
    pub who: &'a str,
    /// What is to happen: "did not ... within".
    pub what: &'static str,
    /// How long.
    pub limit: Duration,
}

/// Waits until `look` finds something; it is called again when a node below `path` changes, and every now and then.
pub fn until<T>(
    store: &mut Xenstore,
    path: &str,
    patience: Patience<'_>,
    progress: &dyn Progress,
    mut look: impl FnMut(&mut Xenstore) -> Result<Option<T>>,
) -> Result<T> {
    const TOKEN: &str = "radon-wait";
    let deadline = Instant::now() + patience.limit;
    store.watch(path, TOKEN)?;
    let result = loop {
        match look(store) {
            Ok(Some(found)) => break Ok(found),
            Ok(None) if progress.cancelled() => break Err(Error::Cancelled(patience.what.to_owned())),
            Ok(None) if Instant::now() >= deadline => {
                break Err(Error::Timeout {
                    who: patience.who.to_owned(),
                    what: patience.what,
                    seconds: patience.limit.as_secs(),
                });
            }
            Ok(None) => {}
            Err(error) => break Err(error),
        }
        if let Err(error) = store.next_event(deadline.min(Instant::now() + TICK)) {
            break Err(error.into());
        }
    };
    store.unwatch(path, TOKEN)?;
    result
}
