//! Beyond the promise: runs in which the clocks of a minority leave their bounds.
//!
//! Everything else in the simulator keeps the promise of I1, and then nothing may ever be wrong. Here it is broken,
//! and two things must hold. The liar is fenced as soon as it can be (`fencing`). And until then, nothing is lost but
//! what rests on clocks (`excuses`).
//!
//! # How a clock lies
//! | kind | what it does |
//! | --- | --- |
//! | `Step` | it jumps, either way, and back at the end |
//! | `Drift` | it gets ever further away, and jumps back at the end |
//! | `OverRestart` | its process is killed, and finds it set back as it starts |
//!
//! By a part of epsilon, which nobody can notice, to five seconds, which outlasts every lease; for 50 ms to four
//! leases. The monotonic clock keeps its promise: one that does not is a broken machine. The liars of a run are
//! always the same nodes, less than half of all, mostly one. Each node leads some group at first.
//!
//! # What a liar can do, and what not
//! A node puts its clock into three things: leases that it holds or votes for, timestamps that it assigns, and
//! timestamps that it reads at or waits for.
//!
//! - **Leases.** A liar that is ahead takes the vote that it gave for expired, and helps another leader while the
//!   first still leads; one that is behind goes on leading when its voters think that it stopped. Both break I5.
//! - **But timestamps of two leaders stay apart**, because they do not rest on clocks once leases are granted: the
//!   vote is kept as a *timestamp*, never below the end of the lease that it supports (a request that starts
//!   in the voter's future is refused), and the promise of a new leader is above every vote that its
//!   majority ever gave. So I2 and I12 hold: no write ever falls below a timestamp that was promised to readers. The
//!   old leader cannot get anything chosen (I3), and locks are only as good as a record in the log (I11).
//! - **Two leaders alone lose nothing that a client could see**: the new one waits out its first commits, which are above
//!   the old one's lease, so if both are honest the old one has stopped before anybody is told of them.
//! - **A leader that is ahead** assigns timestamps that have not come, at most up to the end of its lease, and thinks that
//!   it has waited for them: a commit is answered too early (I7), seen too early where the liar answers (I8),
//!   and the next commit elsewhere gets a smaller timestamp, or a strong read misses it (I7).
//! - **A leader that is behind** assigns timestamps that are over (I7), and answers strong reads after its
//!   lease (I7). **A gateway that is behind** picks a strong read's timestamp in the past (I7).
//! - **A leader that is ahead collects versions** up to a lease too early: a read that is just within the retention is
//!   told that it is too old. It is never told anything wrong.
//!
//! What does not rest on clocks at all: I3, I4, I6, I9, I10, I11, I13, I14.

use paxos::NodeId;
use rand::RngExt;

use crate::clock::Lie;
use crate::rng::{Purpose, log_uniform, pick, stream};
use crate::swarm::Swarm;
use crate::world::{Event, World};

const MS: i64 = 1_000_000;
/// The widest lie.
const LIE_NS_MAX: i64 = 5_000 * MS;

/// How a clock lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It jumps.
    Step,
    /// It gets ever further away.
    Drift,
    /// It was set back while its process was down.
    OverRestart,
}

/// One lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When it begins.
    pub at: i64,
    /// And ends.
    pub until: i64,
    /// Whose.
    pub node: NodeId,
    /// How.
    pub kind: Kind,
    /// By how much.
    pub by_ns: i64,
}

/// What a run beyond the promise has drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// The nodes whose clocks lie now and then.
    pub liars: Vec<NodeId>,
    /// What they tell, in the order of beginnings for each.
    pub lies: Vec<Planned>,
}

impl Beyond {
    /// Whether a seed is such a run by itself.
    pub fn is_drawn(seed: u64) -> bool {
        stream(seed, 0, Purpose::Swarm, 5).random_range(0..12) == 0
    }

