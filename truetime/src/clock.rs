//! The clock of a node: raw readings in, [`Now`] out.
//!
//! # Problem
//! A node needs an interval that contains true time (I1), from parts none of which gives one: a
//! system clock that an operator may step, a monotonic clock that has no date, and a bound that is
//! either configured or kept by the kernel. The crate reads none of them, so that the simulator can
//! make them up.
//!
//! # Steps
//! 1. The caller takes a [`Reading`]: system clock, monotonic clock and, for `kernel`, the kernel's bound.
//! 2. The [`ClockSpec`] turns it into an interval: reading (plus injected faults) give or take epsilon.
//! 3. The interval is compared with the one before, moved along by the monotonic clock. If the two do not
//!    even touch, one of them was wrong: the system clock was stepped. That is counted and shown.
//!
//! ```text
//!            previous  [---------]
//!   moved by elapsed             [---------]               <- true time must be here ...
//!            current                          [---------]  <- ... and here: an anomaly
//! ```
//!
//! # What it does not do
//! Intervals are handed out raw. They are not forced to be monotone: moving an interval to where the last
//! one was would exclude true time when the last one was wrong, and a leader keeps its own timestamps
//! rising whatever the clock says (I2). For the same reason an anomaly alone does not fence the node: after
//! an operator has corrected a wrong clock, the new reading is the good one. Only other nodes can tell
//! which it is; see [`crate::compare`].

use crate::source::{BaseSpec, ClockSpec};
use crate::{Interval, Now, Timestamp};

/// How far a monotonic clock may stray from true time, in parts per million. The paper assumes 200 us/s
/// between synchronisations (section 3); a machine beyond that is broken.
pub const DRIFT_PPM_MAX: i64 = 200;

/// Epsilon of a kernel clock that gives no bound: NTP's own largest dispersion. Such a clock is not
/// trusted whatever its epsilon; the number only keeps what is shown honest.
const KERNEL_EPSILON_UNKNOWN_NS: i64 = 16_000_000_000;

/// What the kernel says of its clock (`ntp_adjtime`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelClock {
    /// False in the state `TIME_ERROR` or with `STA_UNSYNC` set.
    pub synchronised: bool,
    /// `maxerror`, in nanoseconds.
    pub max_error_ns: i64,
}

/// Everything that is read from the machine at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The system's wall clock.
    pub system: Timestamp,
    /// The monotonic clock, arbitrary origin.
    pub mono_ns: i64,
    /// The kernel's bound; `None` where it cannot be read, or is not needed because the source is not
    /// `kernel`.
    pub kernel: Option<KernelClock>,
}

/// A jump of the system clock that its own bound does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockAnomaly {
    /// The interval after the jump.
    pub at: Interval,
    /// How far it jumped against the monotonic clock; negative: backwards.
    pub jump_ns: i64,
    /// How far it might have: both epsilons and the drift since the reading before.
    pub allowed_ns: i64,
}

/// What `SHOW CLOCK` shows of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockStatus {
    /// The source.
    pub spec: ClockSpec,
    /// The interval last handed out.
    pub interval: Interval,
    /// Half its width.
    pub epsilon_ns: i64,
    /// Whether the node may lead and vote for leases.
    pub trusted: bool,
    /// Why it is fenced, if it is.
    pub fenced: Option<String>,
    /// Jumps seen since the start.
    pub anomalies: u64,
    /// The latest of them.
    pub last_anomaly: Option<ClockAnomaly>,
}

/// Turns readings into intervals. One per node.
#[derive(Clone, Debug)]
pub struct Clock {
    spec: ClockSpec,
    /// Monotonic time at which `spec` took effect; injected faults count from here.
    since_mono_ns: i64,
    fenced: Option<String>,
    last: Now,
    anomalies: u64,
    last_anomaly: Option<ClockAnomaly>,
}

impl Clock {
    /// A clock whose `spec` takes effect at `reading`.
    pub fn new(spec: ClockSpec, reading: Reading) -> Clock {
        let last = interpret(&spec, 0, reading);
        Clock { spec, since_mono_ns: reading.mono_ns, fenced: None, last, anomalies: 0, last_anomaly: None }
    }

    /// Changes the source from `reading` on. Injected faults start afresh. A fence stays until the other
    /// nodes agree again.
    pub fn set_spec(&mut self, spec: ClockSpec, reading: Reading) {
        // The intervals before and after rest on different promises, so they are not compared.
        self.last = interpret(&spec, 0, reading);
        self.spec = spec;
        self.since_mono_ns = reading.mono_ns;
    }

    /// The source.
    pub fn spec(&self) -> &ClockSpec {
        &self.spec
    }

    /// TrueTime's `now()`. Not trusted while the kernel's clock is unsynchronised or unavailable (source
    /// `kernel`), or while the clock is fenced.
    pub fn now(&mut self, reading: Reading) -> Now {
        let elapsed_ns = reading.mono_ns.saturating_sub(self.since_mono_ns).max(0);
        let now = interpret(&self.spec, elapsed_ns, reading);
        self.detect_step(now);
        self.last = now;
        Now { trusted: now.trusted && self.fenced.is_none(), ..now }
    }

    /// Fences the clock for a reason, or with `None` lifts the fence. Returns whether that changed
    /// anything but the reason's words, so that the caller logs it once.
    pub fn fence(&mut self, reason: Option<String>) -> bool {
        let changed = self.fenced.is_some() != reason.is_some();
        self.fenced = reason;
        changed
    }

    /// Why the clock is fenced, if it is.
    pub fn fenced(&self) -> Option<&str> {
        self.fenced.as_deref()
    }

