//! A node's clock: true time plus an offset that wanders within epsilon, and the interval around it.
//!
//! The interval always contains true time, unless a canary lets the offset leave the bound, or the run is beyond
//! the promise (`beyond`) and the clock lies. The monotonic clock starts anywhere and runs a little too fast or
//! too slow.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use truetime::{Interval, Now, Timestamp};

/// True time at the start of every run, in nanoseconds since the Unix epoch.
const ORIGIN_NS: i64 = 1_800_000_000_000_000_000;

/// True time as a timestamp; `at` is nanoseconds since the start of the run.
pub fn truth(at: i64) -> Timestamp {
    Timestamp::from_nanos(ORIGIN_NS + at)
}

/// What is added to a wall clock that has left its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lie {
    /// Since when.
    pub from: i64,
    /// By how much in the end, either way.
    pub by_ns: i64,
    /// How long it takes to get there; 0 if it jumps.
    pub ramp_ns: i64,
}

impl Lie {
    fn shift_ns(self, at: i64) -> i64 {
        if self.ramp_ns == 0 {
            return self.by_ns;
        }
        let run = (at - self.from).clamp(0, self.ramp_ns);
        (i128::from(self.by_ns) * i128::from(run) / i128::from(self.ramp_ns)) as i64
    }
}

/// One node's clock.
#[derive(Debug)]
pub struct SimClock {
    epsilon_ns: i64,
    /// The offset stays within this; epsilon, unless a canary says otherwise.
    limit_ns: i64,
    offset_ns: i64,
    drift_ppm: i64,
    drawn_at: i64,
    /// It is on the other side every second time of this length; never if 0.
    strobe_ns: i64,
    /// The bound is this part of what it may be.
    epsilon_permille: i64,
    /// The bound grows for so long, from an eighth of itself, and falls; it stays if 0.
    sawtooth_ns: i64,
    mono_origin_ns: i64,
    mono_ppm: i64,
    started_at: i64,
    /// What the node's clock says of itself.
    pub trusted: bool,
    /// Whether others have said that it is wrong.
    pub fenced: bool,
    /// How it lies, if it does.
    pub lie: Option<Lie>,
    rng: ChaCha8Rng,
}

impl SimClock {
    /// A clock whose offset stays within `limit_ns` and which believes in `epsilon_ns`.
    pub fn new(epsilon_ns: i64, limit_ns: i64, rng: ChaCha8Rng) -> SimClock {
        let mut clock = SimClock {
            epsilon_ns,
            limit_ns,
            offset_ns: 0,
            drift_ppm: 0,
            drawn_at: 0,
            strobe_ns: 0,
            epsilon_permille: 1_000,
            sawtooth_ns: 0,
            mono_origin_ns: 0,
            mono_ppm: 0,
            started_at: 0,
            trusted: true,
            fenced: false,
            lie: None,
            rng,
        };
        clock.restart(0);
        clock
    }

    /// Jumps to another offset and drift within the bound.
    pub fn redraw(&mut self, at: i64) {
        let limit = self.limit_ns;
        // The ends are where the bugs are.
        self.offset_ns = match self.rng.random_range(0..4) {
            0 => limit,
            1 => -limit,
            _ => self.rng.random_range(-limit..=limit),
        };
        self.drift_ppm = self.rng.random_range(-200..=200);
        (self.drawn_at, self.strobe_ns) = (at, 0);
    }

    /// Goes to one end of its bound and stays there: it reads as late a time as may be, or as early.
    pub fn go_to_end(&mut self, at: i64, late: bool) {
        self.offset_ns = if late { self.limit_ns } else { -self.limit_ns };
        (self.drift_ppm, self.drawn_at, self.strobe_ns) = (0, at, 0);
    }

    /// Its bound is a sawtooth of this length.
    pub fn set_sawtooth(&mut self, ns: i64) {
        self.sawtooth_ns = ns;
    }

    /// Its bound is this part of what it may be.
    pub fn set_epsilon_permille(&mut self, permille: i64) {
        self.epsilon_permille = permille;
    }

    /// It jumps to the other side of true time, and back, each after so long.
    pub fn strobe(&mut self, ns: i64) {
        self.strobe_ns = ns;
    }