    /// The lies of a run.
    pub fn draw(seed: u64, swarm: &Swarm) -> Beyond {
        let rng = &mut stream(seed, 0, Purpose::Swarm, 6);
        let most = (swarm.nodes - 1) / 2;
        let count = if rng.random_range(0..4) == 0 { rng.random_range(1..=most) } else { 1 };
        let first = rng.random_range(0..swarm.nodes);
        let liars: Vec<NodeId> = (0..count).map(|i| NodeId(1 + (first + i) % swarm.nodes)).collect();
        let (lease_ns, epsilon_ns) = (swarm.lease_ns, swarm.epsilon_ns);
        let mut lies = Vec::new();
        for node in &liars {
            let mut at = lease_ns + rng.random_range(0..lease_ns);
            loop {
                let until = at + log_uniform(rng, 50 * MS, 4 * lease_ns);
                if until >= swarm.faults_until {
                    break;
                }
                let by_ns = match rng.random_range(0..4) {
                    0 => log_uniform(rng, (epsilon_ns / 8).max(1_000), 4 * epsilon_ns),
                    1 => log_uniform(rng, 2 * epsilon_ns, lease_ns),
                    _ => log_uniform(rng, 2 * epsilon_ns, LIE_NS_MAX),
                };
                let kind = *pick(rng, &[Kind::Step, Kind::Step, Kind::Drift, Kind::OverRestart]);
                let back = kind == Kind::OverRestart || rng.random();
                lies.push(Planned { at, until, node: *node, kind, by_ns: if back { -by_ns } else { by_ns } });
                at = until + log_uniform(rng, lease_ns / 4, 3 * lease_ns);
            }
        }
        Beyond { liars, lies }
    }

    /// In a few words.
    pub fn describe(&self) -> String {
        let ms = |ns: i64| truetime::format_duration_ns(ns / MS * MS);
        let lie = |lie: &Planned| {
            let Planned { at, until, node, kind, by_ns } = lie;
            format!("{node} {kind:?} {} {}..{}", truetime::format_duration_ns(*by_ns), ms(*at), ms(*until))
        };
        self.lies.iter().map(lie).collect::<Vec<_>>().join(", ")
    }
}

/// What happens to clocks beyond their bounds.
#[derive(Debug)]
pub enum Turn {
    /// A lie begins.
    Begins(Planned),
    /// It ends.
    Ends(Planned),
}

impl World {
    /// Puts all lies on the agenda.
    pub(crate) fn plan_lies(&mut self) {
        let lies = self.swarm.beyond.iter().flat_map(|beyond| beyond.lies.clone()).collect::<Vec<_>>();
        for lie in lies {
            self.at(lie.at, Event::Turn(Turn::Begins(lie)));
            self.at(lie.until, Event::Turn(Turn::Ends(lie)));
        }
    }

    pub(crate) fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Begins(lie) if !self.healed => {
                self.note(format!("the clock of {} lies: {lie:?}", lie.node));
                self.shared.counters.hit(match lie.kind {
                    Kind::Step => "beyond: a clock stepped",
                    Kind::Drift => "beyond: a clock drifted away",
                    Kind::OverRestart => "beyond: a clock was set back over a restart",
                });
                if lie.kind == Kind::OverRestart {
                    let down = log_uniform(&mut stream(self.seed, lie.node.0, Purpose::Swarm, 7), MS, 200 * MS);
                    self.crash_for(lie.node, false, down);
                }
                let ramp_ns = if lie.kind == Kind::Drift { lie.until - lie.at } else { 0 };
                self.server(lie.node).clock.lie = Some(Lie { from: lie.at, by_ns: lie.by_ns, ramp_ns });
                self.shared.lies.told(lie.by_ns);
                self.look_at_liar(lie.node);
            }
            Turn::Ends(lie) => self.end_lie(lie.node),
            Turn::Begins(_) => {}
        }
    }

    /// Its clock is good again.
    pub(crate) fn end_lie(&mut self, node: NodeId) {
        if let Some(lie) = self.server(node).clock.lie.take() {
            if !self.shared.lies.was_fenced(node, lie.from, self.now) {
                self.shared.counters.hit("beyond: a lie that was over before it was found");
            }
            self.note(format!("the clock of {node} is good again"));
            self.look_at_liar(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn liars_are_a_minority_and_tell_one_lie_at_a_time() {
        let (mut several, mut drawn) = (0, 0);
        for seed in 0..600 {
            let swarm = Swarm::draw(seed, None);
            assert!(swarm.beyond.is_none() || Beyond::is_drawn(seed));
            drawn += usize::from(swarm.beyond.is_some());
            let Beyond { liars, lies } = Beyond::draw(seed, &swarm);
            assert!(!liars.is_empty() && liars.len() * 2 < swarm.nodes as usize, "{liars:?} of {}", swarm.nodes);
            several += usize::from(liars.len() > 1);
            assert!(lies.iter().all(|lie| liars.contains(&lie.node) && lie.until < swarm.faults_until));
            for pair in lies.windows(2).filter(|pair| pair[0].node == pair[1].node) {
                assert!(pair[0].until < pair[1].at, "{pair:?}");
            }
        }
        assert!(several > 0 && (20..90).contains(&drawn), "{several} with several liars, {drawn} drawn of 600");
    }
}