    /// The state as of the last reading.
    pub fn status(&self) -> ClockStatus {
        ClockStatus {
            spec: self.spec.clone(),
            interval: self.last.tt,
            epsilon_ns: self.last.tt.epsilon_ns(),
            trusted: self.last.trusted && self.fenced.is_none(),
            fenced: self.fenced.clone(),
            anomalies: self.anomalies,
            last_anomaly: self.last_anomaly,
        }
    }

    /// Compares `now` with the last interval, moved along by the monotonic clock. A suspended machine
    /// shows up here as well: its monotonic clock may have stood still.
    fn detect_step(&mut self, now: Now) {
        let elapsed_ns = now.mono_ns.saturating_sub(self.last.mono_ns);
        let expected = self.last.tt.shifted_ns(elapsed_ns);
        let drift_ns = drift_allowance_ns(elapsed_ns);
        let ahead_ns = now.tt.earliest.since_ns(expected.latest);
        let behind_ns = expected.earliest.since_ns(now.tt.latest);
        if ahead_ns.max(behind_ns) > drift_ns {
            let slack_ns = now.tt.epsilon_ns().saturating_add(expected.epsilon_ns());
            let jump_ns = match ahead_ns > behind_ns {
                true => ahead_ns.saturating_add(slack_ns),
                false => behind_ns.saturating_add(slack_ns).saturating_neg(),
            };
            let allowed_ns = slack_ns.saturating_add(drift_ns);
            self.anomalies += 1;
            self.last_anomaly = Some(ClockAnomaly { at: now.tt, jump_ns, allowed_ns });
        }
    }
}

/// The most that a clock of the assumed drift can stray in `elapsed_ns`.
pub(crate) fn drift_allowance_ns(elapsed_ns: i64) -> i64 {
    // Rounded up, so that a short time does not round to none.
    (i128::from(elapsed_ns.unsigned_abs()) * i128::from(DRIFT_PPM_MAX) / 1_000_000) as i64 + 1
}

/// The interval that `spec` makes of `reading`, and whether the source itself vouches for it.
fn interpret(spec: &ClockSpec, elapsed_ns: i64, reading: Reading) -> Now {
    let (base_epsilon_ns, trusted) = match spec.base() {
        BaseSpec::Fixed { epsilon_ns } => (epsilon_ns, true),
        BaseSpec::Kernel => match reading.kernel.filter(|kernel| kernel.max_error_ns >= 0) {
            Some(kernel) => (kernel.max_error_ns, kernel.synchronised),
            None => (KERNEL_EPSILON_UNKNOWN_NS, false),
        },
    };
    let (shift_ns, epsilon_ns) = match spec {
        ClockSpec::Base(_) => (0, base_epsilon_ns),
        // Never less than what the base promises: a wider interval still contains true time, a narrower
        // one need not.
        ClockSpec::Sim(sim) => {
            let sawtooth_ns = sim.sawtooth.map_or(0, |sawtooth| sawtooth.epsilon_ns(elapsed_ns));
            (sim.shift_ns(elapsed_ns), base_epsilon_ns.max(sawtooth_ns))
        }
    };
    Now { tt: Interval::around(reading.system.plus_ns(shift_ns), epsilon_ns), mono_ns: reading.mono_ns, trusted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn a_promise_that_holds_gives_intervals_that_contain_true_time_and_no_anomaly() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        for _ in 0..200 {
            let epsilon_ns = rng.random_range(0..1_000_000i64);
            let kernel = rng.random_bool(0.5);
            let spec = if kernel { ClockSpec::Base(BaseSpec::Kernel) } else { ClockSpec::fixed(epsilon_ns) };
            let (mut t, mut mono_ns) = (1_000_000_000_000i64, rng.random_range(-1_000_000..1_000_000i64));
            let mut clock = None;
            for _ in 0..100 {
                let reading = Reading {
                    system: Timestamp::from_nanos(t + rng.random_range(-epsilon_ns..=epsilon_ns)),
                    mono_ns,
                    kernel: kernel.then_some(KernelClock { synchronised: true, max_error_ns: epsilon_ns }),
                };
                let clock = clock.get_or_insert_with(|| Clock::new(spec.clone(), reading));
                let now = clock.now(reading);
                assert!(now.trusted && now.tt.contains(Timestamp::from_nanos(t)));
                assert_eq!(clock.status().last_anomaly, None);
                let elapsed_ns = rng.random_range(0..10_000_000_000i64);
                t += elapsed_ns;
                mono_ns += elapsed_ns + elapsed_ns * rng.random_range(-DRIFT_PPM_MAX..=DRIFT_PPM_MAX) / 1_000_000;
            }
        }
    }

    #[test]
    fn readings_at_the_ends_of_time_do_no_harm() {
        let kernel = Some(KernelClock { synchronised: true, max_error_ns: i64::MIN });
        let ends = [i64::MIN, 0, i64::MAX];
        for spec in ["fixed:9223372036854775807ns", "kernel", "sim:kernel,drift=999999ppm,sawtooth=0s..292y/1ns"] {
            let spec = spec.replace("292y", "9223372036854775807ns").parse::<ClockSpec>().unwrap();
            let reading = |system, mono_ns| Reading { system: Timestamp::from_nanos(system), mono_ns, kernel };
            let mut clock = Clock::new(spec, reading(0, 0));
            for _ in 0..2 {
                for (system, mono_ns) in ends.iter().flat_map(|system| ends.map(|mono_ns| (*system, mono_ns))) {
                    clock.now(reading(system, mono_ns));
                }
            }
        }
    }
}
