//! Marzullo's intersection: what time is it, if some of the clocks lie?
//!
//! Given one interval per source, true time is most likely where most of them overlap. Sort all ends;
//! sweep from left to right, counting the intervals that are open; the answer is the stretch with the
//! highest count:
//!
//! ```text
//!   a  [---------------]
//!   b        [-------------]
//!   c                           [-----]       c lies
//!            [=========]                      two of three agree here
//! ```
//!
//! The ends are inclusive, so intervals that share a single point overlap. Of several stretches with
//! the same count the narrowest wins, then the earliest: a rule is needed so that every node that is
//! given the same intervals draws the same conclusion. The Spanner paper uses a variant of this to
//! reject liars among its time masters (section 3). Takes O(n log n).

use crate::Interval;

/// The outcome of [`marzullo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Common to all the sources that agree.
    pub interval: Interval,
    /// How many agree.
    pub sources: usize,
}

/// The smallest interval consistent with the largest number of sources; `None` without a source.
pub fn marzullo(sources: &[Interval]) -> Option<Agreement> {
    // `false` sorts first: at the same instant an interval opens before another closes.
    let mut ends: Vec<_> =
        sources.iter().flat_map(|source| [(source.earliest, false), (source.latest, true)]).collect();
    ends.sort_unstable();

    let mut best: Option<Agreement> = None;
    let mut open = 0;
    let mut opened_last = None;
    for (at, closes) in ends {
        if !closes {
            open += 1;
            opened_last = Some(at);
            continue;
        }
        // A stretch of a local maximum begins at an opening end and stops at the first closing one.
        if let Some(from) = opened_last.take() {
            let found = Agreement { interval: Interval::new(from, at), sources: open };
            let better = best.is_none_or(|best| {
                (found.sources, best.interval.width_ns()) > (best.sources, found.interval.width_ns())
            });
            if better {
                best = Some(found);
            }
        }
        open -= 1;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use rand::{RngExt, SeedableRng};

    /// The definition itself: of all sets of sources with a common point, a largest; of those, the
    /// narrowest and then the earliest intersection.
    fn dumb(sources: &[Interval]) -> Option<Agreement> {
        let mut all = Vec::new();
        for set in 1u32..1 << sources.len() {
            let chosen: Vec<_> = (0..sources.len()).filter(|i| set & 1 << i != 0).map(|i| sources[i]).collect();
            let earliest = chosen.iter().map(|interval| interval.earliest).max().unwrap();
            let latest = chosen.iter().map(|interval| interval.latest).min().unwrap();
            if let Some(interval) = Interval::checked(earliest, latest) {
                all.push(Agreement { interval, sources: chosen.len() });
            }
        }
        all.into_iter().min_by_key(|a| (usize::MAX - a.sources, a.interval.width_ns(), a.interval.earliest))
    }

    fn interval(from: i64, to: i64) -> Interval {
        Interval::new(Timestamp::from_nanos(from), Timestamp::from_nanos(to))
    }

    #[test]
    fn agrees_with_the_definition_on_all_small_inputs() {
        let all: Vec<_> = (0..5).flat_map(|from| (from..5).map(move |to| interval(from, to))).collect();
        let mut cases: Vec<Vec<Interval>> = vec![Vec::new()];
        for _ in 0..4 {
            for case in &cases {
                assert_eq!(marzullo(case), dumb(case), "{case:?}");
            }
            cases = cases.iter().flat_map(|case| all.iter().map(|i| [case.as_slice(), &[*i]].concat())).collect();
        }
    }

    #[test]
    fn agrees_with_the_definition_on_random_inputs() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        for _ in 0..20_000 {
            let range = [4, 20, 1_000][rng.random_range(0..3)];
            let sources: Vec<_> = (0..rng.random_range(0..8))
                .map(|_| {
                    let from = rng.random_range(0..range);
                    interval(from, from + rng.random_range(0..range))
                })
                .collect();
            assert_eq!(marzullo(&sources), dumb(&sources), "{sources:?}");
        }
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let always = Interval::new(Timestamp::MIN, Timestamp::MAX);
        assert_eq!(marzullo(&[always, always]), Some(Agreement { interval: always, sources: 2 }));
    }
}
