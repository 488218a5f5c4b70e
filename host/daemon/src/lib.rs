//! The host daemon: XenAPI over this host's volumes and domains.
//!
//! | module | the noun |
//! |---|---|
//! | [`database`] | objects and their fields; on disk, in one file, after every change |
//! | [`event`] | what changed since when |
//! | [`users`], [`session`] | who may log in; who has |
//! | [`app`] | all of the daemon's parts |
//! | [`dispatch`], [`implicit`] | from a request to its message; messages that follow from the data model |
//! | [`task`] | work that goes on behind the answer |
//! | [`messages`] | one file for each class: what its own messages do |
//! | [`storage`] | opened repositories |
//! | [`domains`] | the layer of domains below, as a trait |
//! | [`autostart`] | VMs that start with the host |
//! | [`server`] | HTTP, TLS, import and export of volumes |
#![forbid(unsafe_code)]

pub mod app;
pub mod autostart;
pub mod database;
pub mod dispatch;
pub mod domains;
pub mod event;
pub mod implicit;
pub mod messages;
pub mod reserve;
pub mod server;
pub mod session;
pub mod storage;
pub mod task;
pub mod users;
