//! Who stops a clock that lies: the production fence of each node, fed as the server feeds it.
//!
//! Only in runs beyond the promise. Each message carries its sender's interval, its monotonic clock and an echo of the
//! receiver's; idle links carry that alone, every 200 ms; and every 200 ms each node judges its clock
//! (`truetime::fence`). While it is fenced, each step of the node is told that its clock is not trusted.
//!
//! # What is demanded
//! The world knows what no node does: true time, and who lies. From that, and not from what a fence believes, follows:
//!
//! - **A liar is fenced.** Once a message from each of a majority of nodes has come whose interval cannot be true
//!   together with the liar's, given for how long that message and what it answers were under way, the liar must be
//!   fenced within [`FENCED_WITHIN_NS`], and stay so for as long as such messages come within [`PROVED_FOR_NS`] of
//!   one another and the clock lies. Since each link carries a message every 200 ms, that is 600 ms and a
//!   round trip after the clock has left its bound so far that it shows, if no more than a minority is away.
//! - **It comes back by itself.** Once round trips to a majority have agreed with its clock, and time has passed what the
//!   node remembers to have been used, it must be trusted within [`BACK_WITHIN_NS`]. At the end of a run nobody is fenced.
//! - **Nobody else is ever fenced**: whoever is not one of the run's liars.

use std::collections::BTreeMap;

use paxos::{GroupId, NodeId};
use truetime::compare::PROVED_FOR_NS;
use truetime::fence::{HEARTBEAT_NS, JUDGE_EVERY_NS, round_trip_ns};
use truetime::{Fence, Interval, Sabotage};
use txn::GroupLog;

use crate::clock::truth;
use crate::world::{Event, World};

const MS: i64 = 1_000_000;
/// A clock that a majority contradicts is fenced within this: one judgement, and a little.
const FENCED_WITHIN_NS: i64 = JUDGE_EVERY_NS + 10 * MS;
/// A clock that a majority agrees with is trusted within this: proofs lapse, another round trip agrees, and it is judged.
const BACK_WITHIN_NS: i64 = 2 * PROVED_FOR_NS + JUDGE_EVERY_NS + 10 * MS;

/// The clock that comes with a message.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    tt: Interval,
    mono_ns: i64,
    incarnation: u64,
    echo: Option<Echo>,
    /// In true time, which no node knows.
    sent_at: i64,
}

/// What was last heard of the receiver.
#[derive(Clone, Copy, Debug)]
struct Echo {
    mono_ns: i64,
    delay_ns: i64,
    incarnation: u64,
    /// In true time: when that was sent, and when it was heard.
    sent_at: i64,
    heard_at: i64,
}

/// The last message of a peer.
#[derive(Clone, Copy, Debug)]
struct Seen {
    mono_ns: i64,
    incarnation: u64,
    sent_at: i64,
    arrived_mono_ns: i64,
    arrived_at: i64,
}

/// What a process knows of others' clocks, and what the world knows of it.
#[derive(Debug)]
pub struct Guard {
    fence: Fence,
    seen: BTreeMap<NodeId, Seen>,
    /// When each peer last proved that this clock is wrong, in true time.
    proofs: BTreeMap<NodeId, i64>,
    /// The same of round trips that agreed.
    agreed: BTreeMap<NodeId, i64>,
    /// Since when a majority has proved it, or has agreed.
    proved_since: Option<i64>,
    agreed_since: Option<i64>,
}

impl World {
    /// A process begins to compare clocks, with what its disk remembers.
    pub(crate) fn new_guard(&mut self, id: NodeId, logs: &BTreeMap<GroupId, GroupLog>) {
        if self.swarm.beyond.is_none() {
            return;
        }
        let sabotage = self.sabotage();
        let voters = self.swarm.node_ids().map(|node| node.0).collect();
        let mut fence = Fence::new(id.0, voters, sabotage);
        for log in logs.values() {
            let votes = log.hard.lease.map(|vote| vote.until).max(log.hard.lease_floor);
            votes.iter().for_each(|until| fence.voted_until(*until, self.swarm.lease_ns));
        }
        let server = self.server(id);
        server.guard = Some(Guard {
            fence,
            seen: BTreeMap::new(),
            proofs: BTreeMap::new(),
            agreed: BTreeMap::new(),
            proved_since: None,
            agreed_since: None,
        });
        server.clock.fenced = false;
        self.look_at_liar(id);
    }

