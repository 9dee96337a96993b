//! What a gateway knows of the ranges and of their leaders.
//!
//! A cache of hints, nothing more: a wrong entry costs a round trip and never a wrong answer,
//! because a group refuses keys that it does not hold and a replica refuses what only the leader
//! may do. Both refusals carry what the gateway should have known.
//!
//! ```text
//!   key space   |----- g1@2 -----|------ g4@1 ------|   ?   |--- g3@1 ---
//!   learn g5@1                       |-- g5 --|
//!               |----- g1@2 -----|g4@|-- g5 --|g4@1 |   ?   |--- g3@1 ---
//! ```
//!
//! Of two descriptors of one group, the larger epoch is true. Between groups there is no such
//! order; but a range changes only by splits, so what is told last is usually the part of an
//! older, larger range, and cuts it. If it was the other way round, the group's refusal repairs it.
//!
//! Invariant: the spans of the cache are disjoint and not empty.

use std::collections::BTreeMap;

use paxos::{GroupId, NodeId};

use crate::types::{Key, RangeDescriptor, Span};

/// The cache of one gateway.
#[derive(Clone, Debug)]
pub struct Router {
    me: NodeId,
    nodes: Vec<NodeId>,
    /// By start of the span.
    ranges: BTreeMap<Key, RangeDescriptor>,
    /// The epoch of each group's newest descriptor.
    epochs: BTreeMap<GroupId, u64>,
    leaders: BTreeMap<GroupId, Leader>,
}

/// What is known of a group's leader.
#[derive(Clone, Debug, Default)]
struct Leader {
    hint: Option<NodeId>,
    /// Whom to ask without a hint: an offset from `me` in `nodes`.
    turn: usize,
}

impl Router {
    /// A router that knows nothing of ranges. `nodes` are all nodes of the cluster.
    pub fn new(me: NodeId, nodes: Vec<NodeId>) -> Router {
        Router { me, nodes, ranges: BTreeMap::new(), epochs: BTreeMap::new(), leaders: BTreeMap::new() }
    }

    /// The node it runs on.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// Takes in a descriptor. Says whether that changed anything.
    pub fn learn_range(&mut self, range: RangeDescriptor) -> bool {
        if range.span.is_empty() {
            return false;
        }
        let here = self.ranges.values().any(|known| known.group == range.group);
        // The same again is news only if something older has wiped it out since.
        if self.epochs.get(&range.group).is_some_and(|epoch| *epoch > range.epoch || (*epoch == range.epoch && here)) {
            return false;
        }
        self.invalidate(range.group);
        self.epochs.insert(range.group, range.epoch);
        let cut: Vec<Key> =
            self.ranges.values().filter(|r| r.span.overlaps(&range.span)).map(|r| r.span.start.clone()).collect();
        for start in cut {
            let Some(old) = self.ranges.remove(&start) else { continue };
            let left = Span { start: old.span.start.clone(), end: range.span.start.clone() };
            // An empty end means "to the last key": a span that begins at the first key leaves nothing on its left.
            if !range.span.start.is_empty() && !left.is_empty() {
                self.ranges.insert(left.start.clone(), RangeDescriptor { span: left, ..old.clone() });
            }
            let right = Span { start: range.span.end.clone(), end: old.span.end.clone() };
            if !range.span.end.is_empty() && !right.is_empty() {
                self.ranges.insert(right.start.clone(), RangeDescriptor { span: right, ..old });
            }
        }
        self.ranges.insert(range.span.start.clone(), range);
        self.assert_invariants();
        true
    }

    /// A group has answered for a span of which nothing was known, or not all: it holds it.
    pub fn learn_part(&mut self, group: GroupId, span: &Span) {
        for (known, span) in self.split_span(span) {
            if known.is_none() {
                let epoch = self.epochs.get(&group).copied().unwrap_or(0);
                self.ranges.insert(span.start.clone(), RangeDescriptor { group, span, epoch });
            }
        }
        self.assert_invariants();
    }

