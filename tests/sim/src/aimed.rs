//! Faults at the worst moment: the world watches what nodes write and send, and strikes there.
//!
//! Random faults seldom fall between two messages of one commit. So from time to time one aim is
//! drawn, of those that exist in the run, and waits for its moment: a message about to leave, or
//! just gone or arrived; a record just written or just synced. It lets a few such moments pass, strikes at
//! the next, and after a while another aim is drawn.
//!
//! ```text
//!   gateway         coordinator's leader                 participant's leader
//!   Prepare ------------------------------------------------->   GatewayAsked
//!   Commit  ------------->  GatewayCommitted, CoordinatorAsked
//!                                                        writes its prepare record: PrepareSynced
//!                           <--------- Prepared ---------  VoteLeaves, LostVote
//!                     CoordinatorVoted
//!                     writes the decision: DecisionWritten
//!                     ------------> to its followers: DecisionLeft
//!                     syncs it: DecisionSynced
//!                           ---------- Decided ---------->  LostDecision
//!                                                          (VoteLeft: it had voted)
//!           <------ Committed                               AnswerLeaves, AnswerLeft, LostReply
//!   client: LostAnswer
//! ```
//!
//! Whoever is killed so may lose power too, and comes back within two leases. The disk of a snapshot's
//! sender may fail with it.
//!
//! One aim has two moments. A leader that dies as a group is born of a split is soon back, and leads on with a
//! log that begins after the split; so it sends the others snapshots of the parent, and has the only copy of
//! the new group. `OnlyCopy` then takes its disk, once another has installed such a snapshot.

use paxos::{GroupId, Message, NodeId, Payload, Write};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use truetime::Timestamp;
use txn::command::Command;
use txn::{NodeMessage, Reply, RequestBody, SnapshotMessage, TwoPhase};

use crate::clients::Answer;
use crate::faults::Fault;
use crate::rng::{Purpose, log_uniform, pick, stream};
use crate::server::Parcel;
use crate::storms::Sequel;
use crate::world::{Event, World};

const MS: i64 = 1_000_000;

/// A moment, and what happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aim {
    /// The gateway dies once the first request to prepare has left it.
    GatewayAsked,
    /// The gateway dies once its request to commit with others has left it.
    GatewayCommitted,
    /// The coordinator's leader dies once it has the request to commit, before any vote.
    CoordinatorAsked,
    /// The coordinator's leader dies once a vote has arrived.
    CoordinatorVoted,
    /// The coordinator's leader dies as the decision is written: not synced, and sent to no one.
    DecisionWritten,
    /// The coordinator's leader dies once the decision has left for its first follower.
    DecisionLeft,
    /// The coordinator's leader dies once the decision is synced, before anything more leaves.
    DecisionSynced,
    /// The leader dies as the answer to a commit is about to leave.
    AnswerLeaves,
    /// The coordinator's leader dies once the answer has left, with no participant told.
    AnswerLeft,
    /// A participant's leader dies once its prepare record is synced.
    PrepareSynced,
    /// A participant's leader dies as its vote is about to leave.
    VoteLeaves,
    /// A leader stops, for longer than its lease, as the answer to a read is about to leave.
    ReadStalls,
    /// The leader dies as a split is written.
    SplitWritten,
    /// A node dies at the birth of a group.
    SplitBorn,
    /// The node at which a group is first born dies, and its disk is gone once others have snapshots from it.
    OnlyCopy,
    /// The sender dies once a chunk of a snapshot has left.
    SnapshotSender,
    /// The receiver dies once it has taken in a chunk of a snapshot.
    SnapshotReceiver,
    /// A leader dies once it has handed over.
    HandedOver,
    /// The heir dies once it has taken over.
    HeirDies,
    /// A vote is lost.
    LostVote,
    /// A decision is lost on its way to a participant.
    LostDecision,
    /// The answer to a commit is lost on its way to the gateway.
    LostReply,
    /// The answer to a commit is lost on its way to the client.
    LostAnswer,
    /// A participant's leader loses power once its vote has left.
    VoteLeft,
    /// A leader is heard by one follower alone, whose acceptances nobody hears; then it loses power. The follower is
    /// back once there is another leader, which then stops: the next one finds values of the first behind the
    /// start of the second.
    Forsaken,
}

