//! Whether a node may trust its own clock: what its peers' intervals prove, and what was used before.
//!
//! # Steps
//! 1. Every message of a peer carries the interval taken as it left, and an echo of our own monotonic clock, so
//!    that its round trip is known ([`round_trip_ns`]). Each goes to [`Fence::observe`].
//! 2. Idle links carry an empty message every [`HEARTBEAT_NS`], so that there is always something to compare.
//! 3. Every [`JUDGE_EVERY_NS`] the clock is judged. It is fenced, which means that every `step` is told that its
//!    clock is not trusted: the node then neither leads nor votes, until a later judgement is better.
//!
//! So a clock that differs from a majority's by more than both bounds and a round trip is fenced within
//! `HEARTBEAT_NS` (to ask), `HEARTBEAT_NS` (to be answered), one round trip and `JUDGE_EVERY_NS`: 600 ms and a round trip.
//! It is back as long after it is good again, and `PROVED_FOR_NS` (`compare`) besides.
//!
//! # Time that has passed
//! Peers can prove that one of them lies, but not that all were set back together: a cluster that is
//! restarted with yesterday's date would answer strong reads with yesterday's data, and give
//! commits timestamps below earlier ones. The disks remember: what was committed, and until when a lease
//! was promised. A clock below that is fenced ([`Fence::has_passed`]), until it is set right or time
//! has come there again.

use crate::compare::{Conflict, PeerClocks, PeerRow};
use crate::duration::format_duration_ns;
use crate::{Guarantee, Interval, Now, Sabotage, Timestamp};

/// A link that has nothing else to carry carries the sender's clock this often.
pub const HEARTBEAT_NS: i64 = 200_000_000;
/// How often a clock is judged.
pub const JUDGE_EVERY_NS: i64 = 200_000_000;
/// A peer that was last heard of longer ago has no say about our clock.
pub const PEER_STALE_NS: i64 = 3_000_000_000;
/// Monotonic clocks may drift: a measured delay is trusted to one part in so many.
const DELAY_TRUST: i64 = 1000;

/// All that may speak against the clock of one node. Lives as long as its process.
#[derive(Clone, Debug)]
pub struct Fence {
    me: u64,
    voters: Vec<u64>,
    peers: PeerClocks,
    /// True time is beyond this: it was used, or promised, before.
    passed: Timestamp,
    /// Why the clock cannot be right, if it is below that.
    behind: Option<String>,
    sabotage: Sabotage,
}

impl Fence {
    /// Of the node `me` in a cluster of `voters`. Nothing is broken on purpose outside of a simulation.
    pub fn new(me: u64, voters: Vec<u64>, sabotage: Sabotage) -> Fence {
        Fence { me, voters, peers: PeerClocks::new(), passed: Timestamp::MIN, behind: None, sabotage }
    }

    /// As [`PeerClocks::observe`].
    pub fn observe(&mut self, peer: u64, at: Now, theirs: Interval, rtt_ns: Option<i64>) -> Option<Conflict> {
        self.peers.observe(peer, at, theirs, rtt_ns)
    }

    /// Our clock has another source from now on.
    pub fn source_changed(&mut self) {
        self.peers.source_changed();
    }

    /// A timestamp that true time has surely passed: a clock below it lies.
    pub fn has_passed(&mut self, at: Timestamp) {
        self.passed = self.passed.max(at);
    }

    /// A lease vote on this node's disk. It was made at most half a lease (two epsilons) ahead of true time, for
    /// five quarters of one.
    pub fn voted_until(&mut self, until: Timestamp, lease_ns: i64) {
        self.has_passed(until.minus_ns(2 * lease_ns));
    }

    /// A timestamp that a leader has assigned. It was below the end of its lease, of which a voter with a good clock,
    /// uncertain by a quarter of a lease at most, said that it had begun: so this holds even if the leader lied.
    pub fn used(&mut self, ts: Timestamp, lease_ns: i64) {
        self.has_passed(ts.minus_ns(lease_ns + lease_ns / 2));
    }

    /// Why this clock must be wrong whatever the peers say, as of the last judgement: it is below what was used
    /// before.
    pub fn behind(&self) -> Option<&str> {
        self.behind.as_deref()
    }

    /// Why the clock is to be fenced; `None` if nothing speaks against it. To be called every
    /// [`JUDGE_EVERY_NS`], with what the clock says now.
    pub fn judge(&mut self, now: Now) -> Option<String> {
        let verdict = self.peers.verdict(&self.voters, self.me, now.mono_ns, PEER_STALE_NS);
        let behind_ns = self.passed.since_ns(now.tt.latest);
        self.behind = (behind_ns > 0).then(|| {
            let (tt, passed) = (now.tt, self.passed);
            let by = format_duration_ns(behind_ns / 1_000_000 * 1_000_000);
            format!("the clock reads {tt}, and timestamps up to {passed} were used before: it is {by} behind")
        });
        if self.sabotage.breaks(Guarantee::LiarFenced) {
            return None;
        }
        self.behind.clone().or_else(|| verdict.reason())
    }

    /// As [`PeerClocks::rows`].
    pub fn rows(&self, mono_ns: i64) -> Vec<PeerRow> {
        self.peers.rows(mono_ns)
    }
}

/// How long a message of ours and its answer were under way at most: the answer arrived at `arrived_ns`, and says
/// that it echoes one that left at `echo_mono_ns`, both by our monotonic clock, and that lay at the peer for
/// `echo_delay_ns`. `None` without a sensible echo.
pub fn round_trip_ns(arrived_ns: i64, echo_mono_ns: i64, echo_delay_ns: i64) -> Option<i64> {
    if echo_mono_ns <= 0 || echo_delay_ns < 0 {
        return None;
    }
    let since_ns = arrived_ns.checked_sub(echo_mono_ns)?;
    let rtt_ns = since_ns.checked_sub(echo_delay_ns)?;
    // A negative one is nonsense: the peer claims to have waited for longer than we have.
    (rtt_ns >= 0).then(|| rtt_ns.saturating_add(echo_delay_ns / DELAY_TRUST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(at_ns: i64) -> Now {
        Now { tt: Interval::around(Timestamp::from_nanos(at_ns), 10), mono_ns: at_ns, trusted: true }
    }

    #[test]
    fn a_majority_of_peers_or_the_past_fence_a_clock() {
        let mut fence = Fence::new(1, vec![1, 2, 3], Sabotage::default());
        fence.observe(2, now(100), now(200).tt, None);
        assert_eq!(fence.judge(now(100)), None);
        fence.observe(3, now(100), now(200).tt, None);
        assert!(fence.judge(now(100)).is_some_and(|why| why.contains("nodes 2, 3")) && fence.behind().is_none());

        let mut fence = Fence::new(1, vec![1, 2, 3], Sabotage::default());
        fence.used(Timestamp::from_nanos(1_150), 300);
        fence.voted_until(Timestamp::from_nanos(1_200), 300);
        assert!(fence.judge(now(689)).is_some_and(|why| why.contains("were used before")));
        assert!(fence.behind().is_some());
        assert_eq!(fence.judge(now(690)), None);
        assert!(fence.behind().is_none());
    }
}
