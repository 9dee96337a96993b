//! The table of timers of one replica, on the monotonic clock.

/// What a replica may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// No leader was heard of, or a candidacy came to nothing.
    Election,
    /// A leader's next heartbeat.
    Heartbeat,
    /// Messages that nobody has answered go out again.
    Resend,
    /// Peers are to be told of newly chosen slots if no other message does it first.
    Notice,
    /// The chosen index is to be written if no other write does it first.
    Hint,
    /// Slots known to be chosen are still missing here.
    CatchUp,
    /// A hand-over waits for true time to pass.
    HandOver,
}

const TIMERS: [Timer; 7] =
    [Timer::Election, Timer::Heartbeat, Timer::Resend, Timer::Notice, Timer::Hint, Timer::CatchUp, Timer::HandOver];

/// When each timer fires, in monotonic nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    at_ns: [Option<i64>; TIMERS.len()],
}

impl Timers {
    /// Fires at `at_ns`, whatever was set before.
    pub(crate) fn set(&mut self, timer: Timer, at_ns: i64) {
        self.at_ns[timer as usize] = Some(at_ns);
    }

    /// Fires at `at_ns` unless it is set already.
    pub(crate) fn set_if_unset(&mut self, timer: Timer, at_ns: i64) {
        self.at_ns[timer as usize].get_or_insert(at_ns);
    }

    /// Does not fire.
    pub(crate) fn clear(&mut self, timer: Timer) {
        self.at_ns[timer as usize] = None;
    }

    /// Whether it is set.
    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.at_ns[timer as usize].is_some()
    }

    /// The earliest.
    pub(crate) fn next_ns(&self) -> Option<i64> {
        self.at_ns.iter().flatten().min().copied()
    }

    /// Takes one timer that is due, if any.
    pub(crate) fn take_due(&mut self, now_ns: i64) -> Option<Timer> {
        let due = TIMERS.into_iter().find(|t| self.at_ns[*t as usize].is_some_and(|at| at <= now_ns))?;
        self.clear(due);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_each_once_when_due() {
        let mut timers = Timers::default();
        assert_eq!(timers.next_ns(), None);
        timers.set(Timer::Resend, 20);
        timers.set(Timer::Election, 10);
        timers.set_if_unset(Timer::Resend, 5);
        assert_eq!(timers.next_ns(), Some(10));
        assert_eq!(timers.take_due(9), None);
        assert_eq!(timers.take_due(25), Some(Timer::Election));
        assert!(timers.is_set(Timer::Resend));
        assert_eq!(timers.take_due(25), Some(Timer::Resend));
        assert_eq!(timers.take_due(25), None);
    }

    #[test]
    fn every_timer_has_its_own_place() {
        for (index, timer) in TIMERS.into_iter().enumerate() {
            assert_eq!(timer as usize, index);
        }
    }
}
