//! Every bound between a client's socket and the disk, and the budget of open files.
//!
//! # The bounds
//!
//! Whatever a client, a peer or a slow disk makes a node keep has a bound, and each bound has a name.
//! What is refused is refused with nothing done, so it may be tried again.
//!
//! | what | bound | setting or name | when it is full |
//! | --- | --- | --- | --- |
//! | connections | by the limit of open files | `ulimit -n`, [`FileBudget::connections_max`] | closed at once, logged |
//! | sessions | 4096, and by the limit of open files | `--sessions-max` | 53300 |
//! | streams of a connection | 1024 | `STREAMS_PER_CONNECTION_MAX` | HTTP/2 holds the client back |
//! | a message of a client | 64 MiB | `MESSAGE_BYTES_MAX` | the stream ends: `OUT_OF_RANGE` |
//! | requests of a session | 1 at work, the next ones in the socket | HTTP/2 window, 8 MiB | TCP holds the client back |
//! | the text of statements | 16 MiB, 10,000 statements | `SQL_BYTES_MAX`, `STATEMENTS_MAX` | 54000 |
//! | prepared statements of a session | 4096, and 16 MiB of text | `PREPARED_MAX`, `PREPARED_BYTES_MAX` | 53400 |
//! | plans kept by a node | 1024, of texts up to 8 KiB | `PLANS_MAX` | the oldest go |
//! | statements and blocks at work | 256 | `--active-max` | they queue, see `gateway::admission` |
//! | statements that queue for that | 2048, 10 s | `--queue-max`, `--queue-wait` | 53400; 57P03 after the wait |
//! | requests and buffered writes of all sessions | 1 GiB | `--session-memory-max` | 53200 |
//! | writes of a transaction | 64 MiB; key 8 KiB, value 10 MiB | `TXN_BYTES_MAX` and its like | 54000 |
//! | what a statement sorts, groups or keeps | 64 MiB | `WORK_BYTES_MAX`, `RESULT_BYTES_MAX` | 53200; 54000 |
//! | what all queries on DataFusion hold | 256 MiB, then the disk | `--query-memory-max` | spilled; 53200 |
//! | their spilled files | 64 GiB, emptied at the start | `SPILL_BYTES_MAX` | 53200 |
//! | a page of a read | 1 MiB from a group, 4 MiB in all | `READ_BYTES_MAX`, `page_bytes_max` | the next page is asked for |
//! | rows on their way to a client | 2 MiB (a larger row goes alone) | `KIB_QUEUED_MAX` | the statement waits for its client |
//! | what waits for the engine | 16,384 events; 128 MiB from peers | `EVENTS_QUEUED_MAX`, `EVENTS_BYTES_MAX` | gateways try again, peers' streams wait |
//! | requests of a group that wait for locks or safe time | 16,384 | `waiting_requests_max` | the gateway tries again, then 57P03 |
//! | proposals of a group in flight | 2048 records; 4096 slots, 64 MiB | `PROPOSALS_MAX`, `inflight_slots_max`, `QUEUE_BYTES_MAX` | commits wait in their transactions |
//! | log writes that wait for the disk | 128 MiB | `LOG_QUEUE_BYTES_MAX` | the engine waits, and with it everything above |
//! | messages for a peer | 64 MiB and one more; 256 KiB while it is away | `QUEUE_BYTES_MAX` of the link | dropped: senders repeat them |
//! | a batch of a peer | 80 MiB | `BATCH_BYTES_MAX` | the stream ends, and begins anew |
//! | a snapshot on its way to a peer | one chunk of 512 KiB, acknowledged | `CHUNK_BYTES` | the sender waits |
//! | the log in memory, by group | 1000 slots below the applied one, 64 MiB | `KEEP_SLOTS`, `KEEP_BYTES_MAX` | laggards get a snapshot |
//! | the state store | 128 MiB of cache, 4 memtables of 64 MiB | `StateOptions` | writes wait for a flush |
//! | the log store | memtables of 64 MiB, 256 MiB of WAL | `WAL_BYTES_MAX` | RocksDB flushes the oldest |
//!
//! # Open files
//!
//! A process that runs out of them cannot open the next file of its stores either, and a store that
//! cannot write stops the node (I14). So the files of the stores come first: the limit is divided at the
//! start, and clients get what is left. When accepting fails all the same, the node pauses and tries
//! again, where its HTTP/2 library would stop accepting for ever.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Sockets to and from peers, RocksDB's logs and manifests, pipes, the runtime's own.
const FILES_OTHER: u64 = 96;
/// Open table files of the log store at least and at most: its data live shortly.
const FILES_LOG: u64 = 64;
/// Open table files of the state store.
const FILES_STATE: std::ops::RangeInclusive<u64> = 64..=8192;
/// Connections beyond the sessions, so that a client that is one too many can be told so, and peers
/// and administrators still get in.
const CONNECTIONS_SPARE: u64 = 32;
/// The fewest sessions that a node is worth starting for.
const SESSIONS_MIN: u64 = 32;
/// The smallest limit of open files.
pub const FILES_MIN: u64 = FILES_OTHER + FILES_LOG + *FILES_STATE.start() + CONNECTIONS_SPARE + SESSIONS_MIN;

