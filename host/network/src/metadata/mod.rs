//! What a guest is told about itself: cloud-init's sources of data, over HTTP at 169.254.169.254.
//!
//! | module | the noun |
//! |---|---|
//! | [`request`] | an HTTP request: untrusted bytes |
//! | [`tree`] | the documents: pure |

pub mod request;
pub mod tree;
