//! What all sessions of a node may hold in memory: requests as they came, and writes that wait for
//! their commit.
//!
//! Each session has bounds of its own, but a node has thousands of sessions. So what they hold is counted
//! together, and whoever would go beyond the bound is refused with 53200, while others go on. It
//! counts the payload, not the maps around it: about half of what is resident.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes of one node's sessions.
#[derive(Debug)]
pub struct Memory {
    bytes_max: usize,
    used_bytes: AtomicUsize,
    refused: AtomicUsize,
}

impl Memory {
    /// With this bound.
    pub fn new(bytes_max: usize) -> Memory {
        Memory { bytes_max, used_bytes: AtomicUsize::new(0), refused: AtomicUsize::new(0) }
    }

    /// The bound.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// What is held now.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// How often there was not enough, since the start.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }
}

/// A part of it. Given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Held {
    /// Nothing yet.
    pub fn new(memory: Arc<Memory>) -> Held {
        Held { memory, bytes: 0 }
    }

    /// Takes more. Says, in words for the client, if there is not so much: then nothing was taken.
    pub fn grow(&mut self, bytes: usize) -> Result<(), String> {
        let max = self.memory.bytes_max;
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= max);
        if self.memory.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            self.memory.refused.fetch_add(1, Ordering::Relaxed);
            let used = self.memory.used_bytes();
            return Err(format!("{bytes} bytes are wanted, and the node's sessions hold {used} of {max}"));
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_dropped_is_free_again() {
        let memory = Arc::new(Memory::new(100));
        let mut one = Held::new(memory.clone());
        let mut two = Held::new(memory.clone());
        one.grow(60).unwrap();
        let why = two.grow(41).unwrap_err();
        assert!(why.contains("41 bytes") && why.contains("60 of 100"), "{why}");
        two.grow(40).unwrap();
        assert!(one.grow(usize::MAX).is_err());
        assert_eq!((memory.used_bytes(), memory.refused()), (100, 2));
        drop(one);
        two.grow(60).unwrap();
        drop(two);
        assert_eq!(memory.used_bytes(), 0);
    }
}
