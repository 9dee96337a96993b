//! The faults: which exist, and what each does.
//!
//! | fault | what it does |
//! | --- | --- |
//! | `Kill`, `LongAbsence` | a process ends; what it wrote survives. It is back within three leases, or after so many that it needs a snapshot |
//! | `KillMinority`, `KillAll` | the same, of as many as may be and of all at once |
//! | `PowerCut`, `PowerCutAll` | what was not synced survives up to a random point, and the record after it may be torn: it is dropped |
//! | `RestartStorm` | one node or each is killed, or loses power, 3 to 11 times, up to 50 ms apart |
//! | `Shutdown`, `RollingRestart` | one node is asked to stop; or all, each once the one before is back |
//! | `Pause`, `PauseLeader`, `PauseMajority` | processes stop for up to three leases, and everything reaches them late |
//! | `SyncError` | a sync of the log fails: the node stops (I14) as after a power cut, until its disk is repaired |
//! | `DiskFull` | on one disk or all there is no room for the log, or a write of the state store fails: the node stops, and does not start before there is room |
//! | `LogRot` | a bit of a durable log record or of its checksum flips: the next start finds it and refuses, until it is mended |
//! | `StateRot` | the same in the state store: whoever reads the record finds it, and the node stops or does not start |
//! | `DiskLost` | the node comes back with an empty disk: its peers refuse it and tell it so, and it stops; its old disk comes back, or it stays away for good |
//! | `SlowDisk`, `StalledSync` | syncs take a hundred times longer for up to six leases; one sync takes up to five seconds more |
//! | `Isolate`, `Halves`, `OneWay` | links are cut for up to four leases |
//! | `ClockJump`, `Distrust` | clocks jump within their bound; a clock does not trust itself |
//! | `HandOver`, `Split` | no faults, but they happen in the midst of them |
//!
//! Those of links and clocks are described in `partitions`; clocks that leave their bounds, in `beyond`.
//!
//! Those of `aimed` wait for a moment instead of a time; each is described there.

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
    /// The next sync of a node's log fails.
    SyncError,
    /// There is no room left on a disk, or on all.
    DiskFull,
    /// A bit of a node's log flips.
    LogRot,
    /// A bit of a node's state store flips.
    StateRot,
    /// A disk is gone, and an empty one in its place.
    DiskLost,
    /// A node's syncs take a hundred times longer for a while.
    SlowDisk,
    /// One sync takes seconds.
    StalledSync,
    /// One node, or each, is killed every few milliseconds, several times.
    RestartStorm,
    /// All nodes are asked to stop, one after the other.
    RollingRestart,
    /// As many nodes as may be are killed at once.
    KillMinority,
    /// All processes are killed at once.
    KillAll,
    /// A majority stops for a while.
    PauseMajority,
    /// Each node hears its neighbours only.
    Ring,
    /// Two halves hear one node between them.
    Bridge,
    /// Some messages of one group do not arrive.
    OneGroup,
    /// Links of a node are slow for a while.
    SlowLinks,
    /// A link delivers nothing, and then everything.
    Stall,
    /// Clients do not reach a gateway.
    ClientsCut,
    /// A wall clock stands still.
    Freeze,
    /// A wall clock runs twice as fast.
    Race,
    /// A wall clock jumps to and fro.
    Strobe,
    /// A clock's bound becomes another.
    EpsilonChange,
    /// A leader's clock is at one end of its bound and all others at the other; then they change ends, and it is cut off.
    Apart,
}

impl Fault {
    /// Those of disks.
    pub const DISKS: [Fault; 7] = [
        Fault::SyncError,
        Fault::DiskFull,
        Fault::LogRot,
        Fault::StateRot,
        Fault::DiskLost,
        Fault::SlowDisk,
        Fault::StalledSync,
    ];

    /// Those of several processes, or of one several times.
    pub const PROCESSES: [Fault; 5] =
        [Fault::RestartStorm, Fault::RollingRestart, Fault::KillMinority, Fault::KillAll, Fault::PauseMajority];

    /// Those between nodes, and between clients and gateways.
    pub const LINKS: [Fault; 6] =
        [Fault::Ring, Fault::Bridge, Fault::OneGroup, Fault::SlowLinks, Fault::Stall, Fault::ClientsCut];

    /// Those of clocks, within their bounds.
    pub const CLOCKS: [Fault; 4] = [Fault::Freeze, Fault::Race, Fault::Strobe, Fault::EpsilonChange];

    /// The first ones, which each seed draws first.
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

    /// Every one there is.
    pub fn every() -> impl Iterator<Item = Fault> {
        let lists = [&Fault::ALL[..], &Fault::DISKS, &Fault::PROCESSES, &Fault::LINKS, &Fault::CLOCKS, &[Fault::Apart]];
        lists.concat().into_iter()
    }

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
            Fault::SyncError => "fault: sync error",
            Fault::DiskFull => "fault: full disk",
            Fault::LogRot => "fault: rot of a log",
            Fault::StateRot => "fault: rot of a state",
            Fault::DiskLost => "fault: disk lost",
            Fault::SlowDisk => "fault: slow disk",
            Fault::StalledSync => "fault: stalled sync",
            Fault::RestartStorm => "fault: restart storm",
            Fault::RollingRestart => "fault: rolling restart",
            Fault::KillMinority => "fault: kill of a minority",
            Fault::KillAll => "fault: kill of all",
            Fault::PauseMajority => "fault: pause of a majority",
            Fault::Ring => "fault: ring",
            Fault::Bridge => "fault: bridge",
            Fault::OneGroup => "fault: partition of one group",
            Fault::SlowLinks => "fault: slow links",
            Fault::Stall => "fault: stalled link",
            Fault::ClientsCut => "fault: clients cut off",
            Fault::Freeze => "fault: clock frozen",
            Fault::Race => "fault: clock races",
            Fault::Strobe => "fault: clock strobe",
            Fault::EpsilonChange => "fault: epsilon changed",
            Fault::Apart => "fault: clocks apart",
        }
    }
}
