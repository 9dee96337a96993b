//! How much a node works on at once.
//!
//! # Problem
//!
//! A node that begins everything it is asked for does worse the more it is asked: transactions hold
//! their locks for longer because each gets a smaller share of the machine, so more of them meet in
//! conflicts, are wounded, and are begun again. In the end all the work is work that is thrown away.
//!
//! # Rules
//!
//! ```text
//!   statement --> room among the active? --yes--------------------> active --> done
//!                   | no                                             ^  |
//!                   v                                                |  | waits for its client,
//!                 queue, first come first served --- a place is free-'  | or has run for long:
//!                   |          |                                        v gives its place up
//!                 full:      waited too long:                          (and goes on)
//!                 53400      57P03
//! ```
//!
//! 1. At most `active_max` statements and transaction blocks are worked on; the others queue.
//! 2. The queue has `queued_max` entries; beyond that a statement is refused at once, which costs next
//!    to nothing. One that has waited for `wait_max` is refused too: its client has most likely gone,
//!    or has a deadline of its own. Nothing was done for either.
//! 3. A transaction block keeps its place from its first statement to its end, and its statements
//!    never queue: what is begun ends, and its locks go. Were a COMMIT to queue behind statements that wait
//!    for the very locks it would release, nobody would ever move. A block whose client is silent for
//!    [`THINK_MAX`] gives its place up, and takes one without asking when it speaks again.
//! 4. A statement that waits for a slow client to take its rows, or that has run for [`RUN_MAX`] (it
//!    waits for a lock, or is large), gives its place up too. So no number of slow clients, and no
//!    forgotten lock, stops everybody else.
//!
//! By 3 and 4 more than `active_max` may be under way for a while; while they are, nobody leaves the
//! queue. The number of sessions bounds them in any case.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;

/// A block whose client says nothing for so long does not count as active.
pub const THINK_MAX: Duration = Duration::from_millis(50);
/// Nor does a statement after so long.
pub const RUN_MAX: Duration = Duration::from_secs(2);

/// The bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionOptions {
    /// Statements and transaction blocks worked on at once.
    pub active_max: usize,
    /// Statements that wait for that.
    pub queued_max: usize,
    /// How long one may wait.
    pub wait_max: Duration,
}

/// Why a statement was not begun. Nothing was done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue was full.
    Full,
    /// It was in the queue for too long.
    TooLong,
}

/// The places of one node.
#[derive(Debug)]
pub struct Admission {
    options: AdmissionOptions,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    active: usize,
    refused: u64,
    next: u64,
    /// By order of arrival.
    queue: BTreeMap<u64, oneshot::Sender<()>>,
}

/// How it stands, for the node's status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmissionState {
    /// Places taken.
    pub active: u64,
    /// Statements that wait for one.
    pub queued: u64,
    /// Refused since the start.
    pub refused: u64,
}

impl Admission {
    /// With these bounds.
    pub fn new(options: AdmissionOptions) -> Admission {
        Admission { options, inner: Mutex::default() }
    }

    /// The bounds.
    pub fn options(&self) -> AdmissionOptions {
        self.options
    }

    /// How it stands.
    pub fn state(&self) -> AdmissionState {
        let inner = self.lock();
        AdmissionState { active: inner.active as u64, queued: inner.queue.len() as u64, refused: inner.refused }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no thread panics while it holds the admission")
    }

    fn give_back(&self, inner: &mut Inner) {
        assert!(inner.active > 0, "a place was given back that nobody had");
        inner.active -= 1;
        while inner.active < self.options.active_max
            && let Some((_, waiter)) = inner.queue.pop_first()
        {
            // It counts from now on. Whoever leaves the queue does so under the lock that we hold, so the
            // receiver is still there; if it is about to go away, it gives the place back (see `Queued`).
            inner.active += 1;
            let _ = waiter.send(());
        }
    }
}

/// What one session has of it: a place, or none. Gives it back when it is dropped.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    held: AtomicBool,
}

impl Place {
    /// None yet.
    pub fn new(admission: Arc<Admission>) -> Place {
        Place { admission, held: AtomicBool::new(false) }
    }

    /// Whether the session has a place.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Takes a place without asking, for what was begun before.
    pub fn take(&self) {
        if !self.held.swap(true, Ordering::AcqRel) {
            self.admission.lock().active += 1;
        }
    }

