//! Run-state accounting (`struct vcpu_runstate_info`, vcpu.h): how long a vCPU ran, waited for a pCPU, slept, or was
//! offline; published to the guest where it asked for it.

use radon_addr::Ns;

/// State a vCPU can be in, numbered as `RUNSTATE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// On a pCPU.
    Running = 0,
    /// Could run, but has no pCPU.
    Runnable = 1,
    /// Waits for an event.
    Blocked = 2,
    /// Down or paused.
    Offline = 3,
}

/// Accumulated times of one vCPU.
pub struct RunstateClock {
    state: State,
    entered: Ns,
    times_ns: [u64; 4],
    /// Guest-virtual address of the area registered by `VCPUOP_register_runstate_memory_area`, and whether the guest
    /// wants the update flag (`VMASST_TYPE_runstate_update_flag`).
    pub area: Option<u64>,
}

impl RunstateClock {
    /// A vCPU that is offline since the beginning.
    pub const fn new() -> RunstateClock {
        RunstateClock { state: State::Offline, entered: Ns::new(0), times_ns: [0; 4], area: None }
    }

    /// Changes the state at `now`.
    pub fn change(&mut self, state: State, now: Ns) {
        let spent = now.since(self.entered);
        if let Some(t) = self.times_ns.get_mut(self.state as usize) {
            *t = t.saturating_add(spent);
        }
        self.state = state;
        self.entered = now;
    }

    /// `(state, entered, times)` with the current state's time brought up to `now`.
    pub fn at(&self, now: Ns) -> (State, Ns, [u64; 4]) {
        let mut times = self.times_ns;
        if let Some(t) = times.get_mut(self.state as usize) {
            *t = t.saturating_add(now.since(self.entered));
        }
        (self.state, self.entered, times)
    }

    /// What the guest's area shows: the state, when it was entered, and the times up to then.
    pub fn published(&self) -> (State, Ns, [u64; 4]) {
        (self.state, self.entered, self.times_ns)
    }
}

impl Default for RunstateClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_up_to_the_clock() {
        let mut c = RunstateClock::new();
        c.change(State::Running, Ns::new(10));
        c.change(State::Blocked, Ns::new(30));
        c.change(State::Runnable, Ns::new(60));
        let (state, entered, times) = c.at(Ns::new(100));
        assert_eq!((state, entered), (State::Runnable, Ns::new(60)));
        assert_eq!(times, [20, 40, 30, 10]);
        assert_eq!(times.iter().sum::<u64>(), 100);
    }
}
