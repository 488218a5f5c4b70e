//! What the host layer asks of dom0's Linux besides Xen's device nodes: small, and safe outside.
//!
//! | module | through | the noun |
//! |---|---|---|
//! | [`loopdev`] | `/dev/loop-control` | a file as a block device |
//! | [`block`] | a disk's device node | its partitions |
//! | [`link`] | netlink | network interfaces and their bridges |

pub mod block;
pub mod link;
pub mod loopdev;
