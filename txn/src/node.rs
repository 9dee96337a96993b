//! One server's whole state: all its groups, the routing between them, and the log they share.
//!
//! ```text
//!    gateways, peers                      NodeReady
//!          |                                  ^
//!          v                                  | one list of log writes, one fsync for all groups
//!   +------------------------- Node ----------+-----------+
//!   |  requests by group     two-phase messages between   |
//!   |  v                     groups stay inside if the    |
//!   |  Group 0 ... Group n   other leader is here too     |
//!   +------------------------------------------------------+
//!          |
//!          v
//!     Storage (versions of all groups, in one ordered map)
//! ```
//!
//! The server and the simulator drive the same struct. A step never blocks: reads of the state
//! store are its only calls out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use paxos::{GroupId, NodeId, Slot};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use truetime::{Guarantee, Now, Timestamp};

use crate::api::{GroupError, Reply, Request};
use crate::group::{Cx, Group, NO_REPLICA, Out, Stop, covered};
use crate::keyspace;
use crate::message::{NodeMessage, SnapshotMessage, TwoPhase};
use crate::meta::GroupMeta;
use crate::ready::{GroupLog, GroupStatus, NodeInput, NodeOptions, NodeReady, Outgoing};
use crate::storage::{Batch, Storage, StorageError, Visit};
use crate::types::{RangeDescriptor, Span};

/// One server's groups over one state store.
pub struct Node<S> {
    options: NodeOptions,
    store: S,
    groups: BTreeMap<GroupId, Group>,
    /// Logs of groups whose birth, a record of the parent's log, is not applied yet.
    unborn: BTreeMap<GroupId, GroupLog>,
    rng: ChaCha8Rng,
    /// When each group next wants to be called, on the monotonic clock.
    wakes: BTreeMap<GroupId, i64>,
    next_persist: u64,
    /// For each batch of log writes under way: which Paxos batches it holds.
    persisting: VecDeque<(u64, Vec<(GroupId, u64)>)>,
    /// Groups that peers speak of and this node does not have: since when, and when it last said so.
    missing: BTreeMap<GroupId, (i64, i64)>,
    /// Groups of which a whole snapshot waits until it may take the place of the state.
    whole: BTreeSet<GroupId>,
    stopping: bool,
}

/// A two-phase message is passed on this often before it is dropped; it will be sent again.
const HOPS_MAX: u8 = 2;
/// A group unknown for so long was born while this node was away, in nanoseconds.
const MISSING_NS: i64 = 1_000_000_000;

impl<S: Storage> Node<S> {
    /// A node over what its disks hold. With an empty store it creates the groups of
    /// `options.bootstrap`.
    pub fn new(
        options: NodeOptions,
        mut store: S,
        mut logs: BTreeMap<GroupId, GroupLog>,
        now: Now,
        rng: ChaCha8Rng,
    ) -> Result<(Node<S>, NodeReady), StorageError> {
        let mut metas = read_metas(&store)?;
        if metas.is_empty() {
            let config = paxos::Configuration::of_voters(options.voters.iter().copied());
            let mut batch = Batch::default();
            for (range, preferred) in &options.bootstrap {
                let meta = GroupMeta::new(range.clone(), config.clone(), *preferred, truetime::Timestamp::ZERO);
                batch.put(keyspace::meta_key(range.group), meta.encode());
                metas.push(meta);
            }
            store.write(batch)?;
        }
        let mut node = Node {
            options,
            store,
            groups: BTreeMap::new(),
            unborn: BTreeMap::new(),
            rng,
            wakes: BTreeMap::new(),
            next_persist: 1,
            persisting: VecDeque::new(),
            missing: BTreeMap::new(),
            whole: BTreeSet::new(),
            stopping: false,
        };
        let mut fresh = Vec::new();
        for meta in metas {
            let group = meta.group();
            let log = logs.remove(&group).unwrap_or_default();
            if log.entries.is_empty() && log.hard == paxos::HardState::default() && meta.preferred == node.options.id {
                fresh.push(group);
            }
            node.open_group(meta, log, now)?;
        }
        node.unborn = logs;
        let mut work = Work::default();
        for group in fresh {
            work.campaigns.insert(group);
        }
        work.touched.extend(node.groups.keys());
        let ready = node.run(now, work);
        Ok((node, NodeReady { ranges_changed: true, ..ready }))
    }

