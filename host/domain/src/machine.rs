//! The state machine of a VM. Pure.
//!
//! ```text
//!                 start                       pause
//!   (Halted) ─────────────────► (Running) ──────────► (Paused)
//!      ▲ ▲                       │  │  ▲ ◄──────────────┘ │
//!      │ │  shutdown, destroy,   │  │  │     unpause       │
//!      │ └── ended [destroy] ────┘  │  └── reboot,         │
//!      │                            │      ended [restart] │
//!      │            ended [preserve]│                      │
//!      │                            ▼                      │
//!      ├──────── destroy ────── (Preserved)                │
//!      └──────── destroy ──────────────────────────────────┘
//!
//!   (Running) ── suspend ──► (Suspended) ── resume ──► (Running)
//!                                 └──────── destroy ─► (Halted)
//! ```
//! *ended*: the guest powered off, rebooted or crashed by itself; what is in brackets is what its configuration wants then.
//!
//! What the record says is what is to be so: an operation is cut anywhere, and the next start of the program makes it so
//! (`recover.rs`). Therefore an operation that builds something up changes the state last, and one that takes something away
//! changes it first; a restart leaves it as it is.

use crate::config::Action;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a VM is to be doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// It has no domain.
    Halted,
    /// Its domain runs.
    Running,
    /// Its domain does not run for now.
    Paused,
    /// Its guest has ended; the domain is kept to be looked at.
    Preserved,
    /// It has no domain; the guest's state is in a file.
    Suspended,
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Halted => "halted",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Preserved => "preserved",
            Self::Suspended => "suspended",
        })
    }
}

/// What can be done with a VM as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Build its domain and let it run.
    Start,
    /// Stop its vCPUs.
    Pause,
    /// Let them go on.
    Unpause,
    /// Ask the guest to power off.
    Shutdown,
    /// Ask the guest to reboot.
    Reboot,
    /// Take the domain away, whatever the guest is doing.
    Destroy,
    /// The guest has ended by itself; this is what follows.
    Ended(Action),
    /// Forget the VM.
    Delete,
    /// Put the guest's state into a file.
    Suspend,
    /// Go on from there.
    Resume,
}

/// The states from which an event is possible, for a message.
pub const fn needs(event: Event) -> &'static str {
    match event {
        Event::Start | Event::Delete => "halted",
        Event::Pause | Event::Shutdown | Event::Reboot | Event::Suspend => "running",
        Event::Resume => "suspended",
        Event::Unpause => "paused",
        Event::Destroy => "not halted",
        Event::Ended(_) => "running or paused",
    }
}

/// The state after an event; `None` if it is not possible now.
pub const fn next(power: Power, event: Event) -> Option<Power> {
    match (power, event) {
        (Power::Halted, Event::Start) => Some(Power::Running),
        (Power::Halted, Event::Delete) => Some(Power::Halted),
        (Power::Running, Event::Pause) => Some(Power::Paused),
        (Power::Paused, Event::Unpause) => Some(Power::Running),
        (Power::Running, Event::Shutdown) => Some(Power::Halted),
        (Power::Running, Event::Reboot) => Some(Power::Running),
        (Power::Running, Event::Suspend) => Some(Power::Suspended),
        (Power::Suspended, Event::Resume) => Some(Power::Running),
        (Power::Running | Power::Paused | Power::Preserved | Power::Suspended, Event::Destroy) => {
            Some(Power::Halted)
        }
        (Power::Running | Power::Paused, Event::Ended(action)) => Some(match action {
            Action::Destroy => Power::Halted,
            Action::Restart => Power::Running,
            Action::Preserve => Power::Preserved,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POWERS: [Power; 5] =
        [Power::Halted, Power::Running, Power::Paused, Power::Preserved, Power::Suspended];
    const EVENTS: [Event; 12] = [
        Event::Start,
        Event::Pause,
        Event::Unpause,
        Event::Shutdown,
        Event::Reboot,
        Event::Destroy,
        Event::Ended(Action::Destroy),
        Event::Ended(Action::Restart),
        Event::Ended(Action::Preserve),
        Event::Delete,
        Event::Suspend,
        Event::Resume,
    ];

    /// The whole machine: a row per state, a letter per event for the state after it.
    #[test]
    fn the_table() {
        let letter = |power| match power {
            None => '-',
            Some(Power::Halted) => 'h',
            Some(Power::Running) => 'r',
            Some(Power::Paused) => 'p',
            Some(Power::Preserved) => 'k',
            Some(Power::Suspended) => 's',
        };
        let rows = POWERS.map(|p| EVENTS.iter().map(|e| letter(next(p, *e))).collect::<String>());
        assert_eq!(rows, ["r--------h--", "-p-hrhhrk-s-", "--r--hhrk---", "-----h------", "-----h-----r"]);
    }

    #[test]
    fn every_state_can_be_reached_and_left() {
        for power in POWERS {
            assert!(EVENTS.iter().any(|e| next(power, *e).is_some()));
            assert!(POWERS.iter().any(|from| EVENTS.iter().any(|e| next(*from, *e) == Some(power))));
        }
    }

    #[test]
    fn whatever_is_not_halted_can_be_destroyed() {
        for power in POWERS {
            assert_eq!(next(power, Event::Destroy).is_some(), power != Power::Halted);
        }
    }
}
