//! The node's clock: reads the machine, and lets `truetime` judge what it says.
//!
//! One lock guards the clock and what is known of the peers' clocks. It is held for a few dozen
//! nanoseconds at a time, by the engine's thread at each step and by the tasks that receive from
//! peers. What speaks against the clock is `truetime::fence`'s business.

use std::fs;
use std::sync::Mutex;
use std::time::{Instant, SystemTime};

use truetime::compare::PeerRow;
use truetime::source::BaseSpec;
use truetime::{
    Clock, ClockSpec, ClockStatus, Fence, Interval, KernelClock, Now, Reading, Sabotage, Timestamp, format_duration_ns,
};

/// How long a reading of the kernel's bound is used, in nanoseconds. Meanwhile it is widened by
/// [`KERNEL_DRIFT_PPM`].
const KERNEL_CACHE_NS: i64 = 100_000_000;
/// By how much the kernel itself widens its bound (`MAXFREQ`).
const KERNEL_DRIFT_PPM: i64 = 500;

/// Two readings that lie further apart are taken again, so many times.
const READ_GAP_NS_MAX: i64 = 20_000;
const READ_TRIES: u32 = 4;

/// The kernel's `STA_UNSYNC` and its state `TIME_ERROR`.
const STA_UNSYNC: i32 = 0x0040;
const TIME_ERROR: i32 = 5;

/// A node's clock. Shared by all its threads.
pub struct NodeClock {
    origin: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    clock: Clock,
    fence: Fence,
    kernel: Option<KernelClock>,
    /// When `kernel` was read; `None` before the first time.
    kernel_read_mono_ns: Option<i64>,
    anomalies_logged: u64,
}

/// The clock and what it thinks of its peers, for `SHOW CLOCK`.
pub struct ClockView {
    /// Our own.
    pub status: ClockStatus,
    /// The peers'.
    pub peers: Vec<PeerRow>,
}

impl NodeClock {
    /// A clock of the node `me` in a cluster of `voters`.
    pub fn new(me: u64, voters: Vec<u64>, spec: ClockSpec) -> NodeClock {
        let origin = Instant::now();
        let reading = |kernel| Reading { system: system_now(), mono_ns: 1, kernel };
        let kernel = if needs_kernel(&spec) { read_kernel() } else { None };
        let clock = Clock::new(spec, reading(kernel));
        let fence = Fence::new(me, voters, Sabotage::default());
        let inner = Inner { clock, fence, kernel, kernel_read_mono_ns: None, anomalies_logged: 0 };
        NodeClock { origin, inner: Mutex::new(inner) }
    }

    /// What time it is.
    pub fn now(&self) -> Now {
        let mut inner = self.lock();
        let reading = self.read(&mut inner);
        inner.clock.now(reading)
    }

    /// A monotonic reading, in nanoseconds since the process started; never 0.
    pub fn mono_ns(&self) -> i64 {
        i64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(i64::MAX - 1) + 1
    }

    /// The monotonic reading as an instant of the runtime's timers.
    pub fn instant(&self, mono_ns: i64) -> Instant {
        self.origin + std::time::Duration::from_nanos(mono_ns.max(1).unsigned_abs() - 1)
    }

    /// The system's wall clock, in nanoseconds since the epoch, without any judgement.
    pub fn system_ns(&self) -> i64 {
        system_now().as_nanos()
    }

    /// Changes the source.
    pub fn set_spec(&self, spec: ClockSpec) {
        let mut inner = self.lock();
        let before = inner.clock.spec().clone();
        inner.kernel_read_mono_ns = None;
        let mut reading = self.read(&mut inner);
        if needs_kernel(&spec) && reading.kernel.is_none() {
            reading.kernel = read_kernel();
        }
        inner.clock.set_spec(spec.clone(), reading);
        inner.fence.source_changed();
        drop(inner);
        tracing::info!(from = %before, to = %spec, "the clock source was changed");
    }