impl Aim {
    /// All of them.
    pub const ALL: [Aim; 23] = [
        Aim::GatewayAsked,
        Aim::GatewayCommitted,
        Aim::CoordinatorAsked,
        Aim::CoordinatorVoted,
        Aim::DecisionWritten,
        Aim::DecisionLeft,
        Aim::DecisionSynced,
        Aim::AnswerLeaves,
        Aim::AnswerLeft,
        Aim::PrepareSynced,
        Aim::VoteLeaves,
        Aim::ReadStalls,
        Aim::SplitWritten,
        Aim::SplitBorn,
        Aim::SnapshotSender,
        Aim::SnapshotReceiver,
        Aim::HandedOver,
        Aim::HeirDies,
        Aim::LostVote,
        Aim::LostDecision,
        Aim::LostReply,
        Aim::LostAnswer,
        Aim::OnlyCopy,
    ];

    /// Those that are drawn after them.
    pub const MORE: [Aim; 2] = [Aim::VoteLeft, Aim::Forsaken];

    /// Every one there is.
    pub fn every() -> impl Iterator<Item = Aim> {
        Aim::ALL.into_iter().chain(Aim::MORE)
    }

    /// What the run's counters call it.
    pub fn name(self) -> &'static str {
        match self {
            Aim::GatewayAsked => "aimed: gateway, prepare sent",
            Aim::GatewayCommitted => "aimed: gateway, commit sent",
            Aim::CoordinatorAsked => "aimed: coordinator, asked to commit",
            Aim::CoordinatorVoted => "aimed: coordinator, vote arrived",
            Aim::DecisionWritten => "aimed: coordinator, decision written",
            Aim::DecisionLeft => "aimed: coordinator, decision at one follower",
            Aim::DecisionSynced => "aimed: coordinator, decision synced",
            Aim::AnswerLeaves => "aimed: coordinator, before its answer",
            Aim::AnswerLeft => "aimed: coordinator, answered, no participant told",
            Aim::PrepareSynced => "aimed: participant, prepare synced",
            Aim::VoteLeaves => "aimed: participant, before its vote",
            Aim::ReadStalls => "aimed: leader stopped before a read's answer",
            Aim::SplitWritten => "aimed: leader, split written",
            Aim::SplitBorn => "aimed: node, group born",
            Aim::OnlyCopy => "aimed: disk with the only copy of a group",
            Aim::SnapshotSender => "aimed: sender of a snapshot",
            Aim::SnapshotReceiver => "aimed: receiver of a snapshot",
            Aim::HandedOver => "aimed: leader, handed over",
            Aim::HeirDies => "aimed: heir, taken over",
            Aim::LostVote => "aimed: vote lost",
            Aim::LostDecision => "aimed: decision lost",
            Aim::LostReply => "aimed: reply of a commit lost",
            Aim::LostAnswer => "aimed: client's answer lost",
            Aim::VoteLeft => "aimed: participant, voted",
            Aim::Forsaken => "aimed: leader, heard by one alone",
        }
    }

    /// How many of its moments pass at most before it strikes: many for what happens all the time.
    fn passes_max(self) -> u32 {
        match self {
            Aim::ReadStalls => 100,
            Aim::OnlyCopy => 1,
            Aim::SplitWritten | Aim::SplitBorn | Aim::HandedOver | Aim::HeirDies => 0,
            Aim::SnapshotSender | Aim::SnapshotReceiver => 2,
            _ => 6,
        }
    }

    /// What makes its moment come, if that comes seldom.
    fn provoked_by(self) -> Option<Fault> {
        match self {
            Aim::SplitWritten | Aim::SplitBorn | Aim::OnlyCopy => Some(Fault::Split),
            Aim::HandedOver | Aim::HeirDies => Some(Fault::HandOver),
            Aim::SnapshotSender | Aim::SnapshotReceiver => Some(Fault::LongAbsence),
            _ => None,
        }
    }
}

