//! Names of nodes, groups, ballots and slots.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// A node of the cluster, numbered from 1.
    NodeId,
    "n"
);
id!(
    /// A Paxos group; 0 is the catalogue's.
    GroupId,
    "g"
);
id!(
    /// A position in a group's log, numbered from 1; 0 means "before the first".
    Slot,
    "s"
);

impl Slot {
    /// The slot after this one.
    pub fn next(self) -> Slot {
        Slot(self.0 + 1)
    }
}

/// A proposal number: ordered by round, ties broken by node, so no two nodes share one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Raised at every candidacy. 0 is below every real ballot.
    pub round: u64,
    /// Whose ballot it is.
    pub node: NodeId,
}

impl Ballot {
    /// Below every ballot that a node can use.
    pub const ZERO: Ballot = Ballot { round: 0, node: NodeId(0) };
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{}.{}", self.round, self.node.0)
    }
}
