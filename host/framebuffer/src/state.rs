//! The two ends' states in the store (`io/xenbus.h`), and what this end does next. Pure.
//!
//! ```text
//! front end          this end
//!  1                  1 Initialising
//!  |                  2 InitWait      features in the store
//!  3 Initialised      |               page and channel in the store
//!  |                  4 Connected     served
//!  4 Connected        |
//!  5, 6, or gone      6 Closed        let go; with `online` 1, back to 2 when the front end begins anew
//! ```
//!
//! Nothing of a device is lost with the process that serves it: a successor takes the page as it is.

pub use radon_xen::state::State;

/// What there is to see of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// This end; `None`: the toolstack has taken the device away.
    pub back: Option<State>,
    /// The other end; `None`: gone, or nonsense.
    pub front: Option<State>,
    /// Whether the device is to stay when the front end closes.
    pub online: bool,
    /// Whether this process serves it.
    pub served: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing until something changes.
    Wait,
    /// Let go, and say what there is to have; [`State::InitWait`].
    Offer,
    /// Take it up; [`State::Connected`].
    Connect,
    /// Let go, and say so; [`State::Closed`].
    Close,
    /// Let go: the device is no more.
    Forget,
}

/// The next step.
pub fn next(seen: Seen) -> Step {
    let Some(back) = seen.back else { return Step::Forget };
    match (back, seen.front) {
        (State::Closed, Some(State::Initialising | State::InitWait)) if seen.online => Step::Offer,
        (State::Closed, _) => {
            if seen.served {
                Step::Close
            } else {
                Step::Wait
            }
        }
        (State::Initialising, Some(front)) if seen.online && front < State::Closing => Step::Offer,
        (_, None | Some(State::Closing | State::Closed)) => Step::Close,
        (State::Initialising, _) => Step::Close,
        // Asked to close: the front end does, and until then it is served.
        (State::Closing, Some(State::Initialised | State::Connected)) => Step::Wait,
        (State::Closing, _) => Step::Close,
        (_, Some(State::Initialised | State::Connected)) => {
            if seen.served {
                Step::Wait
            } else {
                Step::Connect
            }
        }
        (State::InitWait, Some(State::Initialising | State::InitWait)) if !seen.served => Step::Wait,
        // It begins anew.
        (_, Some(State::Initialising | State::InitWait)) if seen.online => Step::Offer,
        (_, Some(State::Initialising | State::InitWait)) => Step::Close,
    }
}

#[cfg(test)]
mod tests {
    use super::State::*;
    use super::*;

    #[test]
    fn lives() {
        for (back, front, served, step) in [
            (Initialising, Some(Initialising), false, Step::Offer),
            (InitWait, Some(Initialising), false, Step::Wait),
            (InitWait, Some(Initialised), false, Step::Connect),
            (InitWait, Some(Connected), false, Step::Connect),
            (Connected, Some(Initialised), true, Step::Wait),
            (Connected, Some(Connected), true, Step::Wait),
            // The toolstack asks, the guest closes, and is gone.
            (Closing, Some(Connected), true, Step::Wait),
            (Closing, Some(Closed), true, Step::Close),
            (Closing, None, true, Step::Close),
            (Closed, Some(Closed), false, Step::Wait),
            // The guest closes by itself, and begins anew.
            (Connected, Some(Closing), true, Step::Close),
            (Closed, Some(Initialising), false, Step::Offer),
            (Connected, Some(Initialising), true, Step::Offer),
            // A successor.
            (Connected, Some(Connected), false, Step::Connect),
            (Connected, Some(Closed), false, Step::Close),
            (Initialising, Some(Connected), false, Step::Offer),
        ] {
            let seen = Seen { back: Some(back), front, online: true, served };
            assert_eq!(next(seen), step, "{seen:?}");
        }
        let gone = Seen { back: None, front: Some(Connected), online: true, served: true };
        assert_eq!(next(gone), Step::Forget);
    }

    /// From every state steps come to an end, and nothing is offered that nobody wants any more.
    #[test]
    fn steps_end() {
        let states = [Initialising, InitWait, Initialised, Connected, Closing, Closed];
        for back in states {
            for front in states.into_iter().map(Some).chain([None]) {
                for (online, served) in [(true, true), (true, false), (false, true), (false, false)] {
                    let mut seen = Seen { back: Some(back), front, online, served };
                    let mut steps = Vec::new();
                    while steps.len() < 4 {
                        let step = next(seen);
                        (seen.back, seen.served) = match step {
                            Step::Wait => break,
                            Step::Offer => (Some(InitWait), false),
                            Step::Connect => (Some(Connected), true),
                            Step::Close | Step::Forget => (Some(Closed), false),
                        };
                        assert!(step != Step::Offer || online);
                        steps.push(step);
                    }
                    assert!(steps.len() < 4, "{steps:?} from {back:?} {front:?} {online} {served}");
                }
            }
        }
    }
}