/// The aims of a run.
#[derive(Debug)]
pub struct Aims {
    exist: Vec<Aim>,
    every_ns: i64,
    rng: ChaCha8Rng,
    /// Nothing is aimed at before.
    next_at: i64,
    armed: Option<Armed>,
}

#[derive(Debug)]
struct Armed {
    aim: Aim,
    passes: u32,
    until: i64,
    /// The log write that is waited for: whose, of which process, and its number.
    write: Option<(NodeId, u64, u64)>,
    /// The commit whose participants are told nothing: who decided, and when it is.
    mute: Option<(NodeId, Timestamp)>,
    /// The node whose disk may hold the only copy of a group.
    keeper: Option<NodeId>,
}

/// What becomes of something that is about to leave a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It leaves.
    Goes,
    /// It is lost.
    Lost,
    /// It does not: its node dies.
    Dies,
    /// It does not yet: its node stops for so long.
    Stops(i64),
}

impl Aims {
    /// None, if the run has none.
    pub fn new(exist: Vec<Aim>, every_ns: i64, seed: u64) -> Aims {
        Aims { exist, every_ns, rng: stream(seed, 0, Purpose::Nemesis, 1), next_at: every_ns, armed: None }
    }

    /// Draws an aim, if it is time for one.
    fn draw(&mut self, now: i64, lease_ns: i64) -> Option<Aim> {
        if self.exist.is_empty() || now < self.next_at || self.armed.as_ref().is_some_and(|armed| armed.until >= now) {
            return None;
        }
        let aim = *pick(&mut self.rng, &self.exist);
        let passes = self.rng.random_range(0..=aim.passes_max());
        let leases = match aim.provoked_by() {
            Some(Fault::LongAbsence) => 10,
            _ if aim == Aim::OnlyCopy => 4,
            _ => 0,
        };
        let until = now + 1_000 * MS + leases * lease_ns;
        self.armed = Some(Armed { aim, passes, until, write: None, mute: None, keeper: None });
        Some(aim)
    }

    /// One of its moments has come. True if it is to be used.
    fn chosen(&mut self) -> bool {
        let Some(armed) = &mut self.armed else { return false };
        let chosen = armed.passes == 0;
        armed.passes = armed.passes.saturating_sub(1);
        chosen
    }
}

/// The transactions' records among what a leader has just written by itself: those of its own ballot.
fn records(node: NodeId, writes: &[(GroupId, Write)]) -> impl Iterator<Item = Command> {
    writes.iter().filter_map(move |(_, write)| match write {
        Write::Entry(entry) if entry.origin.node == node && entry.ballot.node == node => match &entry.payload {
            Payload::Command(bytes) => Command::decode(bytes.clone()).ok(),
            _ => None,
        },
        _ => None,
    })
}

/// Whether this is the decision to commit in several groups.
fn is_decision(command: &Command) -> bool {
    matches!(command, Command::Commit { participants, .. } if !participants.is_empty())
}

fn asks_several(body: &RequestBody) -> bool {
    matches!(body, RequestBody::Commit { participants, .. } if !participants.is_empty())
}

fn is_chunk(message: &NodeMessage) -> bool {
    matches!(message, NodeMessage::Snapshot { message: SnapshotMessage::Chunk { .. }, .. })
}

fn hands_over(message: &NodeMessage) -> bool {
    matches!(message, NodeMessage::Paxos { message: Message::TimeoutNow { .. }, .. })
}

fn sends_decision(message: &NodeMessage) -> bool {
    let NodeMessage::Paxos { message: Message::Accept { entries, ballot, .. }, .. } = message else { return false };
    entries.iter().any(|entry| match &entry.payload {
        Payload::Command(bytes) if entry.origin == *ballot => {
            Command::decode(bytes.clone()).is_ok_and(|c| is_decision(&c))
        }
        _ => false,
    })
}

