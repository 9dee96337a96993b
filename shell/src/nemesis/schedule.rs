//! What the nemesis will do, drawn from the seed alone.
//!
//! A [`Draw`] does not say which node leads: that is known when its time has come. It says that the leader of
//! "the 7th group, counted round" is meant, or "the 5th node, counted round", and so the same seed gives the
//! same draws, whatever the cluster does meanwhile. Each draw takes the same number of numbers from the
//! generator whatever its kind is, so a changed list of kinds does not change lengths and victims.

use std::time::Duration;

use clap::ValueEnum;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// A kind of fault, as for `--nemesis` and `--faults`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum FaultKind {
    /// SIGKILL of one node, and its restart
    Kill,
    /// SIGSTOP of one node, for 0.1 s to three leases
    Pause,
    /// Cuts between nodes: the leader alone, halves, ring, one-way, bridge
    Partition,
    /// A clock set wrong within what its bound promises
    Skew,
    /// Each fsync of one node's log takes longer
    SlowDisk,
    /// Delays, with jitter, of all that one node sends and receives
    SlowNet,
    /// A graceful stop of one node, and its restart
    Restart,
    /// SIGKILL of all nodes at once
    KillAll,
    /// A clock set wrong beyond its bound: the node must fence itself
    SkewBeyond,
    /// All of these but skew-beyond, which breaks what the clocks promise
    All,
}

impl FaultKind {
    /// As for `--faults`, and in histories.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Kill => "kill",
            FaultKind::Pause => "pause",
            FaultKind::Partition => "partition",
            FaultKind::Skew => "skew",
            FaultKind::SlowDisk => "slow-disk",
            FaultKind::SlowNet => "slow-net",
            FaultKind::Restart => "restart",
            FaultKind::KillAll => "kill-all",
            FaultKind::SkewBeyond => "skew-beyond",
            FaultKind::All => "all",
        }
    }

    /// Whether the nodes it meets may be of no use meanwhile.
    pub fn disables(self) -> bool {
        !matches!(self, FaultKind::Skew | FaultKind::SlowDisk | FaultKind::SlowNet)
    }

    /// These kinds, without doubles, in a fixed order; `all` stands for what it means.
    pub fn expand(kinds: &[FaultKind]) -> Vec<FaultKind> {
        let meant = |kind: &FaultKind| {
            *kind != FaultKind::All
                && (kinds.contains(kind) || (kinds.contains(&FaultKind::All) && *kind != FaultKind::SkewBeyond))
        };
        FaultKind::value_variants().iter().copied().filter(meant).collect()
    }
}

/// The shape of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The victim alone.
    Isolate,
    /// The victim with the smaller half.
    Halves,
    /// Each hears its neighbours only.
    Ring,
    /// Nobody hears the victim, which hears all.
    Mute,
    /// The victim hears nobody, and all hear it.
    Deaf,
    /// One node does not hear the victim.
    OneWay,
    /// Two halves with one node that hears both.
    Bridge,
}

const SPLITS: [Split; 7] =
    [Split::Isolate, Split::Halves, Split::Ring, Split::Mute, Split::Deaf, Split::OneWay, Split::Bridge];

/// Who is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The leader of this group, counted round.
    LeaderOf(usize),
    /// This node, counted round.
    Node(usize),
}

/// One fault to come.
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    /// After the beginning of the one before.
    pub wait: Duration,
    /// Which.
    pub kind: FaultKind,
    /// Whom.
    pub victim: Victim,
    /// For how long.
    pub length: Duration,
    /// Of a partition.
    pub split: Split,
    /// Of a clock, in thousandths of its bound; never 0, and within 950 either way.
    pub skew_permille: i64,
    /// The clock jumps to the other side of its bound half-way.
    pub skew_jumps: bool,
    /// Of an fsync, or of a way between nodes.
    pub delay: Duration,
}

/// The draws of a seed, without end.
pub struct Schedule {
    rng: ChaCha8Rng,
    kinds: Vec<FaultKind>,
    interval: Duration,
    lease: Duration,
}

impl Schedule {
    /// Of these kinds, one in each interval on average. None if there are no kinds.
    pub fn new(seed: u64, kinds: &[FaultKind], interval: Duration, lease: Duration) -> Option<Schedule> {
        let kinds = FaultKind::expand(kinds);
        let rng = ChaCha8Rng::seed_from_u64(seed ^ 0x4e45_4d45_5349_5321);
        (!kinds.is_empty()).then_some(Schedule { rng, kinds, interval, lease })
    }

