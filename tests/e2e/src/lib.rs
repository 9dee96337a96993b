//! Clusters of real `meridian` processes for the end-to-end tests.
//!
//! A test starts a cluster on ports that the system chose, talks to it as a client would, and
//! sends its processes signals. Everything is gone when the `Cluster` is dropped. The binary is
//! the one beside the test's own (`target/release/meridian`), or `$MERIDIAN_BIN`.

pub mod cluster;
pub mod crowd;
pub mod demo;
pub mod disk;
pub mod session;

pub use cluster::{Cluster, Options, Output};
pub use demo::Demo;
pub use disk::Disk;
pub use session::{Failure, Session, Statement};

use std::time::{Duration, Instant};

/// Calls `check` until it says something, for at most `limit`.
pub fn eventually<T>(limit: Duration, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        pause(Duration::from_millis(50));
    }
}

/// Lets other processes go on between two looks at them.
pub fn pause(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
        std::thread::park_timeout(left);
    }
}