    /// Notes the interval that came with a message of a peer. `rtt_ns` as in `truetime::fence`.
    pub fn observe(&self, peer: u64, theirs: Interval, rtt_ns: Option<i64>) {
        let mut inner = self.lock();
        let reading = self.read(&mut inner);
        let now = inner.clock.now(reading);
        let conflict = inner.fence.observe(peer, now, theirs, rtt_ns);
        drop(inner);
        if let Some(conflict) = conflict.filter(|conflict| conflict.first) {
            tracing::warn!("{conflict}");
        }
    }

    /// A lease vote that is on this node's disk.
    pub fn voted_until(&self, until: Timestamp, lease_ns: i64) {
        self.lock().fence.voted_until(until, lease_ns);
    }

    /// A timestamp that a leader has assigned.
    pub fn used(&self, ts: Timestamp, lease_ns: i64) {
        self.lock().fence.used(ts, lease_ns);
    }

    /// Why this clock must be wrong whatever the peers say: it is below what was used before.
    pub fn behind(&self) -> Option<String> {
        self.lock().fence.behind().map(str::to_string)
    }

    /// Judges the clock by its peers, and by what was used before; logs what changed. To be called every
    /// [`truetime::fence::JUDGE_EVERY_NS`].
    pub fn judge(&self) {
        let mut inner = self.lock();
        let reading = self.read(&mut inner);
        let now = inner.clock.now(reading);
        let reason = inner.fence.judge(now);
        let changed = inner.clock.fence(reason.clone());
        let status = inner.clock.status();
        let new_anomaly = status.anomalies > inner.anomalies_logged;
        inner.anomalies_logged = status.anomalies;
        drop(inner);
        if changed {
            match reason {
                Some(reason) => tracing::error!("the clock is fenced, this node neither leads nor votes: {reason}"),
                None => tracing::info!("nothing contradicts the clock any more, the fence is lifted"),
            }
        }
        if let Some(anomaly) = status.last_anomaly.filter(|_| new_anomaly) {
            tracing::warn!(
                "the system clock jumped by {}, where its bound allows {}",
                format_duration_ns(anomaly.jump_ns),
                format_duration_ns(anomaly.allowed_ns)
            );
        }
    }

