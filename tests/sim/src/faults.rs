//! The faults: which exist, and what each does.

/// A fault that a run may contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process is killed; what it wrote survives.
    Kill,
    /// A machine loses power; what was not synced may be lost.
    PowerCut,
    /// All machines lose power at once.
    PowerCutAll,
    /// A process stops for a while, up to three leases, and everything reaches it late.
    Pause,
    /// The same, for a node that leads.
    PauseLeader,
    /// One node is cut off.
    Isolate,
    /// Two halves do not see one another.
    Halves,
    /// One node hears another, which does not hear it.
    OneWay,
    /// A clock jumps within its bound.
    ClockJump,
    /// A clock does not trust itself for a while.
    Distrust,
    /// A process is asked to stop, and restarted.
    Shutdown,
    /// A group's leader is asked to hand over.
    HandOver,
    /// A range is split.
    Split,
    /// A node stays away for long enough to need a snapshot.
    LongAbsence,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 14] = [
        Fault::Kill,
        Fault::PowerCut,
        Fault::PowerCutAll,
        Fault::Pause,
        Fault::PauseLeader,
        Fault::Isolate,
        Fault::Halves,
        Fault::OneWay,
        Fault::ClockJump,
        Fault::Distrust,
        Fault::Shutdown,
        Fault::HandOver,
        Fault::Split,
        Fault::LongAbsence,
    ];

    /// What the run's counters call it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "fault: kill",
            Fault::PowerCut => "fault: power cut",
            Fault::PowerCutAll => "fault: power cut of all",
            Fault::Pause => "fault: pause",
            Fault::PauseLeader => "fault: pause of a leader",
            Fault::Isolate => "fault: one isolated",
            Fault::Halves => "fault: halves",
            Fault::OneWay => "fault: one-way cut",
            Fault::ClockJump => "fault: clock jump",
            Fault::Distrust => "fault: clock distrusted",
            Fault::Shutdown => "fault: shutdown",
            Fault::HandOver => "fault: hand-over",
            Fault::Split => "fault: split",
            Fault::LongAbsence => "fault: long absence",
        }
    }
}
