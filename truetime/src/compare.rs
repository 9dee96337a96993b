//! Catching a clock that lies, by comparing the intervals that messages carry.
//!
//! # Problem
//! Everything rests on I1: an interval contains true time. A broken oscillator, a wrong `fixed:` bound or
//! an operator's `date -s` breaks that promise silently, and then commits lose their order. No node can
//! notice this alone, but two intervals that cannot both be true prove that one of the two nodes is wrong.
//!
//! # Two proofs
//! Let peer `p` send at true time `t1` with its interval `P`, and let me receive at `t2` with mine, `M`.
//! Honest clocks give `P.earliest <= t1 <= t2 <= M.latest`. So if `P.earliest > M.latest`, one lies:
//!
//! ```text
//!   me     ......[=== M ===]..............................
//!   peer   ...........................[=== P ===].........     the peer is ahead, whatever the network took
//! ```
//!
//! The other way round, a message alone proves nothing: `P` may be far behind `M` only because the message
//! took long. If it echoes a request of mine, then `t2 - t1` is at most the round trip that I measured on my
//! own monotonic clock (and its drift). Honest clocks give `M.earliest <= t2 <= t1 + rtt <= P.latest + rtt`. So:
//!
//! ```text
//!   peer   .....[=== P ===]....rtt....|...................
//!   me     ...............................[=== M ===].....     the peer is behind: P.latest + rtt < M.earliest
//! ```
//!
//! # Who is wrong?
//! Two cannot tell; a majority can. A node that is in conflict with a majority of the cluster's nodes fences
//! itself: it neither leads nor votes for leases, says why, and keeps running. Only peers heard of lately
//! count. In a cluster of two, or with one of three down, there is no majority against anyone: the
//! conflict is shown, and no node is fenced.
//!
//! # The way back
//! A message that proves nothing is no proof of the contrary: it may have been slow, and hide by that how far apart
//! the clocks are. So what was proved holds for [`PROVED_FOR_NS`], and longer if it is proved again; then
//! the next message that agrees clears it, with one exception: "behind" was proved by a round
//! trip, so only a round trip can refute it. If our own source was changed, older proofs are not about the new
//! one, and the next message that agrees will do ([`PeerClocks::source_changed`]). A fenced node returns once it and the fresh peers that agree
//! with it are a majority. Silence does not lift the fence: a liar cut off from all peers would otherwise be
//! trusted again by the time it is reconnected, for as long as the first few messages take.
//!
//! # Deviation from the paper
//! Spanner evicts a machine whose clock drifts too far from its time masters (section 3). Here there need
//! not be any masters: the nodes judge each other with the messages they exchange anyway.

use std::collections::BTreeMap;
use std::fmt;

use crate::clock::drift_allowance_ns;
use crate::duration::format_duration_ns;
use crate::{Interval, Now};

/// A proof holds for so long at least: several messages of an idle link, so that one slow one does not hide a liar.
pub const PROVED_FOR_NS: i64 = 1_000_000_000;

/// Which way two clocks differ, seen from the observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The peer's earliest lies above our latest.
    Ahead,
    /// The peer's latest, plus the round trip, lies below our earliest.
    Behind,
}

/// Two intervals that cannot both contain true time. Displays as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other node.
    pub peer: u64,
    /// Which way it differs.
    pub direction: Direction,
    /// The gap between the intervals; the clocks differ by this and at most both epsilons more.
    pub gap_ns: i64,
    /// Our interval at receipt.
    pub own: Interval,
    /// The peer's interval when it sent.
    pub theirs: Interval,
    /// True if the peer did not differ this way until now: the moment to log it.
    pub first: bool,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Ahead => "ahead",
            Direction::Behind => "behind",
        };
        write!(f, "the clock of node {} is {direction} by more than both bounds allow, ", self.peer)?;
        write!(f, "{} apart: ours {}, theirs {}", format_duration_ns(self.gap_ns), self.own, self.theirs)
    }
}

impl Conflict {
    /// In a few words, for a table: the numbers behind it are in the `Display` form.
    pub fn brief(&self) -> String {
        let direction = match self.direction {
            Direction::Ahead => "ahead",
            Direction::Behind => "behind",
        };
        // To the microsecond: what is below is noise.
        let gap_ns = self.gap_ns / 1000 * 1000;
        format!("n{} is {direction} by {}", self.peer, format_duration_ns(gap_ns))
    }
}

/// What a node should think of its own clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No majority is against it.
    Good,
    /// Stop leading and voting for leases.
    Fence {
        /// The peers whose clocks contradict ours, in order.
        against: Vec<u64>,
    },
}

/// A peer's clock for `SHOW CLOCK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRow {
    /// The node.
    pub peer: u64,
    /// Its last interval, moved along by the time since. How long the message took is not in it.
    pub interval: Interval,
    /// Since the last message from it.
    pub age_ns: i64,
    /// The conflict with it, if any.
    pub conflict: Option<Conflict>,
}

/// What is known of one peer.
#[derive(Clone, Copy, Debug)]
struct Peer {
    interval: Interval,
    mono_ns: i64,
    conflict: Option<Conflict>,
    /// When that was proved last; `None` if it was of another source of ours, or never.
    proved_mono_ns: Option<i64>,
}