    /// Takes in who leads a group; `None` forgets it.
    pub fn learn_leader(&mut self, group: GroupId, leader: Option<NodeId>) {
        self.leaders.entry(group).or_default().hint = leader;
    }

    /// Forgets where a group's range lies.
    pub fn invalidate(&mut self, group: GroupId) {
        self.epochs.remove(&group);
        self.ranges.retain(|_, range| range.group != group);
    }

    /// The range that holds a key, as far as is known. Its span may be only a part of the range.
    pub fn locate(&self, key: &[u8]) -> Option<RangeDescriptor> {
        let (_, range) =
            self.ranges.range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Included(key))).next_back()?;
        range.span.contains(key).then(|| range.clone())
    }

    /// A span cut into the parts that lie in one group each, in key order; `None` for the parts of
    /// which nothing is known.
    pub fn split_span(&self, span: &Span) -> Vec<(Option<RangeDescriptor>, Span)> {
        let mut parts = Vec::new();
        let mut rest = span.clone();
        while !rest.is_empty() {
            let known = self.locate(&rest.start);
            let end = match &known {
                Some(range) => range.span.end.clone(),
                None => {
                    let next = self.ranges.range(rest.start.clone()..).next();
                    next.map(|(start, _)| start.clone()).unwrap_or_default()
                }
            };
            if end.is_empty() || (!rest.end.is_empty() && rest.end <= end) {
                parts.push((known, rest));
                break;
            }
            parts.push((known, Span { start: rest.start, end: end.clone() }));
            rest = Span { start: end, end: rest.end };
        }
        parts
    }

    /// Whom to ask for a key of which nothing is known: any group knows better or says so.
    pub fn any_group(&self) -> GroupId {
        self.ranges.values().map(|range| range.group).min().unwrap_or(GroupId(0))
    }

    /// Who leads a group, or a guess: the last hint; without one, each node in turn, this one first.
    pub fn leader(&self, group: GroupId) -> NodeId {
        let Some(leader) = self.leaders.get(&group) else { return self.me };
        leader.hint.unwrap_or_else(|| self.replica(self.me, leader.turn))
    }

    /// Who leads a group, if anyone has said so and not failed since.
    pub fn leader_hint(&self, group: GroupId) -> Option<NodeId> {
        self.leaders.get(&group)?.hint
    }

    /// The node that comes `turn` places after `first`.
    pub fn replica(&self, first: NodeId, turn: usize) -> NodeId {
        if self.nodes.is_empty() {
            return first;
        }
        let at = self.nodes.iter().position(|node| *node == first).unwrap_or(0);
        self.nodes[(at + turn) % self.nodes.len()]
    }

    /// The node did not answer for the group, or does not lead it: guess another next time.
    pub fn note_failure(&mut self, group: GroupId, node: NodeId) {
        if self.leader(group) != node {
            return;
        }
        let (me, count) = (self.me, self.nodes.len().max(1));
        let mut turn = self.leaders.get(&group).map_or(0, |leader| leader.turn);
        turn = (turn + 1) % count;
        if self.replica(me, turn) == node {
            turn = (turn + 1) % count;
        }
        self.leaders.insert(group, Leader { hint: None, turn });
    }

    /// Everything known, in key order.
    pub fn ranges(&self) -> Vec<RangeDescriptor> {
        self.ranges.values().cloned().collect()
    }

    fn assert_invariants(&self) {
        let mut last: Option<&RangeDescriptor> = None;
        for (start, range) in &self.ranges {
            assert!(*start == range.span.start && !range.span.is_empty(), "router: an empty or misplaced span");
            if let Some(last) = last {
                assert!(!last.span.overlaps(&range.span), "router: {} and {} overlap", last.group, range.group);
            }
            last = Some(range);
        }
    }
}
