//! One read over many ranges: which parts are still to be fetched, from whom, and what came.
//!
//! Each op is cut into pieces, one for each group that holds a part of it. A piece is to do, in
//! flight, or fetched; fetched pieces join the result in scan order, from the front:
//!
//! ```text
//!   op      |-------------------- a..z, limit 5 --------------------|
//!   pieces  |== in the result ==|-- fetched --|.. in flight ..|.. to do ..|
//!             overlaid with the      waits for its
//!             buffered writes        predecessor
//! ```
//!
//! 1. Without a limit, all pieces are fetched at once. With a limit they are fetched one after
//!    the other, so that nothing is read (and locked) beyond the limit; a piece is asked for as
//!    many rows as are missing, and one more for each buffered delete that may hide one.
//! 2. All pieces of one group travel in one request.
//! 3. A reply may be shorter than the piece: the group's page was full, or the limit was reached.
//!    The rest becomes a piece of its own.
//! 4. Once the result holds `page_bytes_max` bytes, no further piece is fetched; the result's
//!    `resume` says what is left. The scan ends only when nothing is in flight any more: a
//!    locking read that was not waited for could lock after the transaction has ended.
//!
//! Invariants: the pieces of an op are disjoint, in scan order, and cover all of the op that is
//! not in the result; a piece is in flight exactly if a call holds it.

use std::collections::{BTreeMap, VecDeque};

use paxos::{GroupId, NodeId};
use truetime::Now;

use crate::api::{GroupError, ReadOp, ReadResult};
use crate::types::{Key, Row, Span};

use super::buffer::WriteBuffer;
use super::gateway::{Advice, Gateway};

/// A read in progress.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    ops: Vec<OpScan>,
    calls: BTreeMap<u64, ScanCall>,
    next_piece: u64,
    bytes: usize,
    page_bytes_max: usize,
}

#[derive(Clone, Debug)]
struct OpScan {
    op: ReadOp,
    /// In scan order.
    pieces: VecDeque<Piece>,
    rows: Vec<Row>,
    resume: Option<Span>,
}

#[derive(Clone, Debug)]
struct Piece {
    number: u64,
    span: Span,
    attempts: u32,
    not_before_ns: i64,
    state: PieceState,
}

#[derive(Clone, Debug)]
enum PieceState {
    ToDo,
    InFlight,
    Fetched(Vec<Row>),
}

#[derive(Clone, Debug)]
struct ScanCall {
    group: GroupId,
    node: NodeId,
    deadline_ns: i64,
    /// When to look whether the node leads still; `None` if it was not asked as the leader.
    look_ns: Option<i64>,
    parts: Vec<Part>,
}

/// A piece as asked of a group.
#[derive(Clone, Debug)]
struct Part {
    op: usize,
    piece: u64,
    asked: ReadOp,
    /// The group was only a guess.
    guessed: bool,
}

/// What to ask of one group next.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub group: GroupId,
    /// How often the unluckiest of its pieces has failed.
    pub attempts: u32,
    parts: Vec<Part>,
}

impl Batch {
    pub fn ops(&self) -> Vec<ReadOp> {
        self.parts.iter().map(|part| part.asked.clone()).collect()
    }
}

impl Scan {
    pub fn new(ops: Vec<ReadOp>, page_bytes_max: usize, buffer: &WriteBuffer) -> Scan {
        let mut next_piece = 0;
        let ops = ops.into_iter().map(|op| {
            next_piece += 1;
            let (span, state) = (op.span.clone(), PieceState::ToDo);
            let mut pieces = VecDeque::new();
            if !span.is_empty() {
                pieces.push_back(Piece { number: next_piece, span, attempts: 0, not_before_ns: i64::MIN, state });
            }
            // The transaction's own write answers a read of its key: nobody else's can come between.
            if op.span.is_point() && buffer.get(&op.span.start).is_some() {
                pieces.iter_mut().for_each(|piece| piece.state = PieceState::Fetched(Vec::new()));
            }
            OpScan { op, pieces, rows: Vec::new(), resume: None }
        });
        let ops = ops.collect();
        let mut scan =
            Scan { ops, calls: BTreeMap::new(), next_piece, bytes: 0, page_bytes_max: page_bytes_max.max(1) };
        scan.join(buffer);
        scan
    }

