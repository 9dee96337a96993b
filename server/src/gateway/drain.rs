//! How the sessions of a node end when it stops.
//!
//! ```text
//!   Open ----stop----> Closing ----GRACE, or the last one has ended----> Cut ----> the groups are handed over
//!                      no session begins;                 what is left ends
//!                      one ends when it is in no block    where it is
//! ```
//!
//! The order matters: a session that ends rolls its transaction back, and so its locks go at once. Were the node
//! to hand over first, the locks of its sessions would stay with their groups until those had not heard of
//! the transactions for `NodeOptions::txn_idle_ns`, and whoever wants the same rows would wait that long.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics::{Metrics, get};

/// How long statements and transaction blocks may take to end well.
const GRACE: Duration = Duration::from_secs(1);
/// How long sessions may take to notice that they are cut.
const CUT_MAX: Duration = Duration::from_millis(200);
/// How often the sessions are counted.
const COUNT_EVERY: Duration = Duration::from_millis(2);

/// How far a node has come with its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    Closing,
    Cut,
}

/// What a node's sessions are to do.
#[derive(Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain { phase: watch::Sender::new(Phase::Open) }
    }
}

impl Drain {
    /// Whether sessions are to end once they can, and none may begin.
    pub fn is_closing(&self) -> bool {
        *self.phase.borrow() >= Phase::Closing
    }

    /// Until sessions are to end once they can.
    pub async fn closing(&self) {
        self.reaches(Phase::Closing).await;
    }

    /// Until sessions are to end at once.
    pub async fn cut(&self) {
        self.reaches(Phase::Cut).await;
    }

    async fn reaches(&self, phase: Phase) {
        let mut watched = self.phase.subscribe();
        // The sender is this object's own: it cannot be gone.
        let _ = watched.wait_for(|now| *now >= phase).await;
    }

    /// Ends all sessions that the metrics count.
    pub async fn run(&self, metrics: &Metrics) {
        self.run_within(GRACE, metrics).await;
    }

    async fn run_within(&self, grace: Duration, metrics: &Metrics) {
        for (phase, limit) in [(Phase::Closing, grace), (Phase::Cut, CUT_MAX)] {
            self.phase.send_replace(phase);
            let deadline = Instant::now() + limit;
            while get(&metrics.sessions_open) > 0 && Instant::now() < deadline {
                tokio::time::sleep(COUNT_EVERY).await;
            }
        }
        let left = get(&metrics.sessions_open);
        if left > 0 {
            tracing::warn!("{left} sessions did not end in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::metrics::add;

    /// A session that ends when it is told to, `politely` or only when it is cut.
    fn session(drain: &Arc<Drain>, metrics: &Arc<Metrics>, politely: bool) {
        let (drain, metrics) = (drain.clone(), metrics.clone());
        add(&metrics.sessions_open, 1);
        tokio::spawn(async move {
            if politely {
                drain.closing().await
            } else {
                drain.cut().await
            }
            metrics.sessions_open.fetch_sub(1, Ordering::Relaxed);
        });
    }

    #[tokio::test]
    async fn sessions_end_at_once_and_blocks_have_a_grace() {
        let (drain, metrics) = (Arc::new(Drain::default()), Arc::new(Metrics::default()));
        session(&drain, &metrics, true);
        // Longer than any test may take: it is not waited for.
        drain.run_within(Duration::from_secs(3_600), &metrics).await;
        assert!(drain.is_closing() && get(&metrics.sessions_open) == 0);

        let drain = Arc::new(Drain::default());
        session(&drain, &metrics, false);
        let (began, grace) = (Instant::now(), Duration::from_millis(30));
        drain.run_within(grace, &metrics).await;
        assert_eq!(get(&metrics.sessions_open), 0);
        assert!(began.elapsed() >= grace, "{:?}", began.elapsed());
    }
}
