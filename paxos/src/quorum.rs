//! Counting: which voters have answered, and the value that a majority has reached.

use crate::{Configuration, NodeId};

/// Voters of one group at most: a set of them is one machine word.
pub const VOTERS_MAX: usize = 64;

/// The voters of one configuration, numbered in order.
#[derive(Clone, Debug)]
pub struct Quorum {
    voters: Vec<NodeId>,
}

/// A set of voters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Votes(u64);

impl Quorum {
    /// Of this configuration, whose size was checked when it was decoded or created.
    pub fn new(config: &Configuration) -> Quorum {
        assert!(config.voters.len() <= VOTERS_MAX, "{} voters, at most {VOTERS_MAX}", config.voters.len());
        Quorum { voters: config.voters.iter().copied().collect() }
    }

    /// How many voters there are.
    pub fn voters(&self) -> usize {
        self.voters.len()
    }

    /// How many are a majority.
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Adds a node to a set; nothing happens if it has no vote.
    pub fn add(&self, votes: &mut Votes, node: NodeId) {
        if let Ok(index) = self.voters.binary_search(&node) {
            votes.0 |= 1 << index;
        }
    }

    /// Whether the set has this node.
    pub fn has(&self, votes: Votes, node: NodeId) -> bool {
        self.voters.binary_search(&node).is_ok_and(|index| votes.0 & (1 << index) != 0)
    }

    /// Whether the set is a majority.
    pub fn reached(&self, votes: Votes) -> bool {
        votes.0.count_ones() as usize >= self.majority()
    }

    /// Whether a majority is out of reach once these have refused.
    pub fn unreachable(&self, refused: Votes) -> bool {
        self.voters.len() - (refused.0.count_ones() as usize) < self.majority()
    }

    /// The largest value that a majority of voters has reached, where `of` says how far each is;
    /// `None` if a majority has reached none.
    pub fn reached_by_majority<T: Ord + Copy>(&self, of: impl Fn(NodeId) -> Option<T>) -> Option<T> {
        let mut values: Vec<T> = self.voters.iter().filter_map(|node| of(*node)).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.get(self.majority() - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// The dumb twin: try every value, and count who has reached it.
    fn reached_slowly(values: &[(NodeId, Option<i32>)]) -> Option<i32> {
        let reached = |v: i32| values.iter().filter(|(_, have)| have.is_some_and(|have| have >= v)).count();
        (-2..12).rev().find(|v| reached(*v) * 2 > values.len())
    }

    #[test]
    fn agrees_with_counting_by_hand() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..5000 {
            let voters = rng.random_range(1..8);
            let values: Vec<(NodeId, Option<i32>)> = (0..voters)
                .map(|i| (NodeId(i * 3 + 1), rng.random_bool(0.8).then(|| rng.random_range(0..10))))
                .collect();
            let quorum = Quorum::new(&Configuration::of_voters(values.iter().map(|(node, _)| *node)));
            let of = |node| values.iter().find(|(n, _)| *n == node).and_then(|(_, v)| *v);
            assert_eq!(quorum.reached_by_majority(of), reached_slowly(&values), "{values:?}");

            let mut votes = Votes::default();
            quorum.add(&mut votes, NodeId(2)); // has no vote: numbers are 1, 4, 7...
            for (node, value) in &values {
                if value.is_some() {
                    quorum.add(&mut votes, *node);
                    quorum.add(&mut votes, *node);
                }
            }
            let count = values.iter().filter(|(_, v)| v.is_some()).count();
            assert_eq!(quorum.reached(votes), count * 2 > values.len());
            assert_eq!(quorum.unreachable(votes), (values.len() - count) * 2 <= values.len());
            assert!(values.iter().all(|(node, v)| quorum.has(votes, *node) == v.is_some()));
        }
    }

    #[test]
    fn any_two_majorities_meet() {
        for voters in 1..8u32 {
            let quorum = Quorum::new(&Configuration::of_voters((1..=u64::from(voters)).map(NodeId)));
            for a in 0..1u64 << voters {
                for b in 0..1u64 << voters {
                    if quorum.reached(Votes(a)) && quorum.reached(Votes(b)) {
                        assert_ne!(a & b, 0);
                    }
                }
            }
        }
    }
}