    fn open_group(&mut self, meta: GroupMeta, log: GroupLog, now: Now) -> Result<(), StorageError> {
        let group = meta.group();
        let mut seed = [0u8; 32];
        self.rng.fill_bytes(&mut seed);
        let rng = ChaCha8Rng::from_seed(seed);
        let replica = Group::open(self.options.id, meta, log, &self.options, &self.store, now, rng)
            .map_err(|Stop(why)| StorageError(why))?;
        self.groups.insert(group, replica);
        self.missing.remove(&group);
        Ok(())
    }

    /// Gives the node one input and returns what follows from it.
    pub fn step(&mut self, now: Now, input: NodeInput) -> NodeReady {
        let mut work = Work::default();
        match input {
            NodeInput::Tick => {}
            NodeInput::Message { from, message } => work.queue.push_back((from, message)),
            NodeInput::Persisted(number) => {
                while self.persisting.front().is_some_and(|(n, _)| *n <= number) {
                    let (_, parts) = self.persisting.pop_front().expect("looked at above");
                    for (group, persist) in parts {
                        let latest = work.persisted.entry(group).or_insert(persist);
                        *latest = persist.max(*latest);
                    }
                }
            }
            NodeInput::StateDurable(applied) => work.durable = applied,
            NodeInput::Shutdown => {
                self.stopping = true;
                work.touched.extend(self.groups.keys());
            }
        }
        self.run(now, work)
    }

    /// Every group and the slot up to which it is applied.
    pub fn applied(&self) -> Vec<(GroupId, Slot)> {
        self.groups.iter().map(|(id, g)| (*id, g.applied())).collect()
    }

    /// Every range on this node, and who leads it as far as is known.
    pub fn ranges(&self) -> Vec<(RangeDescriptor, Option<NodeId>)> {
        self.groups.values().map(|g| (g.meta().range.clone(), g.leader_hint())).collect()
    }

    /// The largest timestamp that was assigned or committed at, as far as it is applied here. True time has
    /// reached it, but for the uncertainty of whoever chose it.
    pub fn used_ts(&self) -> Timestamp {
        let used = self.groups.values().map(|g| g.meta().assigned_ts.max(g.meta().commit_ts));
        used.max().unwrap_or(Timestamp::MIN)
    }

    /// Every group's state.
    pub fn status(&self, now: Now) -> Vec<GroupStatus> {
        self.groups.values().map(|g| g.status(now)).collect()
    }

    /// The state store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// As [`Node::store`], for flushes and faults.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// A group's hash (see `RequestBody::Checksum`), without a request.
    pub fn checksum(&self, group: GroupId) -> Option<Result<u64, String>> {
        self.groups.get(&group).map(|g| g.checksum(&self.store).map_err(|Stop(why)| why))
    }

    // ---- the work of one step ------------------------------------------------------------------

    fn run(&mut self, now: Now, mut work: Work) -> NodeReady {
        let mut ready = NodeReady::default();
        let result = self.run_inputs(now, &mut work, &mut ready);
        let goes_on = self.options.paxos.sabotage.breaks(Guarantee::FailureStops);
        if let Err(Stop(why)) = result
            && !goes_on
        {
            ready.fatal = Some(why);
            return ready;
        }
        if !work.parts.is_empty() {
            ready.persist = self.next_persist;
            self.next_persist += 1;
            self.persisting.push_back((ready.persist, work.parts.into_iter().collect()));
        }
        ready.stopped = self.stopping && self.groups.values().all(|g| !g.leads());
        ready.wake_at_ns = self.wakes.values().min().copied();
        ready
    }