    /// It advances by so many nanoseconds in a thousandth of a second, until it is at an end of its bound.
    pub fn run_at(&mut self, at: i64, ns_per_ms: i64) {
        self.offset_ns = self.offset(at);
        (self.drift_ppm, self.drawn_at, self.strobe_ns) = (ns_per_ms - 1_000_000, at, 0);
    }

    /// How far it is from true time.
    fn offset(&self, at: i64) -> i64 {
        let drifted = self.offset_ns + (at - self.drawn_at) * self.drift_ppm / 1_000_000;
        let offset = drifted.clamp(-self.limit_ns, self.limit_ns);
        let other_side = self.strobe_ns > 0 && (at - self.drawn_at) / self.strobe_ns % 2 == 1;
        if other_side { -offset } else { offset }
    }

    /// In millionths: how much of its bound there is now, and so of its offset.
    fn scale_ppm(&self, at: i64) -> i64 {
        let whole = self.epsilon_permille * 1_000;
        if self.sawtooth_ns == 0 {
            return whole;
        }
        let grown = at % self.sawtooth_ns * 1_000 / self.sawtooth_ns;
        whole / 8 + whole * 7 / 8 * grown / 1_000
    }

    /// The process starts: the wall clock may stand anywhere within its bound, and the monotonic
    /// clock anywhere at all.
    pub fn restart(&mut self, at: i64) {
        self.redraw(at);
        self.mono_origin_ns = self.rng.random_range(0..1_000_000_000_000);
        self.mono_ppm = self.rng.random_range(-200..=200);
        self.started_at = at;
    }

    /// What the node's clock says.
    pub fn now(&self, at: i64) -> Now {
        let scale_ppm = self.scale_ppm(at);
        let offset = self.offset(at) * scale_ppm / 1_000_000;
        let epsilon_ns = self.epsilon_ns * scale_ppm / 1_000_000;
        let lies_ns = self.lie.map_or(0, |lie| lie.shift_ns(at));
        let tt = Interval::around(truth(at + offset).plus_ns(lies_ns), epsilon_ns);
        let free = self.limit_ns > self.epsilon_ns || self.lie.is_some();
        assert!(free || tt.contains(truth(at)), "the simulated clock breaks its promise");
        let run = at - self.started_at;
        let mono_ns = self.mono_origin_ns + run + run * self.mono_ppm / 1_000_000;
        Now { tt, mono_ns, trusted: self.trusted && !self.fenced }
    }

    /// When, in true time, the monotonic clock will have reached a reading.
    pub fn when_mono(&self, mono_ns: i64) -> i64 {
        let run = mono_ns.saturating_sub(self.mono_origin_ns).clamp(0, i64::MAX / 2_000_000);
        // Rounded up, so that the wake-up is never a nanosecond early.
        self.started_at + (run * 1_000_000) / (1_000_000 + self.mono_ppm) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};

    #[test]
    fn the_interval_contains_true_time_and_timers_are_not_early() {
        let mut clock = SimClock::new(1_000, 1_000, stream(1, 1, Purpose::Clock, 0));
        for at in (0..20_000_000_000).step_by(7_777_777) {
            match at % 9 {
                0 => clock.redraw(at),
                2 => clock.run_at(at, 0),
                4 => clock.run_at(at, 2_000_000),
                5 => clock.strobe(3_000_000),
                6 => clock.set_epsilon_permille(50 + at % 950),
                8 => clock.set_sawtooth(at % 2 * 40_000_000),
                _ => {}
            }
            let now = clock.now(at);
            assert!(now.tt.contains(truth(at)));
            let wake = clock.when_mono(now.mono_ns + 1_000_000);
            assert!((at..at + 2_000_000).contains(&wake));
            assert!(clock.now(wake).mono_ns >= now.mono_ns + 1_000_000);
        }
    }

    #[test]
    fn a_lie_jumps_or_grows_and_ends() {
        let mut clock = SimClock::new(1_000, 1_000, stream(1, 1, Purpose::Clock, 0));
        clock.lie = Some(Lie { from: 100, by_ns: -5_000, ramp_ns: 0 });
        assert!(clock.now(100).tt.latest < truth(100));
        clock.lie = Some(Lie { from: 100, by_ns: 50_000, ramp_ns: 1_000 });
        assert!(clock.now(100).tt.contains(truth(100)) && clock.now(1_100).tt.earliest > truth(1_100));
        clock.lie = None;
        assert!(clock.now(1_100).tt.contains(truth(1_100)));
    }
}
