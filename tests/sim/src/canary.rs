//! Bugs put in on purpose. A simulator that does not find them finds nothing.
//!
//! Some live in the simulator's own layer: they break a promise that the nodes rely on, or a rule that
//! the nodes' caller must keep. The others break a guarantee in the production code, at the one
//! line that keeps it (see `truetime::sabotage`); they need the feature `canaries`.

use truetime::Guarantee;

/// A bug to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// The disk says that a sync is done, and a power cut then loses what it covered.
    LyingDisk,
    /// Messages that must wait for a sync leave before it.
    SendBeforeSync,
    /// The clocks leave their bound, and nothing fences them.
    ClockBeyondEpsilon,
    /// After a pause, inputs are given to the node with a clock reading from before it: its caller
    /// read the clock, then waited for an input, and was stopped in between.
    StaleClock,
    /// The state store's flush is reported before it has happened, so the log is truncated too early.
    EarlyFlush,
    /// Whoever opens a log takes its records as they are, whatever their checksums say.
    LogRotTaken,
    /// The same of what is read in the state store.
    StateRotTaken,
    /// A sync of the log fails, and the node goes on as if it had not.
    SyncErrorPassed,
    /// There is no room for the log, and the node goes on as if its writes were there.
    FullDiskPassed,
    /// A node whose disk was lost comes back with an empty one, and its peers take its votes.
    EmptyDiskVotes,
    /// A guarantee of the production code is broken.
    Broken(Guarantee),
}

impl Canary {
    /// All of them.
    pub const ALL: [Canary; 33] = [
        Canary::LyingDisk,
        Canary::SendBeforeSync,
        Canary::ClockBeyondEpsilon,
        Canary::StaleClock,
        Canary::EarlyFlush,
        Canary::LogRotTaken,
        Canary::StateRotTaken,
        Canary::SyncErrorPassed,
        Canary::FullDiskPassed,
        Canary::EmptyDiskVotes,
        Canary::Broken(Guarantee::CommitWait),
        Canary::Broken(Guarantee::LeaseOnRead),
        Canary::Broken(Guarantee::PrepareDurable),
        Canary::Broken(Guarantee::SafeTimeHeldByPrepared),
        Canary::Broken(Guarantee::SafeTimeHeldByInflight),
        Canary::Broken(Guarantee::LostLocksAbort),
        Canary::Broken(Guarantee::CommitOnce),
        Canary::Broken(Guarantee::CollectionLine),
        Canary::Broken(Guarantee::RangeLockEnd),
        Canary::Broken(Guarantee::EpochRule),
        Canary::Broken(Guarantee::PreparedIsSafe),
        Canary::Broken(Guarantee::LeaseEpsilon),
        Canary::Broken(Guarantee::OldLeaseOver),
        Canary::Broken(Guarantee::DecisionLogged),
        Canary::Broken(Guarantee::PromiseKept),
        Canary::Broken(Guarantee::SnapshotWhole),
        Canary::Broken(Guarantee::AppliedWithData),
        Canary::Broken(Guarantee::SplitOffKept),
        Canary::Broken(Guarantee::FailureStops),
        Canary::Broken(Guarantee::CommitDeadline),
        Canary::Broken(Guarantee::IndexDeletes),
        Canary::Broken(Guarantee::SchemaSteps),
        Canary::Broken(Guarantee::LiarFenced),
    ];

    /// Whether this build can put it in: those in the production code need the feature `canaries`.
    pub fn is_here(self) -> bool {
        cfg!(feature = "canaries") || !matches!(self, Canary::Broken(_))
    }

    /// It must be found within so many seeds.
    pub fn seeds_max(self) -> u64 {
        match self {
            // The first matters only if a value of a dead leader is chosen behind the start of the next.
            Canary::Broken(Guarantee::EpochRule | Guarantee::PrepareDurable) => 300,
            _ => 60,
        }
    }

    /// By its name on the command line.
    pub fn parse(name: &str) -> Option<Canary> {
        Canary::ALL.into_iter().find(|canary| canary.name() == name)
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Canary::LyingDisk => "lying-disk",
            Canary::SendBeforeSync => "send-before-sync",
            Canary::ClockBeyondEpsilon => "clock-beyond-epsilon",
            Canary::StaleClock => "stale-clock",
            Canary::EarlyFlush => "early-flush",
            Canary::LogRotTaken => "log-checksum-ignored",
            Canary::StateRotTaken => "state-checksum-ignored",
            Canary::SyncErrorPassed => "sync-error-ignored",
            Canary::FullDiskPassed => "full-disk-ignored",
            Canary::EmptyDiskVotes => "empty-disk-votes",
            Canary::Broken(Guarantee::CommitWait) => "no-commit-wait",
            Canary::Broken(Guarantee::LeaseOnRead) => "lease-not-checked",
            Canary::Broken(Guarantee::PrepareDurable) => "prepare-not-durable",
            Canary::Broken(Guarantee::SafeTimeHeldByPrepared) => "safe-time-ignores-prepared",
            Canary::Broken(Guarantee::SafeTimeHeldByInflight) => "safe-time-ignores-inflight",
            Canary::Broken(Guarantee::LostLocksAbort) => "locks-lost-silently",
            Canary::Broken(Guarantee::CommitOnce) => "commit-twice",
            Canary::Broken(Guarantee::CollectionLine) => "collected-too-early",
            Canary::Broken(Guarantee::RangeLockEnd) => "range-lock-without-end",
            Canary::Broken(Guarantee::EpochRule) => "no-epoch-rule",
            Canary::Broken(Guarantee::PreparedIsSafe) => "prepared-is-wounded",
            Canary::Broken(Guarantee::LeaseEpsilon) => "lease-without-epsilon",
            Canary::Broken(Guarantee::OldLeaseOver) => "votes-forgotten",
            Canary::Broken(Guarantee::DecisionLogged) => "answered-before-logged",
            Canary::Broken(Guarantee::PromiseKept) => "promise-forgotten",
            Canary::Broken(Guarantee::SnapshotWhole) => "snapshot-without-prepared",
            Canary::Broken(Guarantee::AppliedWithData) => "applied-without-data",
            Canary::Broken(Guarantee::SplitOffKept) => "split-off-keys-dropped",
            Canary::Broken(Guarantee::FailureStops) => "failure-ignored",
            Canary::Broken(Guarantee::CommitDeadline) => "deadline-ignored",
            Canary::Broken(Guarantee::IndexDeletes) => "index-skips-delete-only",
            Canary::Broken(Guarantee::SchemaSteps) => "schema-step-without-wait",
            Canary::Broken(Guarantee::LiarFenced) => "liar-not-fenced",
        }
    }
}
