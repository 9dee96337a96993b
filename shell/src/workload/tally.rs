//! Counts and latencies: each client has its own, which the reporter empties once a second.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest latency that is told apart, in microseconds: ten minutes.
const LATENCY_US_MAX: u64 = 600_000_000;

/// What happened in some stretch of time.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Latencies of committed transfers in microseconds, from the first BEGIN to the answer of
    /// COMMIT, retries included.
    pub latency_us: Histogram<u64>,
    /// Transfers committed and acknowledged.
    pub transfers: u64,
    /// Transfers rolled back because the source had too little.
    pub declined: u64,
    /// Transactions begun again after SQLSTATE 40001.
    pub retries: u64,
    /// Statements that failed otherwise, and connections lost.
    pub errors: u64,
    /// Commits whose answer was lost, or 40003.
    pub ambiguous: u64,
    /// Of these: found to have committed.
    pub ambiguous_committed: u64,
    /// Of these: found to have aborted.
    pub ambiguous_aborted: u64,
    /// Of these: not found out.
    pub ambiguous_unresolved: u64,
    /// Snapshots read at the present.
    pub reads_strong: u64,
    /// Snapshots read at a past time.
    pub reads_past: u64,
    /// Snapshots read again at a time already read.
    pub reads_again: u64,
    /// Sessions opened beyond the first of each client.
    pub reconnects: u64,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts::around(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order"))
    }
}

impl Counts {
    fn around(latency_us: Histogram<u64>) -> Counts {
        Counts {
            latency_us,
            transfers: 0,
            declined: 0,
            retries: 0,
            errors: 0,
            ambiguous: 0,
            ambiguous_committed: 0,
            ambiguous_aborted: 0,
            ambiguous_unresolved: 0,
            reads_strong: 0,
            reads_past: 0,
            reads_again: 0,
            reconnects: 0,
        }
    }

    /// Records a committed transfer.
    pub fn transfer(&mut self, latency: Duration) {
        self.transfers += 1;
        let us = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX);
        self.latency_us.saturating_record(us.max(1));
    }

    /// All snapshots read.
    pub fn reads(&self) -> u64 {
        self.reads_strong + self.reads_past + self.reads_again
    }

    /// A quantile of the latencies, in milliseconds; 0 without any.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        if self.latency_us.is_empty() {
            return 0.0;
        }
        self.latency_us.value_at_quantile(quantile) as f64 / 1e3
    }

    /// The longest latency, in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.latency_us.max() as f64 / 1e3
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Counts) {
        self.latency_us.add(&other.latency_us).expect("the bounds are equal");
        self.transfers += other.transfers;
        self.declined += other.declined;
        self.retries += other.retries;
        self.errors += other.errors;
        self.ambiguous += other.ambiguous;
        self.ambiguous_committed += other.ambiguous_committed;
        self.ambiguous_aborted += other.ambiguous_aborted;
        self.ambiguous_unresolved += other.ambiguous_unresolved;
        self.reads_strong += other.reads_strong;
        self.reads_past += other.reads_past;
        self.reads_again += other.reads_again;
        self.reconnects += other.reconnects;
    }
}

/// A client's counts, shared with the reporter.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<Counts>>);

impl Tally {
    /// The counts since they were last taken.
    pub fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Moves what was counted into `total`.
    pub fn drain_into(&self, total: &mut Counts) {
        let mut counts = self.lock();
        total.add(&counts);
        // The histogram is emptied in place: a new one would be 100 KB for each client and second.
        counts.latency_us.reset();
        let Counts { latency_us, .. } =
            std::mem::replace(&mut *counts, Counts::around(Histogram::new(1).expect("1 digit")));
        *counts = Counts::around(latency_us);
    }
}

/// The heading of the line of each second.
pub const HEADING: &str =
    " elapsed   errors  retries  transfers/s  overall/s   p50 ms   p95 ms   p99 ms   max ms    reads";

/// The heading where transactions are no transfers.
pub const HEADING_OPS: &str =
    " elapsed   errors  aborted     writes/s  overall/s   p50 ms   p95 ms   p99 ms   max ms    reads";

/// The line of one second.
pub fn line(elapsed: Duration, interval: Duration, now: &Counts, total: &Counts) -> String {
    let rate = |count: u64, time: Duration| count as f64 / time.as_secs_f64().max(1e-3);
    format!(
        "{:>7.1}s {:>8} {:>8} {:>12.1} {:>10.1} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>8}",
        elapsed.as_secs_f64(),
        total.errors,
        now.retries,
        rate(now.transfers, interval),
        rate(total.transfers, elapsed),
        now.quantile_ms(0.50),
        now.quantile_ms(0.95),
        now.quantile_ms(0.99),
        now.max_ms(),
        now.reads(),
    )
}

/// The longest stretch without a committed transfer.
#[derive(Clone, Debug, Default)]
pub struct Gap {
    last: Duration,
    /// How long.
    pub longest: Duration,
    /// When it began, since the start.
    pub at: Duration,
}

impl Gap {
    /// A transfer committed (or the run ended) at this time since the start.
    pub fn mark(&mut self, now: Duration) {
        let gap = now.saturating_sub(self.last);
        if gap > self.longest {
            self.longest = gap;
            self.at = self.last;
        }
        self.last = self.last.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_as_shown() {
        let tally = Tally::default();
        for ms in 1..=100 {
            tally.lock().transfer(Duration::from_millis(ms));
        }
        tally.lock().retries = 3;
        tally.lock().reads_past = 7;
        let (mut now, mut total) = (Counts::default(), Counts::default());
        tally.drain_into(&mut now);
        total.add(&now);
        let line = line(Duration::from_secs(2), Duration::from_secs(1), &now, &total);
        assert_eq!(
            line,
            "    2.0s        0        3        100.0       50.0    50.02    95.04    99.01   100.03        7"
        );
        assert_eq!((line.len(), line.len()), (HEADING.len(), HEADING_OPS.len()));
        let mut empty = Counts::default();
        tally.drain_into(&mut empty);
        assert_eq!((empty.transfers, empty.reads(), empty.latency_us.len()), (0, 0, 0), "it was emptied");
        tally.lock().transfer(Duration::from_secs(10_000));
    }

    #[test]
    fn the_longest_gap_counts_the_end_too() {
        let mut gap = Gap::default();
        for second in [1, 2, 5, 6] {
            gap.mark(Duration::from_secs(second));
        }
        assert_eq!((gap.longest, gap.at), (Duration::from_secs(3), Duration::from_secs(2)));
        gap.mark(Duration::from_secs(16));
        assert_eq!((gap.longest, gap.at), (Duration::from_secs(10), Duration::from_secs(6)));
    }
}