    /// Waits for a place.
    pub async fn enter(&self) -> Result<(), Refused> {
        if self.is_held() {
            return Ok(());
        }
        let (number, granted) = {
            let mut inner = self.admission.lock();
            if inner.active < self.admission.options.active_max && inner.queue.is_empty() {
                inner.active += 1;
                self.held.store(true, Ordering::Release);
                return Ok(());
            }
            if inner.queue.len() >= self.admission.options.queued_max {
                inner.refused += 1;
                return Err(Refused::Full);
            }
            let (grant, granted) = oneshot::channel();
            let number = inner.next;
            inner.next += 1;
            inner.queue.insert(number, grant);
            (number, granted)
        };
        let mut queued = Queued { place: self, number, granted };
        let _ = tokio::time::timeout(self.admission.options.wait_max, &mut queued.granted).await;
        // Settles it: a grant that crossed the deadline counts.
        drop(queued);
        if self.is_held() {
            return Ok(());
        }
        self.admission.lock().refused += 1;
        Err(Refused::TooLong)
    }

    /// Gives the place back, if there is one.
    pub fn leave(&self) {
        if self.held.swap(false, Ordering::AcqRel) {
            let mut inner = self.admission.lock();
            self.admission.give_back(&mut inner);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A session's turn in the queue. Its future may be dropped at any time: then the turn is over, and
/// a place that was granted meanwhile belongs to the session all the same, which gives it back.
struct Queued<'a> {
    place: &'a Place,
    number: u64,
    granted: oneshot::Receiver<()>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut inner = self.place.admission.lock();
        let waited = inner.queue.remove(&self.number).is_some();
        if !waited {
            // Granted: it was counted as it left the queue.
            self.place.held.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(active_max: usize, queued_max: usize, wait_ms: u64) -> Arc<Admission> {
        let wait_max = Duration::from_millis(wait_ms);
        Arc::new(Admission::new(AdmissionOptions { active_max, queued_max, wait_max }))
    }

    fn counts(admission: &Admission) -> (u64, u64, u64) {
        let state = admission.state();
        (state.active, state.queued, state.refused)
    }

    #[tokio::test]
    async fn places_go_round_in_order_and_what_is_too_much_is_refused() {
        let all = admission(1, 2, 60_000);
        let [first, second, third, fourth] = std::array::from_fn(|_| Place::new(all.clone()));
        first.enter().await.unwrap();
        first.enter().await.unwrap();
        assert_eq!(counts(&all), (1, 0, 0), "a place is taken once");
        let mut second_waits = Box::pin(second.enter());
        let mut third_waits = Box::pin(third.enter());
        assert!(futures::poll!(&mut second_waits).is_pending() && futures::poll!(&mut third_waits).is_pending());
        assert_eq!(fourth.enter().await, Err(Refused::Full));
        assert_eq!(counts(&all), (1, 2, 1));
        first.leave();
        second_waits.await.unwrap();
        assert!(futures::poll!(&mut third_waits).is_pending());
        drop(second);
        third_waits.await.unwrap();
        assert_eq!(counts(&all), (1, 0, 1));
        third.leave();
        assert_eq!(counts(&all), (0, 0, 1));
    }

    #[tokio::test]
    async fn a_wait_ends_and_whoever_goes_away_leaves_nothing_behind() {
        let all = admission(1, 9, 10);
        let [first, second, third] = std::array::from_fn(|_| Place::new(all.clone()));
        first.enter().await.unwrap();
        assert_eq!(second.enter().await, Err(Refused::TooLong));
        assert_eq!(counts(&all), (1, 0, 1));
        // Dropped while it waits.
        let mut waits = Box::pin(second.enter());
        assert!(futures::poll!(&mut waits).is_pending());
        drop(waits);
        assert_eq!(counts(&all), (1, 0, 1));
        // Dropped after the grant, before it could take note of it.
        let mut waits = Box::pin(third.enter());
        assert!(futures::poll!(&mut waits).is_pending());
        first.leave();
        drop(waits);
        assert_eq!(counts(&all), (1, 0, 1));
        assert!(third.is_held());
        drop(third);
        assert_eq!(counts(&all), (0, 0, 1));
    }

    #[tokio::test]
    async fn what_was_begun_goes_on_and_new_work_waits_for_it() {
        let all = admission(1, 9, 60_000);
        let [block, other] = std::array::from_fn(|_| Place::new(all.clone()));
        other.enter().await.unwrap();
        block.take();
        block.take();
        assert_eq!(counts(&all), (2, 0, 0));
        other.leave();
        let new = Place::new(all.clone());
        let mut waits = Box::pin(new.enter());
        assert!(futures::poll!(&mut waits).is_pending(), "the block counts");
        block.leave();
        waits.await.unwrap();
    }
}
