//! dom0's Linux: what it has (`read`), and the single changes that bring it nearer to what is declared (`change`).

mod change;
mod netlink;
mod read;
mod shaping;

pub(crate) use change::{execute, index};
pub(crate) use netlink::{CREATE, Netlink, REPLACE, watch_links};
pub(crate) use read::observe;
