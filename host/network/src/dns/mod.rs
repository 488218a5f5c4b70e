//! Names for guests: DNS (RFC 1035).
//!
//! | module | the noun |
//! |---|---|
//! | [`message`] | a query, and an answer to it: untrusted bytes |
//! | [`zone`] | the names of one network: pure |
//! | [`forward`] | all other names: other servers are asked |

pub mod forward;
pub mod message;
pub mod zone;
