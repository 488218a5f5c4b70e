//! What the host layer asks of dom0's Linux besides Xen's device nodes: small, and safe outside.
//!
//! | module | through | the noun |
//! |---|---|---|
//! | [`loopdev`] | `/dev/loop-control` | a file as a block device |
//! | [`block`] | a disk's device node | its partitions |
//! | [`uring`] | `io_uring` | many operations on files at once |
//! | [`fiemap`] | `FS_IOC_FIEMAP` | where a file's bytes lie |
//! | [`reflink`] | `FICLONERANGE`, `BLKDISCARD` | shared blocks; blocks that nobody needs |
//! | [`link`] | netlink | network interfaces and their bridges |
//! | [`usage`] | sysfs | what guests have read, written, sent and received |
//! | [`service`] | processes, locks, sockets | a program that serves: background, lock, readiness |
//! | [`mailbox`] | eventfd | messages from one thread to another that waits for descriptors |
//! | [`messages`] | standard error, `/dev/log` | what it says |
//! | [`terminal`] | termios | a terminal, raw for a while |
//! | [`clock`] | | times for people |

pub mod block;
pub mod clock;
pub mod fiemap;
pub mod link;
pub mod loopdev;
pub mod mailbox;
pub mod messages;
pub mod reflink;
pub mod service;
pub mod terminal;
pub mod uring;
pub mod usage;