    fn sabotage(&self) -> Sabotage {
        #[cfg(feature = "canaries")]
        if let Some(crate::canary::Canary::Broken(guarantee)) = self.swarm.canary {
            return Sabotage::of(guarantee);
        }
        Sabotage::default()
    }

    /// The clock of a message that leaves now; none where clocks keep their promise.
    pub(crate) fn stamp(&mut self, from: NodeId, to: NodeId) -> Option<Stamp> {
        let now_ns = self.now;
        let server = self.server(from);
        let now = server.clock.now(now_ns);
        let seen = server.guard.as_ref()?.seen.get(&to);
        let echo = seen.map(|seen| Echo {
            mono_ns: seen.mono_ns,
            delay_ns: now.mono_ns - seen.arrived_mono_ns,
            incarnation: seen.incarnation,
            sent_at: seen.sent_at,
            heard_at: seen.arrived_at,
        });
        Some(Stamp { tt: now.tt, mono_ns: now.mono_ns, incarnation: server.incarnation, echo, sent_at: now_ns })
    }

    pub(crate) fn heard(&mut self, from: NodeId, to: NodeId, stamp: Stamp) {
        if !self.acquainted(from, to) {
            return;
        }
        let (now_ns, honest) = (self.now, self.servers[&from].clock.lie.is_none());
        let server = self.server(to);
        let now = server.clock.now(now_ns);
        let Some(guard) = &mut server.guard else { return };
        // The stream on which an echo of an earlier process might come ended with that process.
        let echo = stamp.echo.filter(|echo| echo.incarnation == server.incarnation);
        let rtt_ns = echo.and_then(|echo| round_trip_ns(now.mono_ns, echo.mono_ns, echo.delay_ns));
        let proved = guard.fence.observe(from.0, now, stamp.tt, rtt_ns);
        let seen = Seen {
            mono_ns: stamp.mono_ns,
            incarnation: stamp.incarnation,
            sent_at: stamp.sent_at,
            arrived_mono_ns: now.mono_ns,
            arrived_at: now_ns,
        };
        guard.seen.insert(from, seen);
        // The same in true time, of a peer whose clock is good. Monotonic clocks may differ by 400 ppm, and what lay at
        // the peer is trusted to a thousandth.
        let way_ns = echo.map(|echo| {
            let (whole, lay) = (now_ns - echo.sent_at, stamp.sent_at - echo.heard_at);
            whole - lay + (whole + lay) / 500 + 1_000
        });
        let ahead = way_ns.is_some_and(|way_ns| now.tt.earliest > stamp.tt.latest.plus_ns(way_ns));
        if honest && (ahead || now.tt.latest < stamp.tt.earliest) {
            guard.proofs.insert(from, now_ns);
        }
        if honest && rtt_ns.is_some() && server.clock.lie.is_none() {
            guard.agreed.insert(from, now_ns);
        }
        if let Some(conflict) = proved.filter(|conflict| conflict.first) {
            self.note(format!("{to} says: {conflict}"));
        }
    }

    /// A node judges its clock, and tells it to all.
    pub(crate) fn pulse(&mut self, id: NodeId) {
        let (now_ns, lease_ns) = (self.now, self.swarm.lease_ns);
        let used = self.process(id).node.used_ts();
        let server = self.server(id);
        let now = server.clock.now(now_ns);
        let Some(guard) = &mut server.guard else { return };
        guard.fence.used(used, lease_ns);
        let reason = guard.fence.judge(now);
        self.fence(id, reason);
        for to in self.swarm.node_ids().filter(|to| *to != id) {
            let Some(stamp) = self.stamp(id, to) else { continue };
            for at in self.network.arrivals(now_ns, id, to) {
                self.at(at, Event::Heard { from: id, to, stamp });
            }
        }
        self.later(id, HEARTBEAT_NS, |node, incarnation| Event::Pulse { node, incarnation });
    }

