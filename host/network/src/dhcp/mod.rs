//! Addresses for guests: DHCP (RFC 2131, RFC 2132).
//!
//! | module | the noun |
//! |---|---|
//! | [`message`] | a message, read from and written to untrusted bytes |
//! | [`lease`] | who has which address: pure, takes the time as an argument |
//! | [`journal`] | the leases on disk |

pub mod journal;
pub mod lease;
pub mod message;
pub mod server;

pub(crate) use journal::LeaseFile;