    /// Every group that holds a part that is still to be read, once, `None` for what is not known.
    pub fn groups(&self, gw: &Gateway) -> Vec<Option<GroupId>> {
        let mut groups: Vec<Option<GroupId>> = Vec::new();
        for piece in self.ops.iter().flat_map(|op| &op.pieces) {
            groups
                .extend(gw.router.split_span(&piece.span).into_iter().map(|(range, _)| range.map(|range| range.group)));
        }
        groups.sort();
        groups.dedup();
        groups
    }

    /// What is to be asked now, a batch for each group. Each batch must be passed to [`Scan::sent`].
    pub fn plan(&mut self, now: Now, gw: &Gateway, buffer: &WriteBuffer) -> Vec<Batch> {
        let mut batches: BTreeMap<GroupId, Batch> = BTreeMap::new();
        if self.bytes >= self.page_bytes_max {
            return Vec::new();
        }
        for (index, scan) in self.ops.iter_mut().enumerate() {
            let old = std::mem::take(&mut scan.pieces);
            let mut owners: BTreeMap<u64, Option<GroupId>> = BTreeMap::new();
            for piece in old {
                if !matches!(piece.state, PieceState::ToDo) {
                    scan.pieces.push_back(piece);
                    continue;
                }
                let mut parts = gw.router.split_span(&piece.span);
                if scan.op.reverse {
                    parts.reverse();
                }
                for (range, span) in parts {
                    self.next_piece += 1;
                    let number = self.next_piece;
                    owners.insert(number, range.map(|range| range.group));
                    scan.pieces.push_back(Piece { number, span, ..piece.clone() });
                }
            }
            let limited = scan.op.limit > 0;
            if limited && scan.pieces.iter().any(|piece| matches!(piece.state, PieceState::InFlight)) {
                continue;
            }
            for piece in scan.pieces.iter().filter(|piece| matches!(piece.state, PieceState::ToDo)) {
                if piece.not_before_ns <= now.mono_ns {
                    let missing = scan.op.limit.saturating_sub(scan.rows.len() as u64);
                    let limit = if limited { missing.saturating_add(buffer.deletes_in(&piece.span)) } else { 0 };
                    let asked = ReadOp { span: piece.span.clone(), reverse: scan.op.reverse, limit };
                    let owner = owners.get(&piece.number).copied().flatten();
                    let (group, guessed) = (owner.unwrap_or_else(|| gw.router.any_group()), owner.is_none());
                    let batch = batches.entry(group).or_insert(Batch { group, attempts: 0, parts: Vec::new() });
                    batch.attempts = batch.attempts.max(piece.attempts);
                    batch.parts.push(Part { op: index, piece: piece.number, asked, guessed });
                }
                if limited {
                    break;
                }
            }
        }
        batches.into_values().collect()
    }

    /// A batch is on its way. `look_ns` if it was sent to the group's leader: see [`Gateway::look_at_ns`].
    pub fn sent(&mut self, id: u64, batch: Batch, node: NodeId, deadline_ns: i64, look_ns: Option<i64>) {
        for part in &batch.parts {
            let pieces = &mut self.ops[part.op].pieces;
            for piece in pieces.iter_mut().filter(|piece| piece.number == part.piece) {
                piece.state = PieceState::InFlight;
            }
        }
        self.calls.insert(id, ScanCall { group: batch.group, node, deadline_ns, look_ns, parts: batch.parts });
    }

    /// The group that a request in flight was sent to.
    pub fn call(&self, id: u64) -> Option<(GroupId, NodeId)> {
        self.calls.get(&id).map(|call| (call.group, call.node))
    }

    /// Gives requests up that have no answer at their deadline, or whose node does not lead the group any more.
    pub fn give_up_overdue(&mut self, now: Now, gw: &mut Gateway) {
        let (mut overdue, mut moved) = (Vec::new(), Vec::new());
        for (id, call) in &mut self.calls {
            if call.deadline_ns <= now.mono_ns {
                overdue.push(*id);
            } else if call.look_ns.is_some_and(|at| at <= now.mono_ns) {
                call.look_ns = Some(gw.look_at_ns(now));
                if gw.leads_elsewhere(call.group, call.node) {
                    moved.push(*id);
                }
            }
        }
        for id in overdue {
            self.refused(now, gw, id, None);
        }
        for id in moved {
            // Not a failure of the one that leads now: it is asked at once.
            let parts = self.calls.remove(&id).map(|call| call.parts).unwrap_or_default();
            self.plan_again(&parts, |piece| piece.not_before_ns = i64::MIN);
        }
    }

