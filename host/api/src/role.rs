//! Roles: each may do what the one before it may, and more.

use std::fmt;
use std::str::FromStr;

/// Who may call a message: the role it is named after, and all above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Anyone, without a session.
    Anyone,
    /// Looks.
    ReadOnly,
    /// Starts and stops VMs.
    VmOperator,
    /// Makes and changes VMs.
    VmAdmin,
    /// Snapshots, memory, scans.
    VmPowerAdmin,
    /// The host, its networks and repositories.
    PoolOperator,
    /// Everything.
    PoolAdmin,
}

impl Role {
    /// Those that a user can have, lowest first.
    pub const ALL: [Self; 6] = [
        Self::ReadOnly,
        Self::VmOperator,
        Self::VmAdmin,
        Self::VmPowerAdmin,
        Self::PoolOperator,
        Self::PoolAdmin,
    ];

    /// XenAPI's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::ReadOnly => "read-only",
            Self::VmOperator => "vm-operator",
            Self::VmAdmin => "vm-admin",
            Self::VmPowerAdmin => "vm-power-admin",
            Self::PoolOperator => "pool-operator",
            Self::PoolAdmin => "pool-admin",
        }
    }

    /// In words.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Anyone => "calls what needs no session",
            Self::ReadOnly => "looks at everything and changes nothing",
            Self::VmOperator => "starts and stops VMs",
            Self::VmAdmin => "makes, changes and removes VMs and volumes",
            Self::VmPowerAdmin => "also takes snapshots of VMs and sets their memory",
            Self::PoolOperator => "also changes the host, its networks and repositories",
            Self::PoolAdmin => "does everything",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter().chain([Self::Anyone]);
        all.find(|r| r.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|r| r.name()).collect();
            format!("no such role: {name}; there are {}", names.join(", "))
        })
    }
}
