//! One replica of one group: where inputs come in and effects go out.
//!
//! ```text
//!   input --> step --> message of a peer --> acceptor | learner | campaign | leader
//!              |                                  |
//!              |   timers, messages to itself <---+      (until nothing is left to do)
//!              v
//!     hand out what is chosen, in order --> Ready --> assert_invariants
//! ```
//!
//! A replica is an acceptor and a learner at all times; on top of it a voter is a follower, a
//! candidate or a leader. The state that outlives a crash is [`HardState`] and the log; all else
//! is rebuilt, or was only a hint.

use bytes::Bytes;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use truetime::{Guarantee, Now, Timestamp};

use crate::campaign::Candidate;
use crate::leader::Leading;
use crate::learner::Learner;
use crate::log::Log;
use crate::outbox::Outbox;
use crate::quorum::Quorum;
use crate::timer::{Timer, Timers};
use crate::{
    Ballot, Configuration, Event, HardState, Input, Leadership, Message, NodeId, Options, ProposeError, Ready,
    Restored, Slot,
};

/// What a voter is besides acceptor and learner.
#[derive(Debug)]
pub(crate) enum Role {
    Follower,
    Candidate(Box<Candidate>),
    Leader(Box<Leading>),
}

/// What the last step left, to see that nothing ever goes back.
#[derive(Debug, Default)]
struct Checked {
    promised: Ballot,
    chosen: Slot,
    lease: Option<(Ballot, Timestamp)>,
}

/// One replica of one group.
#[derive(Debug)]
pub struct Replica {
    pub(crate) id: NodeId,
    pub(crate) options: Options,
    pub(crate) config: Configuration,
    pub(crate) quorum: Quorum,
    pub(crate) hard: HardState,
    pub(crate) log: Log,
    pub(crate) learner: Learner,
    pub(crate) role: Role,
    pub(crate) out: Outbox,
    pub(crate) timers: Timers,
    /// The last ballot whose holder released its lease here: it gets no new vote under it.
    pub(crate) released: Option<Ballot>,
    /// This node used no timestamp above this in leaderships that it held and has lost.
    pub(crate) used_end: Option<Timestamp>,
    /// The highest round that a refusal has told of.
    pub(crate) round_seen: u64,
    /// The node believed to lead.
    pub(crate) leader: Option<NodeId>,
    /// Entries kept below the durable applied index.
    pub(crate) keep_slots: u64,
    leader_told: Option<NodeId>,
    rng: ChaCha8Rng,
    checked: Checked,
}

impl Replica {
    /// A replica from what its disk holds. It says nothing before its first step.
    pub fn new(id: NodeId, options: Options, restored: Restored, now: Now, rng: ChaCha8Rng) -> Replica {
        assert!(options.lease_ns > 0 && options.heartbeat_ns > 0 && options.resend_ns > 0, "lengths must be positive");
        assert!(
            0 < options.election_ns.start && options.election_ns.start < options.election_ns.end,
            "an election timeout needs a range"
        );
        let Restored { mut hard, entries, applied, epoch, config } = restored;
        // The applied state may have been made durable when the chosen entries that it came from were not: below
        // it, only what the hard state calls chosen may be served to others. And an entry that is missing has to be
        // learned again, with all that follow it.
        let known = applied.0 + 1..hard.chosen.0 + 1;
        if let Some(missing) = known.map(Slot).find(|slot| !entries.contains_key(slot)) {
            hard.chosen = Slot(missing.0 - 1);
        }
        let truncated = if applied > hard.chosen {
            applied
        } else {
            let mut first = hard.chosen.next();
            while first > hard.truncated.next() && entries.contains_key(&Slot(first.0 - 1)) {
                first = Slot(first.0 - 1);
            }
            Slot(first.0 - 1)
        };
        hard.chosen = hard.chosen.max(applied);
        hard.truncated = truncated;
        let own_vote = hard.lease.filter(|vote| vote.holder == id);
        let quorum = Quorum::new(&config);
        let mut replica = Replica {
            id,
            quorum,
            log: Log::new(entries, truncated),
            learner: Learner::new(applied, epoch, hard.chosen),
            role: Role::Follower,
            out: Outbox::new(id),
            timers: Timers::default(),
            released: None,
            // What it may have used before the restart. Its own vote is part of every lease that it held, so those are
            // below that vote, or, where another has replaced it, below the floor.
            used_end: own_vote.map(|vote| vote.until).max(hard.lease_floor),
            round_seen: 0,
            leader: None,
            keep_slots: options.keep_slots,
            leader_told: None,
            rng,
            checked: Checked { promised: hard.promised, chosen: hard.chosen, lease: None },
            options,
            config,
            hard,
        };
        if replica.config.voters.len() == 1 {
            replica.timers.set(Timer::Election, now.mono_ns);
        } else if own_vote.is_some() {
            // The others wait for this node's lease to pass; it need not.
            let delay_ns = replica.random_ns(0, replica.options.election_ns.start / 4);
            replica.timers.set(Timer::Election, now.mono_ns + delay_ns);
        } else {
            replica.reset_election(now);
        }
        replica
    }