impl World {
    /// The aim that waits for its moment.
    fn armed_aim(&mut self) -> Option<Aim> {
        if self.healed {
            return None;
        }
        if let Some(drawn) = self.aims.draw(self.now, self.swarm.lease_ns)
            && let Some(fault) = drawn.provoked_by()
        {
            self.after(0, Event::Sequel(Sequel::Provoke(fault)));
        }
        self.aims.armed.as_ref().map(|armed| armed.aim)
    }

    /// The aim has struck.
    fn struck(&mut self, aim: Aim) {
        self.shared.counters.hit(aim.name());
        self.note(format!("aimed: {aim:?}"));
        let aims = &mut self.aims;
        aims.armed = None;
        aims.next_at = self.now + log_uniform(&mut aims.rng, aims.every_ns / 4, aims.every_ns * 2);
    }

    pub(crate) fn strike_down(&mut self, aim: Aim, node: NodeId) {
        self.struck(aim);
        let power_cut = matches!(aim, Aim::DecisionWritten | Aim::VoteLeft) || self.aims.rng.random();
        if aim == Aim::SnapshotSender && self.aims.rng.random() {
            // Perhaps for good, and its receivers are all that is left.
            self.halt(node, "its disk fails amid a transfer", power_cut);
            return;
        }
        let down = log_uniform(&mut self.aims.rng, MS, 2 * self.swarm.lease_ns);
        self.crash_for(node, power_cut, down);
    }

    /// A node writes this to its log: the aim that is to strike once it is written.
    pub(crate) fn aim_at_write(&mut self, node: NodeId, persist: u64, writes: &[(GroupId, Write)]) -> Option<Aim> {
        let aim = self.armed_aim()?;
        let matches = match aim {
            Aim::DecisionWritten | Aim::DecisionSynced => records(node, writes).any(|command| is_decision(&command)),
            Aim::PrepareSynced => records(node, writes).any(|command| matches!(command, Command::Prepare(_))),
            Aim::SplitWritten => records(node, writes).any(|command| matches!(command, Command::Split { .. })),
            _ => false,
        };
        if !matches || !self.aims.chosen() {
            return None;
        }
        if matches!(aim, Aim::DecisionSynced | Aim::PrepareSynced) {
            let incarnation = self.server(node).incarnation;
            if let Some(armed) = &mut self.aims.armed {
                armed.write.get_or_insert((node, incarnation, persist));
            }
            return None;
        }
        Some(aim)
    }

    /// A node's log is durable up to this write, and nothing that waited for it has left. True if that
    /// was its end.
    pub(crate) fn aim_at_sync(&mut self, node: NodeId, persist: u64) -> bool {
        let Some(aim) = self.armed_aim() else { return false };
        let incarnation = self.server(node).incarnation;
        let waited = self.aims.armed.as_ref().and_then(|armed| armed.write);
        if !waited.is_some_and(|(of, process, at)| of == node && process == incarnation && at <= persist) {
            return false;
        }
        self.strike_down(aim, node);
        true
    }

    /// A node says this of itself. True if that was its end.
    pub(crate) fn aim_at_notes(&mut self, node: NodeId, notes: &[String]) -> bool {
        let says = |what| notes.iter().any(|note| note.contains(what));
        let (born, installed) = (says("born of a split"), says("installed a snapshot"));
        if !born && !installed {
            return false;
        }
        match self.armed_aim() {
            Some(Aim::SplitBorn) if born && self.aims.chosen() => {
                self.strike_down(Aim::SplitBorn, node);
                true
            }
            Some(Aim::OnlyCopy) => self.aim_at_the_only_copy(node, born),
            _ => false,
        }
    }

