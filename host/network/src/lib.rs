//! Networks of a Xen host: declared in one file, made by the kernel, served to guests.
//!
//! What the rest of the host layer uses is small:
//!
//! ```no_run
//! # use radon_network::{Interface, Network, Networks};
//! # fn main() -> Result<(), radon_network::Error> {
//! let networks = Networks::open("/var/lib/radon/networks".as_ref())?;
//! networks.declare_network(&"office".parse()?, Network::new("br-office".parse()?))?;
//! let nic = Interface::new("office".parse()?, "00:16:3e:01:02:03".parse()?);
//! let nic = networks.declare_interface(&"vif5.0".parse()?, nic)?; // now with an address, if the network gives any
//! networks.remove_interface(&"vif5.0".parse()?)?;
//! networks.remove_network(&"office".parse()?)?;
//! # Ok(())
//! # }
//! ```
//!
//! Each of these writes down what is to be, then makes the kernel's state equal to it, by netlink and in one step of the packet
//! filter. Whoever is killed in between leaves a state that the next call, [`Networks::reconcile`] or a running
//! [`serve`](service::serve) completes; a guest can at no moment do more than it may.
//!
//! | module | the noun |
//! |---|---|
//! | [`network`], [`interface`], [`declared`] | what there is to be, and its file |
//! | [`observed`] | what the kernel has |
//! | [`plan`](mod@plan), [`op`] | the changes between the two: pure |
//! | [`rules`] | the packet filter's rules: pure but for [`rules::apply`] |
//! | `kernel` | netlink |
//! | [`dhcp`], [`dns`], [`metadata`] | what guests are told: readers of untrusted bytes, pure |
//! | [`host`] | the host's own address: an interface, a route, a DHCP client |
//! | [`service`] | what serves guests while it runs |
#![forbid(unsafe_code)]

pub mod declared;
pub mod dhcp;
pub mod dns;
mod error;
pub mod host;
pub mod interface;
mod kernel;
mod mac;
pub mod metadata;
mod name;
pub mod network;
mod networks;
pub mod observed;
pub mod op;
pub mod plan;
mod prefix;
pub mod rules;
pub mod service;

pub use declared::Declared;
pub use error::{Error, Result};
pub use interface::{Guard, Interface, Metadata, Rate, Rates};
pub use mac::Mac;
pub use name::{DomainName, HostName, LinkName, NetworkName};
pub use network::{LEASE_SECONDS, Network, Outside, Overlay, Subnet, Uplink, VXLAN_PORT};
pub use networks::{DEFAULT_DIR, Networks, State};
pub use op::Op;
pub use prefix::{Prefix, Range};
