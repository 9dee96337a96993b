//! Bugs put in on purpose. A simulator that does not find them finds nothing.
//!
//! Each one lives in the simulator's own layer: it breaks a promise that the nodes rely on, or a
//! rule that the nodes' caller must keep.

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
}

impl Canary {
    /// All of them.
    pub const ALL: [Canary; 5] =
        [Canary::LyingDisk, Canary::SendBeforeSync, Canary::ClockBeyondEpsilon, Canary::StaleClock, Canary::EarlyFlush];

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
        }
    }
}
