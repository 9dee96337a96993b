//! DataFusion panics where it meets its own bugs. That is the end of one query, and not of the node.
//!
//! A panic of ours is a broken invariant, and whoever hosts the engine may want to stop at once: its hook asks
//! [`tolerates`] first. What the queries' operators run on tasks of their own (the inputs of a UNION) is outside of
//! this guard.

use std::any::Any;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use crate::SqlError;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in code whose panics are caught and answered.
pub fn tolerates() -> bool {
    INSIDE.get()
}

/// Runs something of DataFusion's; XX000 if it panics.
pub(super) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, SqlError> {
    let before = INSIDE.replace(true);
    // What a panic leaves half done is dropped with the query.
    let result = catch_unwind(AssertUnwindSafe(run));
    INSIDE.set(before);
    result.map_err(|panic| SqlError::new("XX000", format!("a query failed: {}", text(&*panic))))
}

/// The same for a future.
pub(super) async fn guarded_future<F: Future>(future: F) -> Result<F::Output, SqlError> {
    let mut future = pin!(future);
    poll_fn(|context| match guarded(|| future.as_mut().poll(context)) {
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(err) => Poll::Ready(Err(err)),
    })
    .await
}

fn text(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_string(),
        (_, Some(text)) => text.clone(),
        _ => "a panic".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_guard_ends_with_it() {
        let err = guarded(|| -> () { panic!("a bug of number {}", 7) }).unwrap_err();
        assert_eq!((err.sqlstate, err.message.as_str()), ("XX000", "a query failed: a bug of number 7"));
        assert!(!tolerates());
        assert!(guarded(tolerates).unwrap());
    }
}
