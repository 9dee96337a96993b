//! One random stream for each (node, purpose, part), all of one seed, so that a new draw in one
//! place does not shift the draws of all others.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The choice of the run's settings.
    Swarm = 1,
    /// Handed to the node itself.
    Protocol,
    /// A node's clock.
    Clock,
    /// A node's disk.
    Disk,
    /// How fast a node works.
    Cpu,
    /// A directed link; the part is the receiver.
    Link,
    /// A client; the part is its number.
    Client,
    /// The faults.
    Nemesis,
    /// A node's gateway.
    Gateway,
    /// The last reads, and whatever else the world asks.
    World,
}

/// The stream of a node (0 for none), a purpose and a part.
pub fn stream(seed: u64, node: u64, purpose: Purpose, part: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (chunk, word) in key.chunks_exact_mut(8).zip([seed, node, purpose as u64, part]) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// True `ppm` times in a million.
pub fn chance(rng: &mut ChaCha8Rng, ppm: u32) -> bool {
    ppm > 0 && rng.random_range(0..1_000_000) < ppm
}

/// One of these.
pub fn pick<'a, T>(rng: &mut ChaCha8Rng, items: &'a [T]) -> &'a T {
    &items[rng.random_range(0..items.len())]
}

/// From `low` to `high` such that every magnitude is as likely as another.
pub fn log_uniform(rng: &mut ChaCha8Rng, low: i64, high: i64) -> i64 {
    assert!(0 < low && low <= high, "a range of magnitudes from {low} to {high}");
    let doublings = (high / low).ilog2();
    let base = low << rng.random_range(0..=doublings);
    rng.random_range(base..=(base * 2).min(high).max(base))
}
