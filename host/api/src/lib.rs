//! XenAPI: one declarative data model, what follows from it, and its wire formats.
//!
//! | module | the noun |
//! |---|---|
//! | [`model`] | classes, fields, messages and enumerations; read from `model/*.model`, the implicit messages made from them |
//! | [`kind`] | types of fields and parameters |
//! | [`value`], [`time`] | values; a `Kind` says which fit |
//! | [`role`] | who may do what |
//! | [`error`] | what a message answers when it fails |
//! | [`xmlrpc`], [`jsonrpc`] | requests and responses as bytes |
//! | [`filter`] | expressions of `get_all_records_where` |
//! | [`document`] | the model as a page of text (`docs/xenapi.md`) |
//!
//! The conventions are those of the published "XenAPI wire protocol" and class reference.
#![forbid(unsafe_code)]

pub mod document;
pub mod error;
pub mod filter;
pub mod jsonrpc;
pub mod kind;
pub mod model;
pub mod role;
pub mod time;
pub mod value;
pub mod xmlrpc;

pub use error::{ApiError, Result};
pub use kind::Kind;
pub use model::{Access, Class, Field, Message, Model, Origin, Param, model};
pub use role::Role;
pub use time::Time;
pub use value::Value;

/// The reference to nothing.
pub const NULL: &str = "OpaqueRef:NULL";

/// A request, whatever format it came in.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Name of the message, as it was sent: `VM.start`, `Async.VM.start`.
    pub method: String,
    /// Arguments, the session first; as they were sent, not yet checked against the model.
    pub params: Vec<Value>,
}

/// How deep values may nest in a request.
pub(crate) const MOST_DEPTH: usize = 16;
