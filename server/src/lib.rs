//! The server: all IO of Meridian. RocksDB, sockets, threads and timers around the pure crates.
//!
//! ```text
//!   client --gRPC--> frontend --> sql::Session --> gateway --------------.
//!                                                    | requests          | replies
//!                                                    v                   |
//!   peer <--batches--> transport --messages--> engine: Node::step --> NodeReady
//!                                                    |          ^
//!                                                    v writes   | durable
//!                                                 log_writer: one fsync for all groups
//! ```
//!
//! One thread runs the engine, one writes the log, one flushes the state; everything else is tasks
//! on two runtime threads.

pub mod clock;
pub mod config;
pub mod demo;
pub mod engine;
pub mod frontend;
pub mod gateway;
pub mod incoming;
pub mod injected;
pub mod limits;
pub mod log_writer;
pub mod metrics;
pub mod run;
pub mod storage;
pub mod transport;
pub mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// This version, as clients and peers see it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Ends the process at once: the disk failed, or an invariant of it is broken. Nothing is flushed or
/// handed over; what was promised is in the log (I14).
pub fn fatal(why: &str) -> ! {
    // One failed disk is met by several threads: the first says why, and nobody goes on.
    static SAID: AtomicBool = AtomicBool::new(false);
    if SAID.swap(true, Ordering::SeqCst) {
        loop {
            std::thread::park();
        }
    }
    tracing::error!("the node stops: {why}");
    end_process(1)
}

/// How long the process may take to end once nothing more is to be done.
const END_MAX: Duration = Duration::from_secs(1);

/// Ends the process with this exit code, and by force if that takes long: at exit RocksDB waits for its threads,
/// one of which may be deep in a compaction, or wait for the very disk that has failed. Meanwhile all others would
/// go on, and a node that has to stop would not.
pub fn end_process(code: i32) -> ! {
    let by_force = || {
        std::thread::sleep(END_MAX);
        let _ = kill(Pid::this(), Signal::SIGKILL);
    };
    if std::thread::Builder::new().name("end".into()).spawn(by_force).is_err() {
        // No threads left, and nobody to see to it: at once.
        let _ = kill(Pid::this(), Signal::SIGKILL);
    }
    std::process::exit(code)
}
