//! The store's plumbing: sockets, rings, the journal, and the loop that serves them all.
//!
//! One thread. In each turn of [`server::Server`] every client with something to say is served a share, then the
//! journal is written, then what was to be sent is sent: so nothing that a client has seen is forgotten by a kill.

pub mod admin;
pub mod domains;
pub mod journal;
pub mod logger;
pub mod machine;
pub mod ring;
pub mod server;
pub mod socket;
pub mod takeover;
pub mod update;