    fn part(&mut self, of: Duration, permille: std::ops::Range<u32>) -> Duration {
        of * self.rng.random_range(permille) / 1000
    }
}

impl Iterator for Schedule {
    type Item = Draw;

    fn next(&mut self) -> Option<Draw> {
        let kind = self.rng.random_range(0..1_000_000usize);
        let kind = self.kinds[kind % self.kinds.len()];
        let (interval, lease) = (self.interval, self.lease);
        // One in four begins while the one before is still on.
        let hurries = self.rng.random_range(0..4) == 0;
        let (soon, later) = (self.part(interval, 20..250), self.part(interval, 900..1_600));
        let leads = self.rng.random_range(0..2) == 0;
        let (group, node) = (self.rng.random_range(0..720_720usize), self.rng.random_range(0..720_720usize));
        let (usual, brief) = (self.part(interval, 200..1_100), self.part(interval, 20..200));
        // Short pauses are as likely as long ones: a lease is over in the long ones only.
        let (short, long) = (self.part(lease, 35..700), self.part(lease, 700..3_000));
        let pauses_long = self.rng.random_range(0..2) == 0;
        let split = SPLITS[self.rng.random_range(0..SPLITS.len())];
        let skew = self.rng.random_range(200..=950i64);
        let skew = if self.rng.random_range(0..2) == 0 { skew } else { -skew };
        let skew_jumps = self.rng.random_range(0..3) == 0;
        let delay_ms = self.rng.random_range(2..=100);
        Some(Draw {
            wait: if hurries { soon } else { later },
            kind,
            victim: if leads { Victim::LeaderOf(group) } else { Victim::Node(node) },
            length: match kind {
                FaultKind::Pause if pauses_long => long,
                FaultKind::Pause => short.max(Duration::from_millis(100)),
                FaultKind::KillAll => brief,
                _ => usual,
            },
            split,
            skew_permille: skew,
            skew_jumps,
            delay: Duration::from_millis(delay_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(seed: u64, kinds: &[FaultKind]) -> Vec<Draw> {
        let lease = Duration::from_secs(3);
        Schedule::new(seed, kinds, Duration::from_secs(5), lease).expect("kinds").take(2_000).collect()
    }

    #[test]
    fn a_seed_decides_everything() {
        let kinds = [FaultKind::All];
        assert_eq!(draws(7, &kinds), draws(7, &kinds));
        assert_ne!(draws(7, &kinds), draws(8, &kinds));
        // Other kinds leave victims as they were.
        let victims = |kinds: &[FaultKind]| draws(7, kinds).into_iter().map(|d| d.victim).collect::<Vec<_>>();
        assert_eq!(victims(&kinds), victims(&[FaultKind::Kill]));
    }

    #[test]
    fn all_kinds_and_shapes_come_and_keep_their_bounds() {
        let all = draws(7, &[FaultKind::All, FaultKind::SkewBeyond]);
        for kind in FaultKind::value_variants().iter().filter(|kind| **kind != FaultKind::All) {
            assert!(all.iter().filter(|draw| draw.kind == *kind).count() > 100, "{kind:?}");
        }
        for split in SPLITS {
            assert!(all.iter().any(|draw| draw.kind == FaultKind::Partition && draw.split == split), "{split:?}");
        }
        let leads = all.iter().filter(|draw| matches!(draw.victim, Victim::LeaderOf(_))).count();
        assert!((800..1_200).contains(&leads), "{leads} of 2000");
        let mean_ms = all.iter().map(|draw| draw.wait.as_millis()).sum::<u128>() / 2_000;
        assert!((4_500..5_500).contains(&mean_ms), "a fault each {mean_ms} ms");
        let hurries = all.iter().filter(|draw| draw.wait < Duration::from_millis(1_250)).count();
        assert!((400..600).contains(&hurries), "{hurries} of 2000");
        for draw in all {
            assert!((200..=950).contains(&draw.skew_permille.abs()), "{draw:?}");
            if draw.kind == FaultKind::Pause {
                assert!((100..=9_000).contains(&draw.length.as_millis()), "{draw:?}");
            }
        }
    }

    #[test]
    fn all_means_all_but_what_breaks_a_promise() {
        let all = FaultKind::expand(&[FaultKind::All, FaultKind::Kill]);
        assert_eq!(all.len(), 8);
        assert!(!all.contains(&FaultKind::SkewBeyond) && all.contains(&FaultKind::KillAll));
        assert!(Schedule::new(1, &[], Duration::ZERO, Duration::ZERO).is_none());
    }
}
