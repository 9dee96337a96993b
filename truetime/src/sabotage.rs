//! Guarantees that can be broken on purpose, to prove that the simulator would notice.
//!
//! Each hook in production code is one condition, at the place that carries the guarantee:
//! `if sabotage.breaks(Guarantee::X)`. Without the cargo feature `sabotage`, which only the
//! simulator turns on, and only when it looks for canaries, [`Sabotage`] is empty and the condition is
//! the constant `false`: a shipped build has no such branch.

/// A guarantee, by the one line that keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// A commit is answered only once its timestamp has surely passed (I7, I8).
    CommitWait,
    /// A leader acts, and its answers leave, only within its lease (I5).
    LeaseOnRead,
    /// A participant votes only once its prepare record is chosen (I9).
    PrepareDurable,
    /// No read at or above the timestamp of a prepared transaction passes it (I12).
    SafeTimeHeldByPrepared,
    /// No read passes a write in flight (I12).
    SafeTimeHeldByInflight,
    /// Locks that were lost are not taken for held (I11).
    LostLocksAbort,
    /// A commit request is executed at most once (I10).
    CommitOnce,
    /// Collection keeps what a reader may still read (I12).
    CollectionLine,
    /// A lock on a range ends where the range ends (serializability: no phantoms).
    RangeLockEnd,
    /// A value of an older leader has no effect after a newer one's start (I12).
    EpochRule,
    /// A prepared transaction is not wounded (I9).
    PreparedIsSafe,
    /// A leader stops when its lease may have ended, and not when it surely has (I5).
    LeaseEpsilon,
    /// Nothing is promised to a candidate while another's lease may last (I5).
    OldLeaseOver,
    /// A commit is answered only once its record is chosen (I13).
    DecisionLogged,
    /// No write is given a timestamp at or below one that was promised to readers (I12).
    PromiseKept,
    /// A commit has no timestamp after its deadline (a schema that it was planned with is one that others know).
    CommitDeadline,
    /// Who knows of an index that is not written yet deletes its old entries.
    IndexDeletes,
    /// A step of a schema change waits until nobody goes by the state before the last one.
    SchemaSteps,
    /// A snapshot carries the transactions that are prepared (I9).
    SnapshotWhole,
    /// The applied index is written together with the data that it vouches for (I6).
    AppliedWithData,
    /// A snapshot from after a split replaces a state only where the keys that were split off are too (I13).
    SplitOffKept,
    /// A replica whose disk has failed stops (I14).
    FailureStops,
    /// A clock that a majority's contradict is fenced (I1, and all that rests on it).
    LiarFenced,
}

/// Which guarantee is broken in this run, if one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sabotage {
    #[cfg(feature = "sabotage")]
    broken: Option<Guarantee>,
}

impl Sabotage {
    /// Breaks one guarantee.
    #[cfg(feature = "sabotage")]
    pub fn of(guarantee: Guarantee) -> Sabotage {
        Sabotage { broken: Some(guarantee) }
    }

    /// Whether this one is broken. Never, without the feature.
    #[cfg(feature = "sabotage")]
    pub fn breaks(self, guarantee: Guarantee) -> bool {
        self.broken == Some(guarantee)
    }

    /// Never, without the feature.
    #[cfg(not(feature = "sabotage"))]
    #[inline(always)]
    pub fn breaks(self, _: Guarantee) -> bool {
        false
    }
}
