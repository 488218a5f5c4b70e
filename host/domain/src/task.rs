//! Steps of an operation: where it can be followed, cancelled, and, in tests, killed.

use crate::error::Result;
use std::fmt;

macro_rules! steps {
    ($($(#[$doc:meta])+ $name:ident = $text:literal,)+) => {
        /// A step of an operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Step { $($(#[$doc])+ $name,)+ }

        impl Step {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

steps! {
    /// Kernel and RAM disk are read.
    ReadFiles = "read-files",
    /// The hypervisor makes a domain.
    CreateDomain = "create-domain",
    /// vCPUs, limits, CPUID policy.
    SetLimits = "set-limits",
    /// It gets its memory.
    Populate = "populate",
    /// The kernel is put there.
    Load = "load",
    /// Parameters, event channels, grants, registers.
    Parameters = "parameters",
    /// Its nodes are written to the store.
    WriteNodes = "write-nodes",
    /// The store's daemon is told of its ring.
    Introduce = "introduce",
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who follows an operation.
pub trait Progress {
    /// The operation is about to do this step; an error ends it here.
    fn at(&mut self, step: Step) -> Result<()>;
}

/// Follows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Progress for Unwatched {
    fn at(&mut self, _: Step) -> Result<()> {
        Ok(())
    }
}