    /// Takes in an answer. An error says how the answer is malformed.
    pub fn reply(
        &mut self,
        gw: &mut Gateway,
        id: u64,
        results: Vec<ReadResult>,
        buffer: &WriteBuffer,
    ) -> Result<(), String> {
        let Some(call) = self.calls.remove(&id) else { return Ok(()) };
        if results.len() != call.parts.len() {
            return Err(format!("{} results for {} reads", results.len(), call.parts.len()));
        }
        for (part, result) in call.parts.into_iter().zip(results) {
            let (covered, rest) = extent(&part.asked, &result)?;
            check_rows(&part.asked, covered.as_ref(), &result.rows)?;
            if part.guessed {
                gw.router.learn_part(call.group, &part.asked.span);
            }
            let pieces = &mut self.ops[part.op].pieces;
            let Some(at) = pieces.iter().position(|piece| piece.number == part.piece) else { continue };
            let old = pieces.remove(at);
            let attempts = if covered.is_some() { 0 } else { old.map_or(0, |old| old.attempts) };
            let not_before_ns = i64::MIN;
            if let Some(span) = rest {
                self.next_piece += 1;
                let (number, state) = (self.next_piece, PieceState::ToDo);
                pieces.insert(at, Piece { number, span, attempts, not_before_ns, state });
            }
            if let Some(span) = covered {
                let state = PieceState::Fetched(result.rows);
                pieces.insert(at, Piece { number: part.piece, span, attempts: 0, not_before_ns, state });
            }
        }
        self.join(buffer);
        Ok(())
    }

    /// A request was refused, or got no answer: its pieces are to do again.
    pub fn refused(&mut self, now: Now, gw: &mut Gateway, id: u64, error: Option<&GroupError>) {
        let Some(call) = self.calls.remove(&id) else { return };
        let advice = match error {
            Some(error) => gw.learn(call.group, call.node, error),
            None => {
                gw.router.note_failure(call.group, call.node);
                Advice::Later
            }
        };
        self.plan_again(&call.parts, |piece| {
            piece.attempts += 1;
            piece.not_before_ns = now.mono_ns.saturating_add(gw.pause_ns(advice, piece.attempts, id));
        });
    }

    /// A request was answered without rows, for good: what it asked for is not asked again.
    pub fn drop_call(&mut self, id: u64) {
        let parts = self.calls.remove(&id).map(|call| call.parts).unwrap_or_default();
        self.plan_again(&parts, |_| {});
    }

    /// Whether an answer is still to come.
    pub fn in_flight(&self) -> bool {
        !self.calls.is_empty()
    }

    fn plan_again(&mut self, parts: &[Part], plan: impl Fn(&mut Piece)) {
        for part in parts {
            let pieces = &mut self.ops[part.op].pieces;
            for piece in pieces.iter_mut().filter(|piece| piece.number == part.piece) {
                plan(piece);
                piece.state = PieceState::ToDo;
            }
        }
    }

    /// Moves fetched pieces from the front of each op into its result.
    fn join(&mut self, buffer: &WriteBuffer) {
        for scan in &mut self.ops {
            while matches!(scan.pieces.front(), Some(Piece { state: PieceState::Fetched(_), .. })) {
                let Some(Piece { span, state: PieceState::Fetched(rows), .. }) = scan.pieces.pop_front() else { break };
                for row in buffer.overlay(rows, &span, scan.op.reverse) {
                    if scan.op.limit > 0 && scan.rows.len() as u64 >= scan.op.limit {
                        break;
                    }
                    self.bytes += row.key.len() + row.value.len();
                    scan.rows.push(row);
                }
            }
            if scan.op.limit > 0 && scan.rows.len() as u64 >= scan.op.limit {
                scan.pieces.clear();
            }
        }
    }

    /// Whether there is nothing to fetch any more, and nothing in flight.
    pub fn finished(&self) -> bool {
        let full = self.bytes >= self.page_bytes_max;
        self.calls.is_empty() && (full || self.ops.iter().all(|op| op.pieces.is_empty()))
    }

