//! What all transactions of one gateway share: the router, the settings, and numbers for names.

use paxos::{GroupId, NodeId};
use truetime::Now;

use crate::api::GroupError;
use crate::types::{Priority, TxnId};

use super::router::Router;

/// Settings of a gateway. All times are in nanoseconds.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// A request of which nothing was heard for so long is sent again.
    pub request_timeout_ns: i64,
    /// How often a request that waits for a leader's answer looks whether that node leads still, as far as the
    /// gateway has heard: if not, it is sent to the one that does.
    pub look_again_ns: i64,
    /// A replica that has not answered a snapshot read for so long (its safe time lags) is given up
    /// for the leader.
    pub replica_timeout_ns: i64,
    /// A read fails after so long, whatever it waits for.
    pub op_timeout_ns: i64,
    /// After so long without an answer to a commit its status is asked, which ends it.
    pub commit_timeout_ns: i64,
    /// After so long without an answer to that, the commit is ambiguous.
    pub status_timeout_ns: i64,
    /// How often an open transaction tells its groups that it is alive.
    pub keepalive_ns: i64,
    /// The first pause before a retry; doubled each time.
    pub retry_min_ns: i64,
    /// The longest.
    pub retry_max_ns: i64,
    /// A read stops fetching pages once it has so many bytes of rows, and says where it stopped.
    pub page_bytes_max: usize,
}

impl Default for GatewayOptions {
    fn default() -> GatewayOptions {
        GatewayOptions {
            request_timeout_ns: 3_000_000_000,
            look_again_ns: 250_000_000,
            replica_timeout_ns: 500_000_000,
            op_timeout_ns: 30_000_000_000,
            commit_timeout_ns: 15_000_000_000,
            status_timeout_ns: 15_000_000_000,
            keepalive_ns: 2_000_000_000,
            retry_min_ns: 5_000_000,
            retry_max_ns: 500_000_000,
            page_bytes_max: 4 << 20,
        }
    }
}

/// The state that a node's sessions share.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The node it runs on.
    pub me: NodeId,
    /// Where ranges and leaders are.
    pub router: Router,
    /// Settings.
    pub options: GatewayOptions,
    next_request: u64,
    next_txn: u64,
}

impl Gateway {
    /// A gateway on node `me` of the cluster `nodes`. Requests are numbered from `first_request`:
    /// above all numbers of an earlier process on this node, whose late replies may still arrive.
    pub fn new(me: NodeId, nodes: Vec<NodeId>, options: GatewayOptions, first_request: u64) -> Gateway {
        Gateway { me, router: Router::new(me, nodes), options, next_request: first_request, next_txn: 1 }
    }

    /// Names a new transaction. A retry takes the name, and keeps the priority of its first try.
    pub fn begin(&mut self, now: Now) -> (TxnId, Priority) {
        let start = now.tt.latest;
        let id = TxnId::new(start, self.me, self.next_txn);
        self.next_txn += 1;
        (id, Priority { start, id })
    }

    /// A number for a request.
    pub fn request_id(&mut self) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        id
    }

    /// Whether another node leads the group than this one, as far as is known: then what was asked of this one
    /// may never be answered.
    pub(super) fn leads_elsewhere(&self, group: GroupId, node: NodeId) -> bool {
        self.router.leader_hint(group).is_some_and(|leader| leader != node)
    }

    /// When a request sent now is to look next whether its leader leads still.
    pub(super) fn look_at_ns(&self, now: Now) -> i64 {
        now.mono_ns.saturating_add(self.options.look_again_ns.max(1))
    }

    /// Learns from a refusal.
    pub(super) fn learn(&mut self, group: GroupId, node: NodeId, error: &GroupError) -> Advice {
        match error {
            GroupError::NotLeader(Some(leader)) if *leader != node => {
                self.router.learn_leader(group, Some(*leader));
                Advice::Again
            }
            GroupError::NotLeader(_) | GroupError::NoGroup => {
                self.router.note_failure(group, node);
                Advice::Later
            }
            GroupError::WrongRange(ranges) => {
                let mut changed = false;
                for range in ranges {
                    changed |= self.router.learn_range(range.clone());
                }
                if changed { Advice::Again } else { Advice::Later }
            }
            GroupError::Unavailable(_) => Advice::Later,
            GroupError::Aborted(_)
            | GroupError::TooOld { .. }
            | GroupError::Invalid(_)
            | GroupError::LockNotAvailable => Advice::GiveUp,
        }
    }

    /// How long to wait before the retry after `attempts` failures. The first refusals that taught
    /// something are followed at once. `salt` spreads retries that would otherwise collide.
    pub(super) fn pause_ns(&self, advice: Advice, attempts: u32, salt: u64) -> i64 {
        if advice == Advice::Again && attempts <= 2 {
            return 0;
        }
        let doublings = attempts.saturating_sub(1).min(20);
        let pause = self.options.retry_min_ns.saturating_mul(1 << doublings).clamp(1, self.options.retry_max_ns.max(1));
        let spread = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        pause + (spread % (pause as u64 / 4 + 1)) as i64
    }
}

/// What a refusal means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// Something was learned: ask again at once.
    Again,
    /// Ask again after a pause.
    Later,
    /// This is the answer.
    GiveUp,
}
