//! `xl`'s configuration files of guests (xl.cfg(5)).
//!
//! | module | the noun |
//! |---|---|
//! | [`lexer`], [`syntax`] | words; settings: names with texts or lists, as `libxlu_cfg` reads them |
//! | [`disk`], [`vif`] | what one entry of `disk` and of `vif` says |
//! | [`keys`] | names that xl knows, and why some are not served |
//! | [`guest`] | what a file asks for |
//!
//! Pure: text in, a guest or an error with its line out.
#![forbid(unsafe_code)]

pub mod disk;
pub mod guest;
pub mod keys;
pub mod lexer;
pub mod syntax;
pub mod vif;

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Error {
    /// From 1 on.
    pub line: usize,
    /// The cause, and the cure if there is one.
    pub why: String,
}

/// Result of reading.
pub type Result<T> = std::result::Result<T, Error>;

fn wrong<T>(line: usize, why: impl Into<String>) -> Result<T> {
    Err(Error { line, why: why.into() })
}