    fn aim_at_the_only_copy(&mut self, node: NodeId, born: bool) -> bool {
        let keeper = self.aims.armed.as_ref().and_then(|armed| armed.keeper);
        match keeper {
            None if born => {
                self.aims.armed.as_mut().expect("it is armed").keeper = Some(node);
                let down = log_uniform(&mut self.aims.rng, MS, self.swarm.lease_ns / 8);
                self.note(format!("aimed: {node} may have the only copy"));
                self.crash_for(node, false, down);
                true
            }
            Some(keeper) if !born && keeper != node && self.aims.chosen() => {
                self.struck(Aim::OnlyCopy);
                self.note(format!("{keeper} is without its disk until faults end, or for good"));
                self.server(keeper).disk.halted = true;
                self.crash(keeper, true);
                false
            }
            _ => false,
        }
    }

    /// This is about to leave a node.
    pub(crate) fn aim_before_departure(&mut self, node: NodeId, parcel: &Parcel) -> Fate {
        let Some(aim) = self.armed_aim() else { return Fate::Goes };
        let muted = self.aims.armed.as_ref().and_then(|armed| armed.mute);
        let fate = match (aim, parcel) {
            (Aim::AnswerLeaves, Parcel::Reply(out)) if matches!(out.reply, Reply::Committed { .. }) => Fate::Dies,
            (Aim::LostReply, Parcel::Reply(out)) if out.to != node && matches!(out.reply, Reply::Committed { .. }) => {
                Fate::Lost
            }
            (Aim::ReadStalls, Parcel::Reply(out))
                if out.lease_end.is_some() && matches!(out.reply, Reply::Rows { .. }) =>
            {
                let lease = self.swarm.lease_ns;
                Fate::Stops(self.aims.rng.random_range(lease..3 * lease))
            }
            (_, Parcel::Message(_, NodeMessage::TwoPhase { body, .. })) => match (aim, body) {
                (Aim::VoteLeaves, TwoPhase::Prepared { .. }) => Fate::Dies,
                (Aim::LostVote, TwoPhase::Prepared { .. }) => Fate::Lost,
                (Aim::LostDecision, TwoPhase::Decided { .. }) => Fate::Lost,
                (Aim::AnswerLeft, TwoPhase::Decided { commit_ts: Some(ts), .. }) => {
                    // The answer waits for the timestamp to pass; participants are told before that.
                    if muted.is_none() && self.aims.chosen() {
                        self.aims.armed.as_mut().expect("it is armed").mute = Some((node, *ts));
                        return Fate::Lost;
                    }
                    return if muted == Some((node, *ts)) { Fate::Lost } else { Fate::Goes };
                }
                _ => return Fate::Goes,
            },
            _ => return Fate::Goes,
        };
        if !self.aims.chosen() {
            return Fate::Goes;
        }
        match fate {
            Fate::Dies => self.strike_down(aim, node),
            _ => self.struck(aim),
        }
        fate
    }

    /// This has just left a node, and nothing after it has. True if that was its end.
    pub(crate) fn aim_after_departure(&mut self, node: NodeId, message: &NodeMessage) -> bool {
        let Some(aim) = self.armed_aim() else { return false };
        if self.server(node).process.is_none() {
            return false;
        }
        let muted = self.aims.armed.as_ref().and_then(|armed| armed.mute);
        let matches = match (aim, message) {
            (Aim::GatewayAsked, NodeMessage::Request(request)) => matches!(request.body, RequestBody::Prepare { .. }),
            (Aim::GatewayCommitted, NodeMessage::Request(request)) => asks_several(&request.body),
            (Aim::DecisionLeft, message) => sends_decision(message),
            (Aim::SnapshotSender, message) => is_chunk(message),
            (Aim::HandedOver, message) => hands_over(message),
            (Aim::VoteLeft, NodeMessage::TwoPhase { body: TwoPhase::Prepared { .. }, .. }) => true,
            (Aim::Forsaken, NodeMessage::Paxos { message: Message::Accept { entries, ballot, .. }, .. }) => {
                let own =
                    |entry: &paxos::Entry| entry.origin == *ballot && matches!(entry.payload, Payload::Command(_));
                entries.iter().any(own)
            }
            (Aim::AnswerLeft, NodeMessage::Reply { reply: Reply::Committed { commit_ts, .. }, .. }) => {
                if muted == Some((node, *commit_ts)) {
                    self.strike_down(aim, node);
                    return true;
                }
                false
            }
            _ => false,
        };
        if !matches || !self.aims.chosen() {
            return false;
        }
        if let (Aim::Forsaken, NodeMessage::Paxos { group, .. }) = (aim, message) {
            self.struck(aim);
            self.forsake(node, *group);
            return false;
        }
        self.strike_down(aim, node);
        true
    }

