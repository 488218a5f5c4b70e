//! The store of a Xen host (xenstore): a small tree of names and values that kernels and tools share.
//!
//! All but [`daemon`] and [`client`] is the store without its plumbing: requests in, messages and journal records out, no input or
//! output, no clock. The program `radon-stored` puts it behind a socket and behind the rings of domains.
//!
//! | module | the noun |
//! |---|---|
//! | [`wire`] | messages as bytes |
//! | [`path`], [`perm`] | names; who may do what |
//! | [`tree`], [`children`] | the tree, which copies in constant time |
//! | [`transaction`] | snapshots, and what makes a commit fail |
//! | [`watch`] | watches by path |
//! | [`quota`] | limits and accounts |
//! | [`connection`] | a client, and what waits for it |
//! | [`store`], `ops` | all of it together, and the operations |
//! | [`record`], [`state`] | what survives a restart |
//! | [`client`] | a client of a store, ours or another |
//! | [`daemon`] | sockets, rings, the journal, and the loop: all that is not pure |
#![forbid(unsafe_code)]

pub mod children;
pub mod client;
pub mod connection;
pub mod daemon;
pub mod errno;
mod ops;
pub mod path;
pub mod perm;
pub mod quota;
pub mod record;
pub mod state;
pub mod store;
pub mod transaction;
pub mod tree;
pub mod watch;
pub mod wire;

pub use connection::ConnId;
pub use errno::Errno;
pub use perm::DomId;
pub use store::{Control, Host, Store};
