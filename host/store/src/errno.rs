//! Errors as the protocol carries them: by name.

/// An error that a reply can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum Errno {
    #[error("EINVAL")]
    Inval,
    #[error("EACCES")]
    Acces,
    #[error("EEXIST")]
    Exist,
    #[error("ENOENT")]
    Noent,
    #[error("ENOMEM")]
    Nomem,
    #[error("ENOSPC")]
    Nospc,
    #[error("EIO")]
    Io,
    #[error("ENOSYS")]
    Nosys,
    #[error("EBUSY")]
    Busy,
    #[error("EAGAIN")]
    Again,
    #[error("E2BIG")]
    TooBig,
    #[error("EPERM")]
    Perm,
}

impl Errno {
    /// The name that is transmitted (`io/xs_wire.h`, `xsd_errors`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inval => "EINVAL",
            Self::Acces => "EACCES",
            Self::Exist => "EEXIST",
            Self::Noent => "ENOENT",
            Self::Nomem => "ENOMEM",
            Self::Nospc => "ENOSPC",
            Self::Io => "EIO",
            Self::Nosys => "ENOSYS",
            Self::Busy => "EBUSY",
            Self::Again => "EAGAIN",
            Self::TooBig => "E2BIG",
            Self::Perm => "EPERM",
        }
    }
}

/// What every operation of the store answers with.
pub type Result<T> = std::result::Result<T, Errno>;
