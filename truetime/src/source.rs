//! What the user says about the clock: `--clock fixed:7ms`, `SET NODE 2 CLOCK = 'kernel'`.
//!
//! ```text
//! fixed:EPSILON                       the system clock is right to within EPSILON
//! kernel                              ... to within what the kernel says (ntp_adjtime)
//! sim:BASE[,offset=+40ms]             BASE with faults added, for experiments: the clock is wrong by 40 ms,
//!         [,drift=200ppm]             gains 200 us each second from the moment the text took effect,
//!         [,step=+1s@30s]             jumps once, 30 s after that moment,
//!         [,sawtooth=1ms..7ms/30s]    and its epsilon climbs from 1 to 7 ms every 30 s, then drops
//! ```
//!
//! The sawtooth is the shape that section 3 of the Spanner paper reports: uncertainty grows with the
//! assumed drift (200 us/s) between polls of the time masters every 30 s.

use std::fmt;
use std::str::FromStr;

use crate::duration::{format_duration_ns, parse_duration_ns};

/// The source of time and of its bound. [`fmt::Display`] prints the text that [`FromStr`] reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClockSpec {
    /// `fixed:..` or `kernel`.
    Base(BaseSpec),
    /// `sim:..`: a base with injected faults.
    Sim(SimSpec),
}

/// A source that stands for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseSpec {
    /// The system clock, promised to be right to within `epsilon_ns` (never negative).
    Fixed {
        /// Half the width of each interval.
        epsilon_ns: i64,
    },
    /// The system clock with the bound that the kernel keeps.
    Kernel,
}

/// Faults on top of a base. Elapsed time counts from when the spec took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimSpec {
    /// What the faults are added to.
    pub base: BaseSpec,
    /// Added to every reading.
    pub offset_ns: i64,
    /// Nanoseconds gained (or lost) per millisecond: parts per million, |drift| < 1,000,000.
    pub drift_ppm: i64,
    /// A single jump.
    pub step: Option<Step>,
    /// A varying bound.
    pub sawtooth: Option<Sawtooth>,
}

/// A jump of the clock by `by_ns`, once `after_ns` have elapsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How far, in either direction.
    pub by_ns: i64,
    /// When, at least 0.
    pub after_ns: i64,
}

/// An epsilon that climbs from `low_ns` to `high_ns` during each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sawtooth {
    /// At the start of a period, at least 0.
    pub low_ns: i64,
    /// Just before its end, at least `low_ns`.
    pub high_ns: i64,
    /// Length, above 0.
    pub period_ns: i64,
}

impl ClockSpec {
    /// `fixed:EPSILON`. Panics on a negative epsilon.
    pub fn fixed(epsilon_ns: i64) -> ClockSpec {
        assert!(epsilon_ns >= 0, "negative epsilon {epsilon_ns} ns");
        ClockSpec::Base(BaseSpec::Fixed { epsilon_ns })
    }

    /// The source below any injected faults.
    pub fn base(&self) -> BaseSpec {
        match self {
            ClockSpec::Base(base) => *base,
            ClockSpec::Sim(sim) => sim.base,
        }
    }
}

impl SimSpec {
    /// `base` without a fault.
    pub fn new(base: BaseSpec) -> SimSpec {
        SimSpec { base, offset_ns: 0, drift_ppm: 0, step: None, sawtooth: None }
    }

    /// How wrong the clock is after `elapsed_ns`, in nanoseconds; stops at the ends of `i64`.
    pub fn shift_ns(&self, elapsed_ns: i64) -> i64 {
        let drift = i128::from(elapsed_ns.max(0)) * i128::from(self.drift_ppm) / 1_000_000;
        let step = self.step.filter(|step| elapsed_ns >= step.after_ns).map_or(0, |step| step.by_ns);
        let shift = i128::from(self.offset_ns) + drift + i128::from(step);
        shift.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }
}