    /// A leader is heard by one follower alone from now on, and loses power a little later.
    fn forsake(&mut self, leader: NodeId, group: GroupId) {
        let lease = self.swarm.lease_ns;
        let rng = &mut self.aims.rng;
        let others: Vec<NodeId> = self.swarm.node_ids().filter(|id| *id != leader).collect();
        let follower = *pick(rng, &others);
        let amid = log_uniform(rng, MS, 100 * MS);
        // Of three, it is needed again, and must have forgotten; of more, it is better not there.
        let down = if self.swarm.nodes > 3 { 6 * lease } else { log_uniform(rng, MS, lease / 2) };
        let incarnation = self.server(leader).incarnation;
        let mut links: Vec<(NodeId, NodeId)> = Vec::new();
        for other in others.into_iter().filter(|other| *other != follower) {
            links.extend([(leader, other), (follower, other), (other, follower)]);
        }
        links.push((follower, leader));
        self.note(format!("{follower} alone hears {leader}: {links:?}"));
        self.network.cut(&links);
        self.after(amid, Event::Sequel(Sequel::Abandon { node: leader, incarnation, down }));
        let until = self.now + amid + 3 * lease;
        self.after(amid, Event::Sequel(Sequel::Usurp { group, from: leader, until, links }));
    }

    /// The aim that what now arrives at a node would satisfy, once the node has taken it in.
    pub(crate) fn aim_at_arrival(&mut self, node: NodeId, message: &NodeMessage) -> Option<Aim> {
        let aim = self.armed_aim()?;
        let matches = match (aim, message) {
            (Aim::CoordinatorAsked, NodeMessage::Request(request)) => {
                asks_several(&request.body) && self.leads(node, request.group)
            }
            (Aim::CoordinatorVoted, NodeMessage::TwoPhase { group, body: TwoPhase::Prepared { .. }, .. }) => {
                self.leads(node, *group)
            }
            (Aim::SnapshotReceiver, message) => is_chunk(message),
            (Aim::HeirDies, message) => hands_over(message),
            _ => false,
        };
        (matches && self.aims.chosen()).then_some(aim)
    }

    /// The node has taken in what arrived.
    pub(crate) fn aim_after_arrival(&mut self, node: NodeId, aim: Option<Aim>) {
        if let Some(aim) = aim
            && self.server(node).process.is_some()
        {
            self.strike_down(aim, node);
        }
    }

    /// Whether an answer is lost on its way to its client.
    pub(crate) fn aim_at_answer(&mut self, answer: &Answer) -> bool {
        let commit = match answer {
            Answer::Committed(_) => true,
            Answer::Sql(answer) => answer.has_committed(),
            _ => false,
        };
        if !commit || self.armed_aim() != Some(Aim::LostAnswer) || !self.aims.chosen() {
            return false;
        }
        self.struck(Aim::LostAnswer);
        true
    }

    fn leads(&mut self, node: NodeId, group: GroupId) -> bool {
        let now_ns = self.now;
        let server = self.server(node);
        let now = server.clock.now(now_ns);
        let Some(process) = &server.process else { return false };
        process.node.status(now).iter().any(|status| status.range.group == group && status.lease_end.is_some())
    }
}
