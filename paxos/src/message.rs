//! What replicas of one group say to each other, and its bytes.

/// A message between two replicas of the same group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {}
