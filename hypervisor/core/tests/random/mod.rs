//! Random guests: what hypercalls and exits must survive, whoever makes them. Shared by the seeded test and the fuzz target.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

pub mod backend;
pub mod calls;
pub mod exits;
pub mod source;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use radon_addr::Gpa;
use radon_core::domain::Domain;
use radon_core::hypercall::Width;
use radon_hw::{mem, sim};
use source::Source;
use world::{GUESTS, World};

/// Is told what happens.
pub trait Watch {
    /// A step that may go wrong.
    fn begins(&mut self, what: String);
    /// A hypercall has been answered.
    fn called(&mut self, _privileged: bool, _number: u64, _sub_operation: u64, _ok: bool) {}
}

/// Lets a world of domains act up to `steps` times. `control`: the control domain acts too.
pub fn play(s: &mut Source<'_>, steps: u64, control: bool, watch: &mut dyn Watch) {
    let world = World::new();
    for step in 0..steps {
        if s.done() {
            break;
        }
        act(s, &world, control, watch);
        if step % 256 == 255 {
            world.check(!control);
        }
    }
    world.check(!control);
    world.end();
}

/// One act of one domain.
fn act(s: &mut Source<'_>, world: &World, control: bool, watch: &mut dyn Watch) {
    let id = if control && s.chance(30) { 0 } else { s.pick(&GUESTS) };
    let domain = world.domain(id);
    if domain.privileged() && !control {
        return;
    }
    sim::advance(s.below(1000));
    match s.below(16) {
        0..=2 => calls::scribble(s, &domain),
        3..=4 => {
            watch.begins(format!("{} exit", domain.id));
            survives(domain.privileged(), || exits::any(s, &domain));
        }
        _ => {
            let call = calls::any(s, &domain);
            let width = if s.chance(95) { Width::Long } else { Width::Compat };
            let (vcpu, hurry) = (s.below(2) as u32, s.chance(25));
            watch.begins(format!("{} call {} {:x?} {width:?} {hurry}", domain.id, call.0, call.1));
            survives(domain.privileged(), || {
                let ok = calls::make(&domain, vcpu, call, width, hurry);
                watch.called(domain.privileged(), call.0, sub_operation(&domain, call), ok);
            });
        }
    }
}

fn sub_operation(domain: &Domain, (number, args): calls::Call) -> u64 {
    match number {
        7 | 35 | 36 => domain.ram_at(Gpa::new(args[0]), false).map_or(0, |at| mem::read::<u32>(at).into()),
        12 => args[0] & 63,
        _ => args[0],
    }
}

/// The control domain may switch the simulated machine off; it goes on as if nothing had happened.
fn survives(privileged: bool, f: impl FnOnce()) {
    match catch_unwind(AssertUnwindSafe(f)) {
        Err(e) if privileged && e.downcast_ref::<&str>() == Some(&"CPU halted") => {}
        Err(e) => resume_unwind(e),
        Ok(()) => {}
    }
}
