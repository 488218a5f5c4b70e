//! `XEN_SYSCTL_readconsole`: `xl dmesg`.

use radon_hw::console;
use xen_abi::sysctl::{Sysctl, SysctlReadconsole};

use super::Result;
use crate::hypercall::Caller;

/// Bytes copied at a time.
const CHUNK: usize = 1024;

/// Copies the log, from the position given on when that is still kept; may clear what was read.
pub fn read(caller: &Caller<'_>, op: &mut Sysctl) -> Result {
    let mut asked: SysctlReadconsole = op.payload();
    let mut chunk = [0u8; CHUNK];
    let mut from = (asked.incremental != 0).then_some(asked.index);
    let mut done = 0u32;
    let mut end = asked.index;
    while done < asked.count {
        let room = CHUNK.min((asked.count - done) as usize);
        let Some(buf) = chunk.get_mut(..room) else { break };
        let (n, next) = console::read_ring(from, buf);
        caller.copy_out(asked.buffer.raw().wrapping_add(done.into()), buf.get(..n).unwrap_or_default())?;
        done = done.saturating_add(n as u32);
        end = next;
        from = Some(next);
        if n < room {
            break;
        }
    }
    if asked.clear != 0 {
        console::clear_ring(end);
    }
    asked.count = done;
    asked.index = end;
    op.set_payload(&asked);
    Ok(())
}