impl Sawtooth {
    /// Epsilon after `elapsed_ns`.
    pub fn epsilon_ns(&self, elapsed_ns: i64) -> i64 {
        let phase = elapsed_ns.max(0) % self.period_ns;
        let climb = i128::from(self.high_ns - self.low_ns) * i128::from(phase) / i128::from(self.period_ns);
        self.low_ns + climb as i64
    }
}

impl fmt::Display for ClockSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClockSpec::Base(base) => base.fmt(f),
            ClockSpec::Sim(sim) => sim.fmt(f),
        }
    }
}

impl fmt::Display for BaseSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BaseSpec::Fixed { epsilon_ns } => write!(f, "fixed:{}", format_duration_ns(*epsilon_ns)),
            BaseSpec::Kernel => f.write_str("kernel"),
        }
    }
}

impl fmt::Display for SimSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sim:{}", self.base)?;
        if self.offset_ns != 0 {
            write!(f, ",offset={}", signed(self.offset_ns))?;
        }
        if self.drift_ppm != 0 {
            write!(f, ",drift={}ppm", self.drift_ppm)?;
        }
        if let Some(Step { by_ns, after_ns }) = self.step {
            write!(f, ",step={}@{}", signed(by_ns), format_duration_ns(after_ns))?;
        }
        if let Some(Sawtooth { low_ns, high_ns, period_ns }) = self.sawtooth {
            let [low, high, period] = [low_ns, high_ns, period_ns].map(format_duration_ns);
            write!(f, ",sawtooth={low}..{high}/{period}")?;
        }
        Ok(())
    }
}

/// A duration that always shows its sign.
fn signed(ns: i64) -> String {
    format!("{}{}", if ns >= 0 { "+" } else { "" }, format_duration_ns(ns))
}

impl FromStr for ClockSpec {
    type Err = String;

    /// The error is one lower-case sentence for the user.
    fn from_str(text: &str) -> Result<ClockSpec, String> {
        let text = text.trim();
        match text.strip_prefix("sim:") {
            Some(rest) => parse_sim(rest).map(ClockSpec::Sim),
            None => text.parse().map(ClockSpec::Base),
        }
    }
}

impl FromStr for BaseSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<BaseSpec, String> {
        let (kind, argument) = match text.split_once(':') {
            Some((kind, argument)) => (kind, Some(argument)),
            None => (text, None),
        };
        match (kind, argument) {
            ("fixed", Some(epsilon)) => Ok(BaseSpec::Fixed { epsilon_ns: not_negative("epsilon", epsilon)? }),
            ("fixed", None) => Err("clock source \"fixed\" needs its epsilon: fixed:7ms".to_string()),
            ("kernel", None) => Ok(BaseSpec::Kernel),
            ("kernel", Some(_)) => Err(format!("clock source \"kernel\" takes no argument, found {text:?}")),
            ("clockbound" | "peers", _) => {
                Err(format!("clock source {kind:?} is not available yet: use fixed or kernel"))
            }
            ("sim", _) => {
                Err("clock source \"sim\" needs a base: sim:fixed:7ms,offset=+40ms or sim:kernel".to_string())
            }
            _ => Err(format!("unknown clock source {text:?}: expected fixed:EPSILON, kernel or sim:BASE,...")),
        }
    }
}

/// The part of a `sim:` text after the colon.
fn parse_sim(text: &str) -> Result<SimSpec, String> {
    let mut parts = text.split(',');
    let base = parts.next().unwrap_or_default().trim();
    if base.is_empty() || base.starts_with("sim") {
        return Err(format!("clock source \"sim\" needs fixed:EPSILON or kernel as its base, found {base:?}"));
    }
    let mut spec = SimSpec::new(base.parse()?);
    let mut seen = Vec::new();
    for part in parts {
        let Some((name, value)) = part.trim().split_once('=') else {
            return Err(format!("{part:?} is not of the form name=value: use offset, drift, step or sawtooth"));
        };
        if seen.contains(&name) {
            return Err(format!("{name} is given twice"));
        }
        seen.push(name);
        match name {
            "offset" => spec.offset_ns = parse_duration_ns(value).map_err(|err| format!("offset: {err}"))?,
            "drift" => spec.drift_ppm = parse_drift(value)?,
            "step" => spec.step = Some(parse_step(value)?),
            "sawtooth" => spec.sawtooth = Some(parse_sawtooth(value)?),
            _ => return Err(format!("unknown fault {name:?}: use offset, drift, step or sawtooth")),
        }
    }
    Ok(spec)
}

