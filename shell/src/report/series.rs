//! The run on one axis of time: what was counted and measured in each of a few hundred buckets.

use std::collections::BTreeMap;

use check::Event;

use super::Summary;
use super::ops::{Done, End, Work};
use super::summary::epsilons;

/// So many buckets at most, whatever the length of the run: a page stays small.
pub const BUCKETS_MAX: u64 = 400;

/// So many nodes are drawn.
pub const NODES_MAX: usize = 12;

/// The shortest bucket.
const BUCKET_NS_MIN: u64 = 100_000_000;

/// Percentiles of the latencies of one bucket, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// Half were no longer.
    pub p50: u64,
    /// 95 of 100 were no longer.
    pub p95: u64,
    /// 99 of 100 were no longer.
    pub p99: u64,
}

/// Everything that is drawn over time; each list has an item for each bucket.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Where the first bucket begins.
    pub start_ns: u64,
    /// How long a bucket is.
    pub bucket_ns: u64,
    /// How many there are.
    pub len: usize,
    /// Acknowledged transactions that wrote.
    pub writes: Vec<u32>,
    /// Acknowledged reads.
    pub reads: Vec<u32>,
    /// Operations that failed.
    pub failed: Vec<u32>,
    /// Operations whose answer was lost.
    pub doubt: Vec<u32>,
    /// Latencies of the service: of writes, if there are any.
    pub latency: Vec<Option<Band>>,
    /// What each node acknowledged.
    pub by_node: Vec<(u64, Vec<u32>)>,
    /// The largest uncertainty of each node's clock.
    pub epsilon: Vec<(u64, Vec<Option<u64>>)>,
}

impl Series {
    /// Of a history.
    pub fn of(events: &[Event], summary: &Summary) -> Series {
        let (start_ns, end_ns) = summary.load_ns;
        let bucket_ns = bucket_ns(end_ns - start_ns);
        let len = usize::try_from((end_ns - start_ns).div_ceil(bucket_ns).max(1)).expect("it is bounded");
        let mut series = Series { start_ns, bucket_ns, len, ..Series::default() };
        let zeros = || vec![0u32; len];
        (series.writes, series.reads) = (zeros(), zeros());
        (series.failed, series.doubt) = (zeros(), zeros());
        let mut by_node: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        let mut durations: Vec<Vec<u64>> = vec![Vec::new(); len];
        let of_writes = summary.service.of_writes;
        for done in &summary.done {
            let Some(at) = series.bucket(done.ended_ns) else { continue };
            count(&mut series, done, at);
            if done.end != End::Ok {
                continue;
            }
            if let Some(node) = done.node
                && (by_node.len() < NODES_MAX || by_node.contains_key(&node))
            {
                by_node.entry(node).or_insert_with(zeros)[at] += 1;
            }
            if !of_writes || done.work == Work::Write {
                durations[at].push(done.took_ns());
            }
        }
        series.by_node = by_node.into_iter().collect();
        series.latency = durations.iter_mut().map(|d| band(d)).collect();
        series.epsilon = series.epsilons(events);
        series
    }

    /// Which bucket a time lies in.
    pub fn bucket(&self, ns: u64) -> Option<usize> {
        let at = ns.checked_sub(self.start_ns)? / self.bucket_ns;
        // The last moment of the load belongs to the last bucket.
        let at = if at == self.len as u64 && ns - self.start_ns == at * self.bucket_ns { at - 1 } else { at };
        usize::try_from(at).ok().filter(|at| *at < self.len)
    }

    fn epsilons(&self, events: &[Event]) -> Vec<(u64, Vec<Option<u64>>)> {
        let mut nodes: BTreeMap<u64, Vec<Option<u64>>> = BTreeMap::new();
        let mut first: BTreeMap<u64, usize> = BTreeMap::new();
        for (at, node, ns) in epsilons(events) {
            let Some(at) = self.bucket(at) else { continue };
            if nodes.len() >= NODES_MAX && !nodes.contains_key(&node) {
                continue;
            }
            let known = &mut nodes.entry(node).or_insert_with(|| vec![None; self.len])[at];
            *known = Some(known.map_or(ns, |before| before.max(ns)));
            first.entry(node).or_insert(at);
        }
        // Between two measurements the last one stands, for a few seconds: then the node was not reached.
        let hold = (3_000_000_000 / self.bucket_ns).max(1);
        for list in nodes.values_mut() {
            let (mut last, mut age) = (None, 0);
            for item in list {
                match *item {
                    Some(ns) => (last, age) = (Some(ns), 0),
                    None => {
                        age += 1;
                        *item = last.filter(|_| age <= hold);
                    }
                }
            }
        }
        nodes.into_iter().collect()
    }
}

fn count(series: &mut Series, done: &Done, at: usize) {
    match done.end {
        End::Ok if done.work == Work::Write => series.writes[at] += 1,
        End::Ok => series.reads[at] += 1,
        End::Failed if !done.asked => series.failed[at] += 1,
        _ => {}
    }
    if done.asked || done.end == End::Unknown {
        series.doubt[at] += 1;
    }
}

/// The shortest round bucket of which there are not too many.
fn bucket_ns(length_ns: u64) -> u64 {
    let mut bucket = BUCKET_NS_MIN;
    for factor in [2, 5, 10].iter().cycle() {
        if length_ns.div_ceil(bucket) <= BUCKETS_MAX {
            break;
        }
        // 1, 2, 5, 10, ..: each of the three steps multiplies the last power of ten.
        bucket = match factor {
            2 => bucket.saturating_mul(2),
            5 => bucket / 2 * 5,
            _ => bucket.saturating_mul(2),
        };
    }
    bucket
}

fn band(durations: &mut [u64]) -> Option<Band> {
    let latency = super::summary::Latency::of(durations);
    (latency.count > 0).then_some(Band { p50: latency.p50, p95: latency.p95, p99: latency.p99 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_round_and_few() {
        let s = 1_000_000_000;
        let lengths = [0, 30 * s, 60 * s, 100 * s, 600 * s, 3600 * s, u64::MAX];
        let buckets = lengths.map(bucket_ns);
        assert_eq!(buckets[..6], [s / 10, s / 10, s / 5, s / 2, 2 * s, 10 * s]);
        assert!(u64::MAX.div_ceil(buckets[6]) <= BUCKETS_MAX);
    }
}
