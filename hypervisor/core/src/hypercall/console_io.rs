//! `HYPERVISOR_console_io` (18): the hardware domain's terminal is the machine's; another domain's words go to the log.

use radon_hw::console as machine_console;
use xen_abi::Errno;
use xen_abi::console::{CONSOLEIO_READ, CONSOLEIO_WRITE};

use super::{Answer, Caller, Continuation, OK, Reply};
use crate::console;

/// Bytes copied at a time.
const PIECE: usize = 256;

/// `args`: command, byte count, buffer.
pub fn call(caller: &mut Caller<'_>, args: [u64; 6]) -> Reply {
    let [command, count, buffer, ..] = args;
    match command as u32 {
        CONSOLEIO_WRITE => write(caller, count, buffer),
        CONSOLEIO_READ => read(caller, count, buffer),
        _ => Err(Errno::ENOSYS),
    }
}

fn write(caller: &mut Caller<'_>, count: u64, buffer: u64) -> Reply {
    let mut done = 0u64;
    while done < count {
        if done > 0 && caller.should_yield() {
            let at = buffer.wrapping_add(done);
            return Ok(Answer::Continue(Continuation::three(u64::from(CONSOLEIO_WRITE), count - done, at)));
        }
        let n = (count - done).min(PIECE as u64) as usize;
        let mut piece = [0u8; PIECE];
        let part = piece.get_mut(..n).ok_or(Errno::EINVAL)?;
        caller.copy_in(buffer.wrapping_add(done), part)?;
        if caller.domain.config.hardware {
            machine_console::write(part);
        } else {
            console::guest_output(caller.domain, part);
        }
        done += n as u64;
    }
    OK
}

fn read(caller: &mut Caller<'_>, count: u64, buffer: u64) -> Reply {
    if !caller.domain.config.hardware {
        return Ok(Answer::Done(0));
    }
    let mut done = 0u64;
    while done < count {
        let Some(byte) = console::next_input() else { break };
        caller.copy_out(buffer.wrapping_add(done), &[byte])?;
        done += 1;
    }
    Ok(Answer::Done(done as i64))
}
