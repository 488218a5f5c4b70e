//! The remote framebuffer protocol (RFC 6143): what viewers say, and what they are sent. Pure.
//!
//! | module | the noun |
//! |---|---|
//! | [`hello`] | versions, security, what the server says first |
//! | [`message`] | a viewer's messages |
//! | [`format`](mod@format) | how a viewer wants pixels |
//! | [`update`] | parts of the picture for a viewer |
//! | [`zrle`] | the compressed encoding |

pub mod format;
pub mod hello;
pub mod message;
pub mod update;
pub mod zrle;
