//! Guests' text consoles.
//!
//! | module | the noun |
//! |---|---|
//! | [`ring`] | the ring in a page that a guest shares |
//! | [`pace`] | how often a guest may keep the daemon busy |
//! | [`history`], [`record`], [`file`](mod@file) | what a console said last; its records on disk; the file of them |
//! | [`pty`] | the terminal that `xl console` opens |
//! | [`logs`] | guests' logs and the hypervisor's, as `xenconsoled` writes them |
//! | [`machine`] | pages and event channels: of Xen, or of a test |
//! | [`discovery`] | consoles that the store tells of |
//! | [`life`] | one domain's console, served |
//! | [`request`], [`viewer`] | what a client of the socket asks; a client |
//! | [`daemon`] | all of it, in one loop |
//! | [`client`] | the client's end of the socket |
#![forbid(unsafe_code)]

pub mod client;
pub mod daemon;
pub mod discovery;
pub mod file;
pub mod history;
pub mod life;
pub mod logs;
pub mod machine;
pub mod pace;
pub mod pty;
pub mod record;
pub mod request;
pub mod ring;
pub mod viewer;