/// Compares our clock with those of the peers. One per node.
#[derive(Clone, Debug, Default)]
pub struct PeerClocks {
    peers: BTreeMap<u64, Peer>,
    /// The last verdict against us; empty while it is [`Verdict::Good`].
    against: Vec<u64>,
}

impl PeerClocks {
    /// No peer known.
    pub fn new() -> PeerClocks {
        PeerClocks::default()
    }

    /// Notes a message of `peer`, received at `at`, that carries the interval taken when it was sent.
    /// `rtt_ns` is set when the message answers one of ours: the monotonic time since we sent that.
    /// Returns the conflict that this message proves, if it does.
    pub fn observe(&mut self, peer: u64, at: Now, theirs: Interval, rtt_ns: Option<i64>) -> Option<Conflict> {
        let before = self.peers.get(&peer);
        let known = before.and_then(|peer| peer.conflict);
        let proved_mono_ns = before.and_then(|peer| peer.proved_mono_ns);
        let fresh = proved_mono_ns.is_some_and(|proved| at.mono_ns.saturating_sub(proved) < PROVED_FOR_NS);
        let rtt_ns = rtt_ns.filter(|rtt_ns| *rtt_ns >= 0);
        let ahead_ns = theirs.earliest.since_ns(at.tt.latest);
        let behind_ns = rtt_ns.map(|rtt_ns| {
            let reach = theirs.latest.plus_ns(rtt_ns).plus_ns(drift_allowance_ns(rtt_ns));
            at.tt.earliest.since_ns(reach)
        });
        let found = match (ahead_ns, behind_ns) {
            (gap_ns, _) if gap_ns > 0 => Some((Direction::Ahead, gap_ns)),
            (_, Some(gap_ns)) if gap_ns > 0 => Some((Direction::Behind, gap_ns)),
            _ => None,
        };
        let proved = found.map(|(direction, gap_ns)| {
            let first = known.is_none_or(|known| known.direction != direction);
            Conflict { peer, direction, gap_ns, own: at.tt, theirs, first }
        });
        let kept = known.filter(|known| fresh || (known.direction == Direction::Behind && rtt_ns.is_none()));
        let proved_mono_ns = if proved.is_some() { Some(at.mono_ns) } else { proved_mono_ns };
        let conflict = proved.or(kept);
        self.peers.insert(peer, Peer { interval: theirs, mono_ns: at.mono_ns, conflict, proved_mono_ns });
        proved
    }

    /// Whether we should be fenced, given the cluster's `voters` (with or without `me`). A peer that
    /// was last heard of more than `stale_after_ns` ago has no say. Remembers its own last answer: a
    /// fence is lifted only when a majority agrees with us.
    pub fn verdict(&mut self, voters: &[u64], me: u64, mono_ns: i64, stale_after_ns: i64) -> Verdict {
        let others: Vec<u64> = voters.iter().copied().filter(|voter| *voter != me).collect();
        let cluster = others.len() + 1;
        let majority = cluster / 2 + 1;
        let mut against = Vec::new();
        let mut agreeing = 1;
        for voter in others {
            let Some(peer) = self.peers.get(&voter) else { continue };
            if mono_ns.saturating_sub(peer.mono_ns) > stale_after_ns {
                continue;
            }
            match peer.conflict {
                Some(_) => against.push(voter),
                None => agreeing += 1,
            }
        }
        against.sort_unstable();
        if against.len() >= majority {
            self.against = against;
        } else if agreeing >= majority {
            self.against.clear();
        }
        match self.against.as_slice() {
            [] => Verdict::Good,
            against => Verdict::Fence { against: against.to_vec() },
        }
    }

    /// One row for each peer ever heard of, by number.
    pub fn rows(&self, mono_ns: i64) -> Vec<PeerRow> {
        let row = |(peer, known): (&u64, &Peer)| {
            let age_ns = mono_ns.saturating_sub(known.mono_ns).max(0);
            PeerRow { peer: *peer, interval: known.interval.shifted_ns(age_ns), age_ns, conflict: known.conflict }
        };
        self.peers.iter().map(row).collect()
    }

    /// Our intervals come from another source from now on: the next message that agrees refutes what was proved.
    pub fn source_changed(&mut self) {
        self.peers.values_mut().for_each(|peer| peer.proved_mono_ns = None);
    }

    /// Drops a peer that has left the cluster.
    pub fn forget(&mut self, peer: u64) {
        self.peers.remove(&peer);
    }
}

