//! Counters of a node since its start, and what the machine says of the process.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};

/// Adds to one counter.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// Reads one counter.
pub fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// What a node counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Syncs of the log.
    pub fsyncs: AtomicU64,
    /// Bytes written to the log.
    pub log_bytes: AtomicU64,
    /// Messages handed to peers.
    pub messages_sent: AtomicU64,
    /// Batches that carried them.
    pub batches_sent: AtomicU64,
    /// Messages given up because a peer's queue was full; their senders repeat them.
    pub messages_dropped: AtomicU64,
    /// Messages of peers that did not decode.
    pub messages_malformed: AtomicU64,
    /// Sessions that are open.
    pub sessions_open: AtomicU64,
    /// Sessions refused because there were enough.
    pub sessions_refused: AtomicU64,
    /// Connections of clients and peers that are open.
    pub connections_open: AtomicU64,
    /// Connections closed at once, or not accepted.
    pub connections_refused: AtomicU64,
    /// Bytes that wait for the log writer.
    pub log_queue_bytes: AtomicU64,
}

/// CPU time of this process so far, user plus system, in microseconds; 0 if it cannot be read.
pub fn cpu_us() -> i64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return 0 };
    let (user, system) = (usage.user_time(), usage.system_time());
    let us = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    us(user) + us(system)
}

/// Memory of this process, in bytes; 0 where `/proc` is missing.
pub fn resident_bytes() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages: u64 = text.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    let page_bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    pages.saturating_mul(page_bytes.unsigned_abs())
}