    fn run_inputs(&mut self, now: Now, work: &mut Work, ready: &mut NodeReady) -> Result<(), Stop> {
        for group in std::mem::take(&mut work.campaigns) {
            self.with(group, now, work, ready, |g, cx| g.consensus(cx, paxos::Input::Campaign))?;
        }
        for (group, persist) in std::mem::take(&mut work.persisted) {
            self.with(group, now, work, ready, |g, cx| g.consensus(cx, paxos::Input::Persisted(persist)))?;
        }
        for (group, slot) in std::mem::take(&mut work.durable) {
            self.with(group, now, work, ready, |g, cx| g.state_durable(cx, slot))?;
        }
        if self.stopping {
            for group in self.groups.keys().copied().collect::<Vec<_>>() {
                self.with(group, now, work, ready, |g, cx| g.hand_over(cx, None))?;
            }
        }
        work.touched.extend(self.wakes.iter().filter(|(_, at)| **at <= now.mono_ns).map(|(id, _)| *id));
        loop {
            while let Some((from, message)) = work.queue.pop_front() {
                self.deliver(now, from, message, work, ready)?;
            }
            for meta in std::mem::take(&mut work.births) {
                self.give_birth(now, meta, work, ready)?;
            }
            let Some(group) = work.touched.pop_first() else {
                if self.install_next(now, work, ready)? {
                    continue;
                }
                break;
            };
            self.with(group, now, work, ready, |g, cx| g.pump(cx))?;
            work.touched.remove(&group);
            if let Some(g) = self.groups.get(&group) {
                self.wakes.insert(group, g.wake_at_ns(now));
            }
        }
        Ok(())
    }

    /// Runs something on a group and takes in its effects.
    fn with(
        &mut self,
        id: GroupId,
        now: Now,
        work: &mut Work,
        ready: &mut NodeReady,
        run: impl FnOnce(&mut Group, &mut Cx) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let Some(group) = self.groups.get_mut(&id) else { return Ok(()) };
        let mut out = Out::default();
        run(group, &mut Cx { now, options: &self.options, store: &mut self.store, out: &mut out })?;
        if group.waits_to_install().is_some() {
            self.whole.insert(id);
        } else {
            self.whole.remove(&id);
        }
        work.touched.insert(id);
        if out.persist > 0 {
            let persist = work.parts.entry(id).or_insert(0);
            *persist = out.persist.max(*persist);
        }
        ready.writes.extend(out.writes.into_iter().map(|w| (id, w)));
        ready.sync |= out.sync;
        ready.messages.extend(out.messages);
        ready.after_sync.extend(out.after_sync);
        ready.flush_state |= out.flush_state;
        ready.ranges_changed |= out.ranges_changed;
        ready.notes.extend(out.notes);
        work.births.extend(out.births);
        for (to, body) in out.two_phase {
            self.route(to, HOPS_MAX, body, work, ready);
        }
        for reply in out.replies {
            ready.replies.push(self.complete(reply));
        }
        Ok(())
    }

    /// A group knows only its own range: whoever asked the wrong one learns all of this node's.
    fn complete(&self, mut outgoing: Outgoing) -> Outgoing {
        if let Reply::Error(GroupError::WrongRange(ranges)) = &mut outgoing.reply {
            *ranges = self.groups.values().map(|g| g.meta().range.clone()).collect();
        }
        outgoing
    }

    fn deliver(
        &mut self,
        now: Now,
        from: NodeId,
        message: NodeMessage,
        work: &mut Work,
        ready: &mut NodeReady,
    ) -> Result<(), Stop> {
        match message {
            NodeMessage::Paxos { group, message } => {
                if !self.groups.contains_key(&group) {
                    self.note_missing(now, from, group, ready);
                    return Ok(());
                }
                let input = paxos::Input::Message { from, message };
                self.with(group, now, work, ready, |g, cx| g.consensus(cx, input))
            }
            NodeMessage::SafeTime { group, slot, ts, .. } => self.with(group, now, work, ready, |g, _| {
                g.safe_time(slot, ts);
                Ok(())
            }),
            NodeMessage::WantSafeTime { group, ts } => self.with(group, now, work, ready, |g, cx| {
                g.on_want_safe_time(cx, from, ts);
                Ok(())
            }),
            NodeMessage::Snapshot { group, message } => self.deliver_snapshot(now, from, group, message, work, ready),
            NodeMessage::TwoPhase { group, hops, body } => match self.groups.get(&group) {
                Some(g) if g.leads() => self.with(group, now, work, ready, |g, cx| g.two_phase(cx, body)),
                _ => {
                    if let Some(hops) = hops.checked_sub(1) {
                        self.route(group, hops, body, work, ready);
                    }
                    Ok(())
                }
            },
            NodeMessage::Request(request) => self.deliver_request(now, from, request, work, ready),
            // Replies are for gateways; the caller hands them there.
            NodeMessage::Reply { .. } => Ok(()),
        }
    }