impl Verdict {
    /// The reason to give to [`crate::Clock::fence`]: `None` when good.
    pub fn reason(&self) -> Option<String> {
        match self {
            Verdict::Good => None,
            Verdict::Fence { against } => {
                let nodes: Vec<String> = against.iter().map(u64::to_string).collect();
                Some(format!("the clocks of nodes {} contradict this one's", nodes.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use rand::{RngExt, SeedableRng};

    /// `Now` at the true time `t` of a clock that is `error_ns` wrong and claims `epsilon_ns`.
    fn now(t: i64, error_ns: i64, epsilon_ns: i64) -> Now {
        let tt = Interval::around(Timestamp::from_nanos(t + error_ns), epsilon_ns);
        Now { tt, mono_ns: t, trusted: true }
    }

    #[test]
    fn honest_clocks_are_never_in_conflict() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        for _ in 0..50_000 {
            let [out_ns, back_ns] = [(); 2].map(|()| rng.random_range(0..20_000i64));
            let [sent, peer, received] = [0, out_ns, out_ns + back_ns].map(|t| {
                let epsilon_ns = rng.random_range(0..10_000i64);
                now(t, rng.random_range(-epsilon_ns..=epsilon_ns), epsilon_ns)
            });
            let mut clocks = PeerClocks::new();
            assert_eq!(clocks.observe(2, peer, sent.tt, None), None);
            assert_eq!(clocks.observe(1, received, peer.tt, Some(out_ns + back_ns)), None);
        }
    }

    #[test]
    fn a_clock_wrong_by_more_than_bounds_and_round_trip_is_caught() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(6);
        for _ in 0..50_000 {
            let [mine_ns, theirs_ns] = [(); 2].map(|()| rng.random_range(0..10_000i64));
            let rtt_ns = rng.random_range(0..20_000i64);
            let sent = rng.random_range(0..=rtt_ns);
            // Twice each epsilon, because the honest clock may be off by its own as well.
            let error_ns = 2 * (mine_ns + theirs_ns) + rtt_ns + 10;
            let direction = if rng.random_bool(0.5) { Direction::Ahead } else { Direction::Behind };
            let sign = if direction == Direction::Ahead { 1 } else { -1 };
            let liar = now(sent, sign * error_ns, theirs_ns);
            let me = now(rtt_ns, rng.random_range(-mine_ns..=mine_ns), mine_ns);
            let conflict = PeerClocks::new().observe(2, me, liar.tt, Some(rtt_ns)).expect("conflict not found");
            assert_eq!(conflict.direction, direction);
            assert!(conflict.first && conflict.gap_ns > 0);
        }
    }

    /// The verdict, from nothing but the definition: nodes against and for, no memory.
    fn dumb_majority_against(cluster: usize, against: usize) -> bool {
        against * 2 > cluster
    }

    #[test]
    fn only_a_majority_of_the_cluster_fences() {
        for cluster in 1..8u64 {
            let voters: Vec<u64> = (1..=cluster).collect();
            // Each peer agrees (0), contradicts (1) or is unknown (2).
            for case in 0..3u64.pow(cluster as u32 - 1) {
                let mut clocks = PeerClocks::new();
                let me = now(0, 0, 10);
                let mut against = Vec::new();
                for peer in 2..=cluster {
                    match case / 3u64.pow(peer as u32 - 2) % 3 {
                        0 => assert_eq!(clocks.observe(peer, me, me.tt, None), None),
                        1 => {
                            assert!(clocks.observe(peer, me, now(0, 100, 10).tt, None).is_some());
                            against.push(peer);
                        }
                        _ => {}
                    }
                }
                let expected = match dumb_majority_against(cluster as usize, against.len()) {
                    true => Verdict::Fence { against },
                    false => Verdict::Good,
                };
                assert_eq!(clocks.verdict(&voters, 1, 5, 10), expected, "cluster of {cluster}, case {case}");
            }
        }
    }

    #[test]
    fn a_slow_message_hides_no_liar_and_a_good_clock_is_believed_in_the_end() {
        let mut clocks = PeerClocks::new();
        let voters = [1, 2, 3];
        let lies = |t: i64| now(t, -100, 10);
        for peer in [2, 3] {
            assert!(clocks.observe(peer, lies(1_000), now(1_000, 0, 10).tt, Some(1)).is_some());
        }
        // Both took 200 to arrive.
        for peer in [2, 3] {
            assert_eq!(clocks.observe(peer, lies(1_300), now(1_100, 0, 10).tt, Some(250)), None);
        }
        assert!(clocks.verdict(&voters, 1, 1_300, i64::MAX).reason().is_some());
        let later = 1_000 + PROVED_FOR_NS;
        clocks.observe(2, now(later, 0, 10), now(later, 0, 10).tt, Some(1));
        assert_eq!(clocks.verdict(&voters, 1, later, i64::MAX), Verdict::Good);
    }

    #[test]
    fn intervals_at_the_ends_of_time_do_no_harm() {
        let ends = [Timestamp::MIN, Timestamp::ZERO, Timestamp::MAX];
        let all: Vec<_> =
            ends.iter().flat_map(|from| ends.iter().filter_map(|to| Interval::checked(*from, *to))).collect();
        let mut clocks = PeerClocks::new();
        for own in &all {
            for theirs in &all {
                for rtt_ns in [None, Some(i64::MIN), Some(0), Some(i64::MAX)] {
                    clocks.observe(2, Now { tt: *own, mono_ns: 0, trusted: true }, *theirs, rtt_ns);
                    assert_eq!(clocks.rows(i64::MAX).len(), 1);
                }
            }
        }
    }
}