    /// The current state, freshly read.
    pub fn view(&self) -> ClockView {
        let mut inner = self.lock();
        let reading = self.read(&mut inner);
        inner.clock.now(reading);
        ClockView { status: inner.clock.status(), peers: inner.fence.rows(reading.mono_ns) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no thread panics while it holds the clock")
    }

    fn read(&self, inner: &mut Inner) -> Reading {
        let (system, mono_ns) = self.read_together();
        let kernel = if needs_kernel(inner.clock.spec()) { self.kernel(inner, mono_ns) } else { None };
        Reading { system, mono_ns, kernel }
    }

    /// Both clocks at one instant, as nearly as a busy machine lets us: a thread that is preempted
    /// between the two readings would see the system clock jump.
    fn read_together(&self) -> (Timestamp, i64) {
        let mut before = self.mono_ns();
        for _ in 0..READ_TRIES {
            let system = system_now();
            let after = self.mono_ns();
            if after - before <= READ_GAP_NS_MAX {
                return (system, after);
            }
            before = after;
        }
        (system_now(), self.mono_ns())
    }

    fn kernel(&self, inner: &mut Inner, mono_ns: i64) -> Option<KernelClock> {
        let age_ns = inner.kernel_read_mono_ns.map_or(i64::MAX, |at| mono_ns - at);
        if age_ns > KERNEL_CACHE_NS {
            inner.kernel = read_kernel();
            inner.kernel_read_mono_ns = Some(mono_ns);
            return inner.kernel;
        }
        let grown_ns = age_ns * KERNEL_DRIFT_PPM / 1_000_000 + 1;
        inner.kernel.map(|kernel| KernelClock { max_error_ns: kernel.max_error_ns.saturating_add(grown_ns), ..kernel })
    }
}

fn needs_kernel(spec: &ClockSpec) -> bool {
    matches!(spec.base(), BaseSpec::Kernel)
}

fn system_now() -> Timestamp {
    let since = |earlier: SystemTime, later: SystemTime| {
        let ns = later.duration_since(earlier).map_or(0, |span| span.as_nanos());
        i64::try_from(ns).unwrap_or(i64::MAX)
    };
    let now = SystemTime::now();
    if now >= SystemTime::UNIX_EPOCH {
        Timestamp::from_nanos(since(SystemTime::UNIX_EPOCH, now))
    } else {
        Timestamp::from_nanos(-since(now, SystemTime::UNIX_EPOCH))
    }
}

/// The bound that the kernel keeps; `None` where it cannot be asked.
#[cfg(target_os = "linux")]
fn read_kernel() -> Option<KernelClock> {
    let mut timex = rtime_clock::adjtime::Timex::new();
    let state = rtime_clock::adjtime::adjtimex(&mut timex).ok()?;
    let synchronised = state != TIME_ERROR && timex.0.status & STA_UNSYNC == 0;
    // `maxerror` is in microseconds whatever `STA_NANO` says.
    Some(KernelClock { synchronised, max_error_ns: timex.0.maxerror.saturating_mul(1000) })
}

#[cfg(not(target_os = "linux"))]
fn read_kernel() -> Option<KernelClock> {
    None
}

/// 32 bytes of the system's randomness, for the node's generator.
pub fn seed() -> std::io::Result<[u8; 32]> {
    use std::io::Read as _;
    let mut seed = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_contains_the_system_time_and_its_source_can_be_changed() {
        let clock = NodeClock::new(1, vec![1, 2, 3], ClockSpec::fixed(5_000_000));
        let now = clock.now();
        assert!(now.trusted && now.tt.contains(system_now()) && now.tt.epsilon_ns() == 5_000_000);
        clock.set_spec("sim:fixed:1ms,offset=1h".parse().unwrap());
        assert!(clock.now().tt.after(system_now().plus_ns(3_500_000_000_000)));
        let first = clock.mono_ns();
        assert!(clock.mono_ns() >= first && first > 0);
    }

    #[test]
    fn a_clock_that_two_peers_contradict_is_fenced_and_returns() {
        let clock = NodeClock::new(1, vec![1, 2, 3], "sim:fixed:1ms,offset=-1h".parse().unwrap());
        let truth = || Interval::around(system_now(), 1_000_000);
        clock.observe(2, truth(), None);
        clock.judge();
        assert!(clock.now().trusted);
        clock.observe(3, truth(), None);
        clock.judge();
        let view = clock.view();
        assert!(!view.status.trusted && view.status.fenced.is_some() && view.peers.len() == 2);
        clock.set_spec(ClockSpec::fixed(1_000_000));
        clock.observe(2, truth(), None);
        clock.judge();
        assert!(clock.now().trusted);
    }

    #[test]
    fn a_clock_below_what_was_used_is_fenced_whatever_the_peers_say() {
        let clock = NodeClock::new(1, vec![1, 2, 3], "sim:fixed:1ms,offset=-24h".parse().unwrap());
        let yesterday = || Interval::around(system_now().minus_ns(24 * 3_600_000_000_000), 1_000_000);
        clock.observe(2, yesterday(), None);
        clock.observe(3, yesterday(), None);
        clock.used(system_now().minus_ns(25 * 3_600_000_000_000), 0);
        clock.judge();
        assert!(clock.now().trusted && clock.behind().is_none());
        clock.used(system_now(), 0);
        clock.judge();
        let why = clock.view().status.fenced.unwrap();
        assert!(
            !clock.now().trusted && why.contains("were used before") && clock.behind() == Some(why.clone()),
            "{why}"
        );
        clock.set_spec("sim:fixed:1ms,offset=1h".parse().unwrap());
        clock.judge();
        assert!(clock.behind().is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_can_be_asked() {
        let kernel = read_kernel().expect("adjtimex works without privileges when it only reads");
        assert!(kernel.max_error_ns >= 0);
    }
}