    /// Handles one input; the caller must do what the [`Ready`] says.
    pub fn step(&mut self, now: Now, input: Input) -> Ready {
        if !now.trusted {
            self.give_up(now);
        }
        if self.lease_is_long_over(now) {
            self.depose(now);
        }
        match input {
            Input::Tick => {}
            Input::Message { from, message } => {
                if from != self.id {
                    self.receive(now, from, message);
                }
            }
            Input::Persisted(persist) => self.out.persisted(persist),
            Input::AppliedDurable(slot) => self.applied_durable(now, slot),
            Input::SnapshotInstalled { applied, epoch, config } => self.snapshot_installed(now, applied, epoch, config),
            Input::HandOver { to, used } => self.hand_over(now, to, used),
            Input::Campaign => self.campaign(now, true),
        }
        while let Some(timer) = self.timers.take_due(now.mono_ns) {
            self.fire(now, timer);
        }
        let mut chosen = Vec::new();
        loop {
            while let Some(message) = self.out.take_local() {
                self.receive(now, self.id, message);
            }
            self.hand_out(now, &mut chosen);
            self.flush(now);
            if !self.out.has_local() && self.learner.handed == self.hard.chosen {
                break;
            }
        }
        self.establish(now);
        if self.leader != self.leader_told {
            self.leader_told = self.leader;
            self.out.event(Event::LeaderHint(self.leader));
        }
        self.hint_chosen();
        let mut ready = self.out.finish(&self.hard);
        ready.chosen = chosen;
        ready.wake_at_ns = self.timers.next_ns();
        self.assert_invariants();
        ready
    }

    /// Queues a command under the established leadership and says the slot it will have. It goes
    /// out with the next [`Replica::step`], together with all others queued until then.
    pub fn propose(&mut self, now: Now, command: Bytes) -> Result<Slot, ProposeError> {
        let leads = self.leadership(now).is_some_and(|l| l.established);
        match &mut self.role {
            Role::Leader(leading) if leads => {
                leading.queue(command, self.options.inflight_slots_max).ok_or(ProposeError::Busy)
            }
            _ => Err(ProposeError::NotLeader(self.leader.filter(|leader| *leader != self.id))),
        }
    }

    /// The leadership held at `now`, established or not; `None` once the lease may have passed.
    pub fn leadership(&self, now: Now) -> Option<Leadership> {
        match &self.role {
            Role::Leader(leading) if now.trusted => {
                let began = |l: &Leadership| l.lease_end.minus_ns(self.options.lease_ns);
                let unchecked = self.options.sabotage.breaks(Guarantee::LeaseOnRead);
                let sure = self.options.sabotage.breaks(Guarantee::LeaseEpsilon);
                let lasts = |end| if sure { now.tt.earliest < end } else { now.tt.before(end) };
                let held = |l: &Leadership| lasts(l.lease_end) && began(l) <= now.tt.latest;
                leading.leadership().filter(|l| held(l) || unchecked)
            }
            _ => None,
        }
    }

    /// What is broken on purpose.
    pub fn sabotage(&self) -> truetime::Sabotage {
        self.options.sabotage
    }

    /// The node believed to lead, if any; it may no longer.
    pub fn leader_hint(&self) -> Option<NodeId> {
        self.leader
    }

    /// Every slot up to here is known to be chosen, and was handed out.
    pub fn chosen(&self) -> Slot {
        self.hard.chosen
    }

    /// The highest slot that this leader has proposed or queued; on others, the last in the log.
    pub fn last_proposed(&self) -> Slot {
        match &self.role {
            Role::Leader(leading) => leading.last_proposed(),
            _ => self.log.last(),
        }
    }

    /// The durable state, as of the last step.
    pub fn hard(&self) -> &HardState {
        &self.hard
    }

    /// The configuration at the last slot handed out.
    pub fn config(&self) -> &Configuration {
        &self.config
    }

    /// Who this is.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Bytes of the log in memory.
    pub fn log_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// The first slot that the log still has, or will have.
    pub fn first_slot(&self) -> Slot {
        self.log.truncated().next()
    }

    /// The ballot of the last `Start` handed out.
    pub fn epoch(&self) -> Ballot {
        self.learner.epoch
    }

    /// Keeps this many entries below the durable applied index, for peers that are briefly away.
    pub fn set_keep_slots(&mut self, slots: u64) {
        self.keep_slots = slots;
    }

    pub(crate) fn is_voter(&self) -> bool {
        self.config.voters.contains(&self.id)
    }

    /// Every other voter.
    pub(crate) fn other_voters(&self) -> Vec<NodeId> {
        self.config.voters.iter().copied().filter(|node| *node != self.id).collect()
    }

