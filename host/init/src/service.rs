//! The host's services: what runs, in which order, and when it is ready.

use crate::settings::Settings;
use std::path::Path;

/// When a service has come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// As soon as it runs.
    Started,
    /// When it says a line that begins so.
    Says(&'static str),
    /// When this socket accepts.
    Socket(&'static str),
    /// When it has ended without an error: it is done once, and not started again.
    Done,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name, also of its log.
    pub name: &'static str,
    /// Program and arguments.
    pub command: Vec<String>,
    /// When the next one may be started.
    pub ready: Ready,
    /// Seconds for its end after SIGTERM.
    pub stop_seconds: u64,
}

fn service(name: &'static str, command: &[&str], ready: Ready, stop_seconds: u64) -> Service {
    Service { name, command: command.iter().map(|w| (*w).to_owned()).collect(), ready, stop_seconds }
}

/// All, in the order of their start; they end in the opposite one.
pub fn all(settings: &Settings) -> Vec<Service> {
    let mut services = vec![
        service("address", &["/init", "address"], Ready::Started, 2),
        service("store", &["/usr/sbin/radon-stored", "--no-fork"], Ready::Socket("/run/xenstored/socket"), 5),
        service("store-nodes", &["/init", "store"], Ready::Done, 1),
        service("consoles", &["/usr/sbin/radon-consoled", "-i"], Ready::Socket("/run/radon/console.sock"), 5),
        service(
            "framebuffers",
            &["/usr/sbin/radon-vnc", "-i"],
            Ready::Socket("/run/radon/framebuffer.sock"),
            5,
        ),
        service("networks", &["/usr/sbin/radon-network", "serve"], Ready::Says("radon-network: serving"), 5),
        service("disks", &["/usr/sbin/radon-block", "serve"], Ready::Says("radon-block: serving"), 5),
        service(
            "radond",
            &["/usr/sbin/radond", "serve", "--https", &settings.https, "--disks", &settings.disks],
            Ready::Says("ready"),
            30,
        ),
    ];
    // A build of the image may leave a program out; what is not there is not tried for ever.
    services.retain(|s| s.command.first().is_some_and(|program| Path::new(program).exists()));
    services
}