fn parse_drift(text: &str) -> Result<i64, String> {
    let number = text.strip_suffix("ppm").and_then(|number| number.parse::<i64>().ok());
    let ppm = number.ok_or_else(|| format!("drift: {text:?} is not a whole number of ppm, such as 200ppm"))?;
    // At a million the clock would stand still, or run backwards.
    if ppm.unsigned_abs() >= 1_000_000 {
        return Err(format!("drift: {text:?} must lie between -999999ppm and 999999ppm"));
    }
    Ok(ppm)
}

fn parse_step(text: &str) -> Result<Step, String> {
    let (by, after) = text.split_once('@').ok_or_else(|| format!("step: {text:?} is not of the form +1s@30s"))?;
    let by_ns = parse_duration_ns(by).map_err(|err| format!("step: {err}"))?;
    Ok(Step { by_ns, after_ns: not_negative("step", after)? })
}

fn parse_sawtooth(text: &str) -> Result<Sawtooth, String> {
    let shape = || format!("sawtooth: {text:?} is not of the form 1ms..7ms/30s");
    let (range, period) = text.split_once('/').ok_or_else(shape)?;
    let (low, high) = range.split_once("..").ok_or_else(shape)?;
    let [low_ns, high_ns, period_ns] =
        [not_negative("sawtooth", low)?, not_negative("sawtooth", high)?, not_negative("sawtooth", period)?];
    if low_ns > high_ns {
        return Err(format!("sawtooth: {low} is above {high}"));
    }
    if period_ns == 0 {
        return Err("sawtooth: the period must be above zero".to_string());
    }
    Ok(Sawtooth { low_ns, high_ns, period_ns })
}

fn not_negative(what: &str, text: &str) -> Result<i64, String> {
    match parse_duration_ns(text).map_err(|err| format!("{what}: {err}"))? {
        ns if ns < 0 => Err(format!("{what}: {text:?} must not be negative")),
        ns => Ok(ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn what_is_printed_reads_back() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
        for _ in 0..5_000 {
            let base = match rng.random_bool(0.5) {
                true => BaseSpec::Fixed { epsilon_ns: rng.random_range(0..i64::MAX) >> rng.random_range(0..62) },
                false => BaseSpec::Kernel,
            };
            let mut sim = SimSpec::new(base);
            if rng.random_bool(0.5) {
                sim.offset_ns = rng.random();
            }
            if rng.random_bool(0.5) {
                sim.drift_ppm = rng.random_range(-999_999..1_000_000);
            }
            if rng.random_bool(0.5) {
                sim.step = Some(Step { by_ns: rng.random(), after_ns: rng.random_range(0..i64::MAX) });
            }
            if rng.random_bool(0.5) {
                let low_ns = rng.random_range(0..1_000_000_000);
                let high_ns = low_ns + rng.random_range(0..1_000_000_000);
                sim.sawtooth = Some(Sawtooth { low_ns, high_ns, period_ns: rng.random_range(1..i64::MAX) });
            }
            for spec in [ClockSpec::Base(base), ClockSpec::Sim(sim)] {
                assert_eq!(spec.to_string().parse(), Ok(spec));
            }
        }
    }

    #[test]
    fn extreme_faults_stop_at_the_ends_of_time() {
        let spec: ClockSpec = "sim:kernel,offset=9000000000s,drift=999999ppm,step=9000000000s@0s".parse().unwrap();
        let ClockSpec::Sim(sim) = spec else { panic!("not a sim: {spec}") };
        assert_eq!(sim.shift_ns(i64::MAX), i64::MAX);
    }
}