    /// The result, one for each op. Only for a finished scan.
    pub fn results(self) -> Vec<ReadResult> {
        let finish = |mut scan: OpScan| {
            if let Some(first) = scan.pieces.front() {
                scan.resume = Some(match scan.op.reverse {
                    false => Span { start: first.span.start.clone(), end: scan.op.span.end.clone() },
                    true => Span { start: scan.op.span.start.clone(), end: first.span.end.clone() },
                });
            }
            ReadResult { rows: scan.rows, resume: scan.resume }
        };
        self.ops.into_iter().map(finish).collect()
    }

    /// When something is due.
    pub fn wake_at_ns(&self, now: Now) -> Option<i64> {
        let calls = self.calls.values().map(|call| call.look_ns.unwrap_or(i64::MAX).min(call.deadline_ns));
        let full = self.bytes >= self.page_bytes_max;
        let pieces = self.ops.iter().flat_map(|op| &op.pieces);
        let waiting = pieces.filter(|piece| !full && matches!(piece.state, PieceState::ToDo)).map(|p| p.not_before_ns);
        // What is due already but was not sent waits for a piece in flight, not for the clock.
        calls.chain(waiting.filter(|at| *at > now.mono_ns)).min()
    }

    pub fn assert_invariants(&self) {
        let held: usize = self.calls.values().map(|call| call.parts.len()).sum();
        let mut in_flight = 0;
        for scan in &self.ops {
            in_flight += scan.pieces.iter().filter(|piece| matches!(piece.state, PieceState::InFlight)).count();
            for (a, b) in scan.pieces.iter().zip(scan.pieces.iter().skip(1)) {
                let (low, high) = if scan.op.reverse { (b, a) } else { (a, b) };
                let ordered = !low.span.end.is_empty() && low.span.end == high.span.start;
                assert!(ordered, "scan: pieces out of order or with a gap");
            }
            let within = scan.op.limit == 0 || scan.rows.len() as u64 <= scan.op.limit;
            assert!(within, "scan: {} rows exceed the limit {}", scan.rows.len(), scan.op.limit);
        }
        assert!(in_flight == held, "scan: {in_flight} pieces in flight, but calls hold {held}");
    }
}

/// Which part of what was asked a result covers, and what is left.
fn extent(asked: &ReadOp, result: &ReadResult) -> Result<(Option<Span>, Option<Span>), String> {
    let Span { start, end } = asked.span.clone();
    let rest = match (&result.resume, result.rows.last()) {
        (Some(resume), _) if asked.reverse => Span { start: start.clone(), end: resume.end.clone() },
        (Some(resume), _) => Span { start: resume.start.clone(), end: end.clone() },
        (None, Some(last)) if asked.limit > 0 && result.rows.len() as u64 >= asked.limit => match asked.reverse {
            false => Span { start: successor(&last.key), end: end.clone() },
            // The span below the first key would have an empty end, which means the opposite.
            true if last.key <= start => return Ok((Some(asked.span.clone()), None)),
            true => Span { start: start.clone(), end: last.key.clone() },
        },
        _ => return Ok((Some(asked.span.clone()), None)),
    };
    if rest.start == rest.end && !rest.end.is_empty() {
        return Ok((Some(asked.span.clone()), None));
    }
    if rest.is_empty() || !asked.span.covers(&rest) {
        return Err("a result outside of what was asked".into());
    }
    let covered = match asked.reverse {
        _ if rest == asked.span => None,
        false => Some(Span { start, end: rest.start.clone() }),
        true => Some(Span { start: rest.end.clone(), end }),
    };
    Ok((covered, Some(rest)))
}

fn check_rows(asked: &ReadOp, covered: Option<&Span>, rows: &[Row]) -> Result<(), String> {
    let inside = |row: &Row| covered.is_some_and(|span| span.contains(&row.key));
    let ordered = |pair: &[Row]| if asked.reverse { pair[0].key > pair[1].key } else { pair[0].key < pair[1].key };
    if !rows.iter().all(inside) || !rows.windows(2).all(ordered) {
        return Err("rows out of order, or outside of what was asked".into());
    }
    Ok(())
}

/// The next possible key.
fn successor(key: &Key) -> Key {
    Span::point(key.clone()).end
}
