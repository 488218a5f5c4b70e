//! Not yet.
use super::{Caller, Reply};
/// Not yet.
pub fn call(_caller: &mut Caller<'_>, _args: [u64; 6]) -> Reply {
    Err(xen_abi::Errno::ENOSYS)
}