    fn deliver_request(
        &mut self,
        now: Now,
        from: NodeId,
        request: Request,
        work: &mut Work,
        ready: &mut NodeReady,
    ) -> Result<(), Stop> {
        let group = request.group;
        if self.groups.contains_key(&group) {
            return self.with(group, now, work, ready, |g, cx| g.request(cx, from, request));
        }
        let reply = Reply::Error(GroupError::NoGroup);
        ready.replies.push(Outgoing { to: from, id: request.id, reply, lease_end: None });
        Ok(())
    }

    /// Sends a two-phase message towards a group's leader.
    fn route(&self, to: GroupId, hops: u8, body: TwoPhase, work: &mut Work, ready: &mut NodeReady) {
        let me = self.options.id;
        let message = NodeMessage::TwoPhase { group: to, hops, body };
        match self.groups.get(&to) {
            Some(g) if g.leads() => work.queue.push_back((me, message)),
            Some(g) if g.leader_hint().is_some_and(|node| node != me) => {
                ready.messages.extend(g.leader_hint().map(|leader| (leader, message)));
            }
            // Without a hint anyone else may know, and it is not always the same one who is asked:
            // the message will be sent again.
            _ => {
                let others: Vec<NodeId> = self.options.voters.iter().copied().filter(|node| *node != me).collect();
                if !others.is_empty() {
                    let turn = self.next_persist as usize % others.len();
                    ready.messages.push((others[turn], message));
                }
            }
        }
    }

    // ---- births and snapshots --------------------------------------------------------------------

    /// A split was applied: the new group begins here, as it does on every replica of its parent.
    fn give_birth(&mut self, now: Now, meta: GroupMeta, work: &mut Work, ready: &mut NodeReady) -> Result<(), Stop> {
        let group = meta.group();
        let campaign = meta.preferred == self.options.id;
        ready.notes.push(format!("{group}: born of a split at {}", meta.born_ts));
        if self.groups.contains_key(&group) {
            // A snapshot of it was on its way.
            self.with(group, now, work, ready, |g, cx| g.born(cx, meta))?;
        } else {
            let log = self.unborn.remove(&group).unwrap_or_default();
            self.open_group(meta, log, now).map_err(Stop::from)?;
        }
        if campaign {
            self.with(group, now, work, ready, |g, cx| g.consensus(cx, paxos::Input::Campaign))?;
        }
        work.touched.insert(group);
        Ok(())
    }

    /// Peers speak of a group that this node does not have. If that lasts, the split that made it
    /// is no longer in the parent's log: asks for a snapshot.
    fn note_missing(&mut self, now: Now, from: NodeId, group: GroupId, ready: &mut NodeReady) {
        let (since, said) = self.missing.entry(group).or_insert((now.mono_ns, now.mono_ns));
        if now.mono_ns - *since >= MISSING_NS && now.mono_ns - *said >= MISSING_NS {
            *said = now.mono_ns;
            let message = SnapshotMessage::Ack { transfer: 0, number: NO_REPLICA };
            ready.messages.push((from, NodeMessage::Snapshot { group, message }));
        }
        if self.missing.len() > 1024 {
            self.missing.pop_first();
        }
    }

    /// Begins to put a whole snapshot in the place of a state, if one may be (see `group/install.rs`): no other group has
    /// a state of its keys, and those that it leaves out are with others here. A parent comes before its children.
    fn install_next(&mut self, now: Now, work: &mut Work, ready: &mut NodeReady) -> Result<bool, Stop> {
        let Some(next) = self.whole.iter().copied().find(|group| self.may_install(*group)) else { return Ok(false) };
        self.with(next, now, work, ready, |g, cx| g.begin_install(cx))?;
        Ok(true)
    }