    /// A random length in `[from, to)`, or `from` if that is empty.
    pub(crate) fn random_ns(&mut self, from: i64, to: i64) -> i64 {
        if from < to { self.rng.random_range(from..to) } else { from }
    }

    /// Stands for election only after a whole random timeout from now.
    pub(crate) fn reset_election(&mut self, now: Now) {
        let std::ops::Range { start, end } = self.options.election_ns;
        let delay_ns = self.random_ns(start, end);
        self.timers.set(Timer::Election, now.mono_ns + delay_ns);
    }

    fn receive(&mut self, now: Now, from: NodeId, message: Message) {
        // Chosen entries are true whoever sends them; everything else is for members.
        let anyone = matches!(message, Message::CatchUp { .. } | Message::ChosenEntries { .. });
        if !anyone && !self.config.voters.contains(&from) && !self.config.learners.contains(&from) {
            return;
        }
        match message {
            Message::Prepare { ballot, probe, from: open, lease } => {
                self.on_prepare(now, from, ballot, probe, open, lease);
            }
            Message::Willing { ballot } => self.on_willing(now, from, ballot),
            Message::Promise { ballot, chosen, floor, lease, part, parts, entries } => {
                self.on_promise(now, from, ballot, lease, (chosen, floor), (part, parts, entries));
            }
            Message::Reject { ballot, promised, reason } => self.on_reject(now, from, ballot, promised, reason),
            Message::Accept { ballot, chosen, lease, entries } => {
                self.on_accept(now, from, ballot, chosen, lease, entries);
            }
            Message::Accepted { ballot, chosen, lease, ranges } => {
                self.on_accepted(now, from, ballot, chosen, lease, &ranges);
            }
            Message::CatchUp { from: slot } => self.on_catch_up(now, from, slot),
            Message::ChosenEntries { chosen, entries } => self.on_chosen_entries(now, from, chosen, entries),
            Message::Release { ballot, used } => {
                self.on_release(from, ballot, used);
            }
            Message::TimeoutNow { ballot, used } => {
                self.on_release(from, ballot, used);
                self.campaign(now, false);
            }
        }
    }

    fn fire(&mut self, now: Now, timer: Timer) {
        match timer {
            Timer::Election => self.election_due(now),
            Timer::Heartbeat => self.heartbeat_due(now),
            Timer::Resend => self.resend_due(now),
            Timer::Notice => self.notice_due(),
            Timer::Hint => self.out.hard_lazily(),
            Timer::CatchUp => self.catch_up_due(now),
            Timer::HandOver => self.hand_over_due(now),
        }
    }

    /// Stops standing or leading, because of the clock.
    fn give_up(&mut self, now: Now) {
        match self.role {
            Role::Follower => {}
            Role::Candidate(_) => self.abandon(now),
            Role::Leader(_) => self.depose(now),
        }
    }

    /// The configuration that a snapshot or a chosen entry brought.
    pub(crate) fn set_config(&mut self, now: Now, config: Configuration) {
        if self.config == config {
            return;
        }
        // A leadership counts votes of the configuration it began with, so it ends here.
        self.give_up(now);
        self.quorum = Quorum::new(&config);
        self.config = config;
        self.reset_election(now);
    }

    /// Each is cheap: this runs at the end of every step, in release builds too.
    fn assert_invariants(&mut self) {
        let (hard, id) = (&self.hard, self.id);
        let promised = hard.promised;
        assert!(promised >= self.log.ballot_max(), "{id}: accepted {} above {promised}", self.log.ballot_max());
        assert!(promised >= self.checked.promised, "{id}: promise went back to {promised}");
        assert!(hard.chosen >= self.checked.chosen, "{id}: chosen went back to {}", hard.chosen);
        assert_eq!(self.learner.handed, hard.chosen, "{id}: chosen slots were not handed out");
        assert_eq!(self.log.truncated(), hard.truncated, "{id}: truncation differs from the hard state");
        assert!(hard.truncated <= hard.chosen, "{id}: truncated {} above {}", hard.truncated, hard.chosen);
        let mut lease = None;
        match &self.role {
            Role::Follower => {}
            Role::Candidate(candidate) => {
                assert!(self.config.voters.contains(&id), "{id}: stands but has no vote");
                assert!(self.timers.is_set(Timer::Election), "{id}: a candidacy that never ends");
                candidate.assert_invariants(id, promised);
            }
            Role::Leader(leading) => {
                assert!(self.timers.is_set(Timer::Heartbeat), "{id}: a leader without a heartbeat");
                leading.assert_invariants(id, hard, &self.log);
                lease = Some((leading.ballot, leading.lease.end));
                if let (Some(now), Some(before)) = (lease, self.checked.lease) {
                    assert!(now >= before, "{id}: lease or ballot went back from {before:?} to {now:?}");
                }
            }
        }
        self.checked = Checked { promised, chosen: hard.chosen, lease: lease.or(self.checked.lease) };
    }
}
