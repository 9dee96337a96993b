//! Where keys lie, and which are in use.
//!
//! The tables of the workloads are split at whole multiples of [`SPAN`], each range a group of its
//! own. The n-th key lies in the range `n % shards`, so a few keys in a row touch all groups.
//!
//! A run uses few keys at a time, so that its transactions meet; and each only for a while, so
//! that lists stay short and a checker's work bounded.

use std::sync::Mutex;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::plan::locked;

/// How many keys a range has.
pub const SPAN: i64 = 1_000_000;

/// The n-th key.
pub fn place(n: i64, shards: i64) -> i64 {
    n % shards * SPAN + n / shards
}

struct Window {
    /// The keys in use, by their number, and how often each was written.
    active: Vec<(i64, u32)>,
    next: i64,
}

/// A window of keys that moves on.
pub struct Pool {
    shards: i64,
    writes_max: u32,
    window: Mutex<Window>,
}

impl Pool {
    /// So many keys at a time, each written so often.
    pub fn new(shards: i64, size: i64, writes_max: u32) -> Pool {
        let active = (0..size).map(|n| (n, 0)).collect();
        Pool { shards, writes_max, window: Mutex::new(Window { active, next: size }) }
    }

    /// A key to read.
    pub fn read(&self, rng: &mut ChaCha8Rng) -> i64 {
        let window = locked(&self.window);
        let at = rng.random_range(0..window.active.len());
        place(window.active[at].0, self.shards)
    }

    /// A key to write; its last write brings a new key into use.
    pub fn write(&self, rng: &mut ChaCha8Rng) -> i64 {
        let mut window = locked(&self.window);
        let at = rng.random_range(0..window.active.len());
        let n = window.active[at].0;
        window.active[at].1 += 1;
        if window.active[at].1 >= self.writes_max {
            window.active[at] = (window.next, 0);
            window.next += 1;
        }
        place(n, self.shards)
    }

    /// Every key that was ever in use.
    pub fn all(&self) -> Vec<i64> {
        (0..locked(&self.window).next).map(|n| place(n, self.shards)).collect()
    }
}

/// Groups of keys, each group over all ranges, used one after the other.
pub struct Groups {
    shards: i64,
    /// Keys of a group.
    pub size: i64,
    uses_max: u32,
    /// The present group and how often it was used.
    state: Mutex<(i64, u32)>,
}

impl Groups {
    /// So many keys each, used so often.
    pub fn new(shards: i64, size: i64, uses_max: u32) -> Groups {
        Groups { shards, size, uses_max, state: Mutex::new((0, 0)) }
    }

    /// The keys of a group.
    pub fn keys(&self, group: i64) -> Vec<i64> {
        (0..self.size).map(|n| place(group * self.size + n, self.shards)).collect()
    }

    /// The present group, used once more, and how often it was used before.
    pub fn enter(&self) -> (i64, u32) {
        let mut state = locked(&self.state);
        let entered = *state;
        state.1 += 1;
        if state.1 >= self.uses_max {
            *state = (state.0 + 1, 0);
        }
        entered
    }

    /// The present group or one shortly before it.
    pub fn look(&self, rng: &mut ChaCha8Rng) -> i64 {
        (locked(&self.state).0 - rng.random_range(0..3)).max(0)
    }

    /// Every key that was ever in use.
    pub fn all(&self) -> Vec<i64> {
        let present = locked(&self.state).0;
        (0..=present).flat_map(|group| self.keys(group)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn keys_lie_in_all_ranges_and_are_replaced_after_their_last_write() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let pool = Pool::new(4, 8, 3);
        let mut written = std::collections::BTreeMap::new();
        for _ in 0..300 {
            *written.entry(pool.write(&mut rng)).or_insert(0) += 1;
        }
        assert!(written.values().all(|writes| *writes <= 3), "{written:?}");
        let all = pool.all();
        assert!(written.keys().all(|key| all.contains(key)));
        let mut ranges: Vec<i64> = all.iter().map(|key| key / SPAN).collect();
        ranges.sort_unstable();
        ranges.dedup();
        assert_eq!(ranges, [0, 1, 2, 3]);
        assert!(all.contains(&pool.read(&mut rng)));
    }

    #[test]
    fn a_group_is_left_after_its_last_use() {
        let groups = Groups::new(4, 4, 2);
        let entered: Vec<_> = (0..5).map(|_| groups.enter()).collect();
        assert_eq!(entered, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]);
        assert_eq!(groups.keys(1), [1, SPAN + 1, 2 * SPAN + 1, 3 * SPAN + 1]);
        assert_eq!(groups.all().len(), 12);
    }
}
