//! Faults that a node injects into itself when it was started to be hurt: by `meridian demo`, which says with
//! `--faults-at` where faults are asked for. A node that was started otherwise has none, and takes none.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// The longest delay of a sync: the disk is slow, not dead.
pub const FSYNC_DELAY_MAX: Duration = Duration::from_secs(10);

/// What is injected now. Shared by all threads of the node.
#[derive(Debug, Default)]
pub struct Injected {
    faults_at: Option<String>,
    fsync_delay_ns: AtomicI64,
}

impl Injected {
    /// Nothing yet; `faults_at` is HOST:PORT, or `None` for a node that must not be hurt.
    pub fn new(faults_at: Option<String>) -> Injected {
        Injected { faults_at, fsync_delay_ns: AtomicI64::new(0) }
    }

    /// Where faults can be injected, if anywhere.
    pub fn faults_at(&self) -> Option<&str> {
        self.faults_at.as_deref()
    }

    /// By how much each sync of the log is delayed; 0 without a fault.
    pub fn fsync_delay(&self) -> Duration {
        Duration::from_nanos(self.fsync_delay_ns.load(Ordering::Relaxed).max(0).unsigned_abs())
    }

    /// Delays each further sync of the log. The error is for the user.
    pub fn set_fsync_delay_ns(&self, delay_ns: i64) -> Result<(), String> {
        if self.faults_at.is_none() {
            return Err("this node was not started by meridian demo: its disk cannot be slowed down".into());
        }
        let delay = u64::try_from(delay_ns).map_err(|_| "a delay must not be negative".to_string())?;
        if Duration::from_nanos(delay) > FSYNC_DELAY_MAX {
            return Err(format!("a sync can be delayed by {FSYNC_DELAY_MAX:?} at most"));
        }
        let before_ns = self.fsync_delay_ns.swap(delay_ns, Ordering::Relaxed);
        if before_ns != delay_ns {
            tracing::warn!("injected fsync delay: {:?} for each sync of the log", Duration::from_nanos(delay));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_was_started_to_be_hurt_takes_a_delay() {
        let safe = Injected::new(None);
        assert!(safe.set_fsync_delay_ns(1_000_000).unwrap_err().contains("not started by meridian demo"));
        assert_eq!(safe.fsync_delay(), Duration::ZERO);
        let hurt = Injected::new(Some("127.0.0.1:1".into()));
        assert_eq!(hurt.set_fsync_delay_ns(20_000_000), Ok(()));
        assert_eq!(hurt.fsync_delay(), Duration::from_millis(20));
        assert!(hurt.set_fsync_delay_ns(-1).is_err() && hurt.set_fsync_delay_ns(i64::MAX).is_err());
        assert_eq!(hurt.set_fsync_delay_ns(0), Ok(()));
        assert_eq!(hurt.fsync_delay(), Duration::ZERO);
    }
}