    fn may_install(&self, group: GroupId) -> bool {
        let this = &self.groups[&group];
        let Some(new) = this.waits_to_install() else { return false };
        let others = || self.groups.iter().filter(|(id, _)| **id != group).map(|(_, g)| g);
        if others().flat_map(Group::claims).any(|span| span.overlaps(new)) {
            return false;
        }
        let Some(old) = this.state() else { return true };
        let kept: Vec<Span> = others().flat_map(Group::holds).chain([new]).cloned().collect();
        covered(old, &kept) || self.options.paxos.sabotage.breaks(Guarantee::SplitOffKept)
    }

    fn deliver_snapshot(
        &mut self,
        now: Now,
        from: NodeId,
        group: GroupId,
        message: SnapshotMessage,
        work: &mut Work,
        ready: &mut NodeReady,
    ) -> Result<(), Stop> {
        if let SnapshotMessage::Ack { number: NO_REPLICA, .. } = message {
            return self.with(group, now, work, ready, |g, cx| g.on_missing(cx, from));
        }
        if !self.groups.contains_key(&group) {
            let SnapshotMessage::Chunk { number: 0, pairs, .. } = &message else { return Ok(()) };
            let meta = pairs.first().and_then(|(_, value)| GroupMeta::decode(value.clone()).ok());
            let Some(mut meta) = meta.filter(|m| m.group() == group) else { return Ok(()) };
            let claims = |g: &Group| g.claims().any(|span| span.overlaps(&meta.range.span));
            if self.groups.values().any(|g| claims(g) && !g.is_sent_snapshot()) {
                // The parent's replica here has not applied the split, and will find it in its log. If it needs a
                // snapshot itself, that has to wait for this one.
                return Ok(());
            }
            meta.applied = Slot(0);
            meta.epoch = paxos::Ballot::ZERO;
            meta.installing = true;
            let mut batch = Batch::default();
            batch.put(keyspace::meta_key(group), meta.encode());
            self.store.write(batch)?;
            let log = self.unborn.remove(&group).unwrap_or_default();
            self.open_group(meta, log, now).map_err(Stop::from)?;
        }
        self.with(group, now, work, ready, |g, cx| g.snapshot(cx, from, message))
    }
}

/// What is still to be done in a step.
#[derive(Default)]
struct Work {
    queue: VecDeque<(NodeId, NodeMessage)>,
    campaigns: BTreeSet<GroupId>,
    persisted: BTreeMap<GroupId, u64>,
    durable: Vec<(GroupId, Slot)>,
    births: Vec<GroupMeta>,
    touched: BTreeSet<GroupId>,
    parts: BTreeMap<GroupId, u64>,
}

/// The metadata of every group in the store.
fn read_metas(store: &dyn Storage) -> Result<Vec<GroupMeta>, StorageError> {
    let (start, end) = keyspace::groups_span();
    let mut metas = Vec::new();
    let mut failed = None;
    store.scan(&start, &end, false, &mut |key, value| {
        let Some(group) = keyspace::meta_group(key) else {
            // Records of this group: on to the next group's metadata.
            return match keyspace::group_of(key) {
                Some(group) => Visit::Seek(keyspace::meta_key(GroupId(group.0.saturating_add(1))).to_vec()),
                None => {
                    failed = Some("a key of no group among the groups' records".to_string());
                    Visit::Stop
                }
            };
        };
        match GroupMeta::decode(bytes::Bytes::copy_from_slice(value)) {
            Ok(meta) if meta.group() == group => {
                metas.push(meta);
                Visit::Next
            }
            Ok(_) => {
                failed = Some(format!("the metadata of {group} is another group's"));
                Visit::Stop
            }
            Err(e) => {
                failed = Some(format!("the metadata of {group}: {e}"));
                Visit::Stop
            }
        }
    })?;
    match failed {
        Some(why) => Err(StorageError(why)),
        None => Ok(metas),
    }
}
