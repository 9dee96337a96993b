//! The thread that makes log writes durable: one fsync for everything that is waiting.
//!
//! While one sync runs, the writes of further steps queue up; the next one takes them all. So the
//! more there is to do, the more each sync serves (group commit over all groups of the node).
//!
//! A failure ends the process. After a failed sync nobody knows what is on the disk, and a second
//! try may report success for pages that the kernel has already dropped (I14).

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use paxos::{GroupId, Payload, Write};

use crate::injected::Injected;
use crate::metrics::{Metrics, add};
use crate::storage::LogStore;

/// The writes of one step.
pub struct Append {
    /// Its number.
    pub persist: u64,
    /// In order.
    pub writes: Vec<(GroupId, Write)>,
    /// Whether something waits for it.
    pub sync: bool,
}

/// Steps whose writes go into one batch at most.
const STEPS_MAX: usize = 4096;
/// A batch ends with the step that reaches this size.
const BATCH_BYTES: usize = 8 << 20;
/// Bytes that may wait for the disk; then [`LogWriter::append`] does.
pub const LOG_QUEUE_BYTES_MAX: usize = 128 << 20;
/// What a write costs besides its entry.
const WRITE_BYTES: usize = 64;
/// A wait for the disk is logged after so long.
const SLOW: Duration = Duration::from_secs(1);

/// The bytes on their way to the disk.
#[derive(Default)]
struct Room {
    bytes: Mutex<usize>,
    freed: Condvar,
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.bytes.lock().expect("no thread panics while it counts bytes")
    }
}

/// Hands writes to the thread. When it is dropped, the thread finishes what is queued and ends.
pub struct LogWriter {
    queue: Sender<(Append, usize)>,
    room: Arc<Room>,
    metrics: Arc<Metrics>,
    thread: JoinHandle<()>,
}

impl LogWriter {
    /// Starts the thread. `durable` is called with the number of a step once it and all before it
    /// are durable; it must not wait for whoever calls [`LogWriter::append`]. A sync takes longer by what is
    /// `injected`.
    pub fn start(
        store: LogStore,
        metrics: Arc<Metrics>,
        injected: Arc<Injected>,
        durable: impl Fn(u64) + Send + 'static,
    ) -> std::io::Result<LogWriter> {
        let (queue, receiver) = channel();
        let room = Arc::new(Room::default());
        let (counted, shared) = (metrics.clone(), room.clone());
        let body = move || run(&store, &receiver, &shared, &counted, &injected, durable);
        let thread = std::thread::Builder::new().name("log-writer".into()).spawn(body)?;
        Ok(LogWriter { queue, room, metrics, thread })
    }

    /// Queues writes. Waits while there are [`LOG_QUEUE_BYTES_MAX`] before them.
    pub fn append(&self, append: Append) {
        let bytes = append.writes.iter().map(|(_, write)| size_bytes(write)).sum();
        let mut queued = self.room.lock();
        if *queued > LOG_QUEUE_BYTES_MAX {
            let began = Instant::now();
            queued = self.room.freed.wait_while(queued, |queued| *queued > LOG_QUEUE_BYTES_MAX).expect("as above");
            let waited = began.elapsed();
            if waited > SLOW {
                tracing::warn!("the disk of the log is slow: the node waited for {waited:.1?}");
            }
        }
        *queued += bytes;
        self.metrics.log_queue_bytes.store(*queued as u64, Ordering::Relaxed);
        drop(queued);
        // The thread only ends before us by ending the process.
        let _ = self.queue.send((append, bytes));
    }

    /// Waits until everything queued is written.
    pub fn finish(self) {
        drop(self.queue);
        let _ = self.thread.join();
    }
}

fn size_bytes(write: &Write) -> usize {
    WRITE_BYTES
        + match write {
            Write::Entry(entry) => match &entry.payload {
                Payload::Command(command) => command.len(),
                _ => 0,
            },
            _ => 0,
        }
}

fn run(
    store: &LogStore,
    queue: &Receiver<(Append, usize)>,
    room: &Room,
    metrics: &Metrics,
    injected: &Injected,
    durable: impl Fn(u64),
) {
    let mut batch: Vec<Append> = Vec::new();
    // Written, but not synced yet.
    let mut unsynced = false;
    while let Ok((first, mut batch_bytes)) = queue.recv() {
        batch.push(first);
        while batch.len() < STEPS_MAX
            && batch_bytes < BATCH_BYTES
            && let Ok((next, bytes)) = queue.try_recv()
        {
            batch.push(next);
            batch_bytes += bytes;
        }
        let sync = batch.iter().any(|append| append.sync);
        let persist = batch.last().expect("it holds at least one").persist;
        match store.append(batch.iter().flat_map(|append| &append.writes), sync) {
            Ok(bytes) => {
                add(&metrics.log_bytes, bytes as u64);
                unsynced = !sync;
                if sync {
                    // As if the disk had taken so much longer: nothing is promised before.
                    let delay = injected.fsync_delay();
                    if !delay.is_zero() {
                        std::thread::sleep(delay);
                    }
                    add(&metrics.fsyncs, 1);
                    durable(persist);
                }
            }
            Err(err) => crate::fatal(&err.to_string()),
        }
        batch.clear();
        let mut queued = room.lock();
        *queued -= batch_bytes;
        metrics.log_queue_bytes.store(*queued as u64, Ordering::Relaxed);
        drop(queued);
        room.freed.notify_all();
    }
    if unsynced && let Err(err) = store.append(std::iter::empty(), true) {
        crate::fatal(&err.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::get;
    use paxos::{HardState, Slot};

    #[test]
    fn queued_steps_share_syncs_and_unsynced_ones_ride_along() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::default());
        let (report, reports) = channel();
        let store = LogStore::open(folder.path()).unwrap();
        let writer =
            LogWriter::start(store, metrics.clone(), Arc::default(), move |n| report.send(n).unwrap()).unwrap();
        for n in 1..=100u64 {
            let hard = HardState { chosen: Slot(n), ..HardState::default() };
            let writes = vec![(GroupId(1), Write::HardState(hard))];
            writer.append(Append { persist: n, writes, sync: n % 10 == 0 });
        }
        writer.finish();
        let reports: Vec<u64> = reports.iter().collect();
        assert!(reports.is_sorted() && reports.last() == Some(&100), "{reports:?}");
        assert_eq!(get(&metrics.fsyncs), reports.len() as u64);
        assert!(get(&metrics.fsyncs) <= 10);
        let logs = LogStore::open(folder.path()).unwrap().load().unwrap();
        assert_eq!(logs[&GroupId(1)].hard.chosen, Slot(100));
    }
}