    fn fence(&mut self, id: NodeId, reason: Option<String>) {
        let now_ns = self.now;
        let server = self.server(id);
        if server.clock.fenced == reason.is_some() {
            return;
        }
        server.clock.fenced = reason.is_some();
        let lie = server.clock.lie;
        let is_liar = self.swarm.beyond.as_ref().is_some_and(|beyond| beyond.liars.contains(&id));
        let counters = &mut self.shared.counters;
        match (&reason, lie) {
            (Some(_), Some(lie)) => {
                counters.hit("beyond: a liar was fenced");
                counters.hit(match now_ns - lie.from {
                    ..=400_000_000 => "beyond: fenced within 0.4 s",
                    400_000_001..=1_000_000_000 => "beyond: fenced within 1 s",
                    _ => "beyond: fenced later",
                });
            }
            (Some(_), None) => counters.hit("beyond: fenced once it was good again"),
            (None, _) => counters.hit("beyond: a fenced node came back"),
        }
        self.note(match &reason {
            Some(reason) => format!("{id} is fenced: {reason}"),
            None => format!("{id} is trusted again"),
        });
        if let Some(reason) = reason.filter(|_| !is_liar) {
            self.fail(format!("fence: {id}, whose clock is good, is fenced: {reason}"));
        }
        self.look_at_liar(id);
    }

    /// Notes since when, and until when, a clock is at large.
    pub(crate) fn look_at_liar(&mut self, id: NodeId) {
        let now_ns = self.now;
        let clock = &mut self.server(id).clock;
        let (lies, fenced) = (clock.lie.is_some(), clock.fenced);
        self.shared.lies.look(id, now_ns, lies, fenced);
    }

    /// Whether everyone is fenced who must be, and nobody for longer than needed.
    pub(crate) fn watch_fences(&mut self) -> Result<(), String> {
        if self.swarm.beyond.is_none() {
            return Ok(());
        }
        let (now_ns, majority) = (self.now, self.swarm.nodes as usize / 2 + 1);
        let liars = self.servers.values().filter(|server| server.clock.lie.is_some());
        let liars: Vec<NodeId> = liars.map(|server| server.id).collect();
        for server in self.servers.values_mut() {
            let awake = server.is_awake();
            let now = server.clock.now(now_ns);
            let Some(guard) = &mut server.guard else { continue };
            let lies = !now.tt.contains(truth(now_ns));
            if lies {
                self.shared.counters.hit("beyond the promise: I1 lost");
            } else {
                guard.proofs.clear();
            }
            if server.clock.lie.is_some() {
                guard.agreed.clear();
            }
            guard.agreed.retain(|peer, _| !liars.contains(peer));
            let recent =
                |seen: &BTreeMap<NodeId, i64>| seen.values().filter(|at| now_ns - **at <= PROVED_FOR_NS).count();
            let proved = awake && recent(&guard.proofs) >= majority;
            guard.proved_since = if proved { guard.proved_since.or(Some(now_ns)) } else { None };
            let behind = guard.fence.behind().is_some();
            // The node itself is one of those that agree with it.
            let agreed = awake && recent(&guard.agreed) + 1 >= majority && !behind;
            guard.agreed_since = if agreed { guard.agreed_since.or(Some(now_ns)) } else { None };
            let over = |since: Option<i64>, ns: i64| since.is_some_and(|since| now_ns - since > ns);
            if !server.clock.fenced && over(guard.proved_since, FENCED_WITHIN_NS) {
                let id = server.id;
                return Err(format!(
                    "fence: a majority contradicts the clock of {id}, {}, and it is not fenced",
                    now.tt
                ));
            }
            if server.clock.fenced && over(guard.agreed_since, BACK_WITHIN_NS) {
                return Err(format!(
                    "fence: a majority agrees with the clock of {}, and it is still fenced",
                    server.id
                ));
            }
        }
        Ok(())
    }
}