/// How the limit of open files is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileBudget {
    /// The limit.
    pub limit: u64,
    /// Open table files of the log store.
    pub log: i32,
    /// Open table files of the state store.
    pub state: i32,
    /// Connections of clients and peers, before new ones are closed.
    pub connections_max: u64,
    /// Sessions.
    pub sessions_max: u64,
}

impl FileBudget {
    /// Divides a limit, with so many sessions wanted. Fails if it is too low.
    pub fn divide(limit: u64, sessions_wanted: u64) -> Result<FileBudget, String> {
        if limit < FILES_MIN {
            return Err(format!(
                "a node needs at least {FILES_MIN} open files, and the limit is {limit}: raise it with `ulimit -n`, or \
                 LimitNOFILE= of the service"
            ));
        }
        let left = limit - FILES_OTHER - FILES_LOG;
        // Sessions get half; what they do not need is for the store.
        let connections =
            (left / 2).min(sessions_wanted.saturating_add(CONNECTIONS_SPARE)).max(left - FILES_STATE.end().min(&left));
        let state = (left - connections).clamp(*FILES_STATE.start(), *FILES_STATE.end());
        let connections_max = left - state;
        Ok(FileBudget {
            limit,
            log: FILES_LOG as i32,
            state: state as i32,
            connections_max,
            sessions_max: sessions_wanted.min(connections_max - CONNECTIONS_SPARE),
        })
    }

    /// Raises the process's limit as far as it may, and divides it.
    pub fn of_process(sessions_wanted: u64) -> Result<FileBudget, String> {
        let resource = Resource::RLIMIT_NOFILE;
        let (soft, hard) = getrlimit(resource).map_err(|err| format!("the limit of open files is not known: {err}"))?;
        let raised = soft < hard && setrlimit(resource, hard, hard).is_ok();
        FileBudget::divide(if raised { hard } else { soft }, sessions_wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_divided_so_that_nobody_gets_more_than_there_is() {
        for limit in (FILES_MIN..3000).chain([10_000, 1_000_000, u64::MAX]) {
            for wanted in [1, 32, 100, 4096, u64::MAX] {
                let budget = FileBudget::divide(limit, wanted).unwrap();
                let used = FILES_OTHER + budget.log as u64 + budget.state as u64;
                assert_eq!(used + budget.connections_max, limit, "{budget:?}");
                assert!(FILES_STATE.contains(&(budget.state as u64)), "{budget:?}");
                assert!(budget.sessions_max + CONNECTIONS_SPARE <= budget.connections_max, "{budget:?}");
                assert!(budget.sessions_max >= wanted.min(SESSIONS_MIN), "{budget:?}");
            }
        }
        assert_eq!(FileBudget::divide(20_000, 4096).unwrap().sessions_max, 4096);
        assert_eq!(FileBudget::divide(1024, 4096).unwrap().sessions_max, 400);
        let why = FileBudget::divide(FILES_MIN - 1, 1).unwrap_err();
        assert!(why.contains(&FILES_MIN.to_string()) && why.contains("ulimit -n"), "{why}");
    }
}
