//! Guests' framebuffers, keyboards and pointers (`vfb`, `vkbd`), shown to VNC viewers.
//!
//! | module | the noun |
//! |---|---|
//! | [`geometry`] | size and layout of a picture in a guest's memory |
//! | [`page`] | the page of a framebuffer: its ring, its directory |
//! | [`input`] | the page of keyboard and pointer: the ring of events |
//! | [`canvas`] | the picture as it was last seen, and when which part of it changed |
//! | [`keysym`], [`typist`] | X's keys and Linux's; what a viewer holds down |
//! | [`rfb`] | the protocol of viewers |
//! | [`screen`] | a VM's screen: what its guest and its viewers share |
//! | [`picture`], [`keyboard`] | the two devices of a guest while they are connected |
//! | [`machine`] | pages and event channels: of Xen, or of a test |
//! | [`state`], [`device`] | the devices in the store |
//! | [`viewer`], [`server`] | viewers, and the socket that they come by |
#![forbid(unsafe_code)]

pub mod canvas;
pub mod device;
pub mod geometry;
pub mod input;
pub mod keyboard;
pub mod keysym;
pub mod machine;
pub mod page;
pub mod picture;
pub mod rfb;
pub mod screen;
pub mod server;
pub mod state;
pub mod typist;
pub mod viewer;
