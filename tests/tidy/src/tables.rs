//! The tables that the rules look things up in. A change here is a change of the architecture: say why
//! in the commit.

/// Which packages of the workspace each may depend on.
pub const EDGES: &[(&str, &[&str])] = &[
    ("truetime", &[]),
    ("paxos", &["truetime"]),
    ("txn", &["truetime", "paxos"]),
    ("sql", &["truetime", "txn"]),
    ("check", &[]),
    ("proto", &[]),
    // The one binary, with the demo, lives in the server's package: it starts the shell and the workloads.
    ("server", &["truetime", "paxos", "txn", "sql", "proto", "shell"]),
    ("shell", &["check", "proto"]),
    ("sim", &["truetime", "paxos", "txn", "sql", "check"]),
    // The functions that are fuzzed: they reach into every crate that has a decoder and no RocksDB.
    ("corpus", &["truetime", "paxos", "txn", "sql", "check", "proto", "shell"]),
    ("meridian-fuzz", &["corpus"]),
    ("e2e", &["proto"]),
    ("tidy", &[]),
];

/// The crates that the simulator runs, and the judge: no clock, no I/O, no threads, no order that depends on a hash seed.
pub const PURE: &[&str] = &["truetime", "paxos", "txn", "check"];

/// What a pure crate may depend on besides the workspace. `rand` only for its traits: the caller brings
/// the generator.
pub const PURE_MAY_USE: &[&str] = &["bytes", "rand", "rand_chacha", "crc32fast", "chrono", "thiserror"];

/// What one of them may use beyond that.
pub const PURE_MAY_ALSO_USE: &[(&str, &[&str])] = &[("check", &["serde", "serde_json"])];

/// What other packages must not depend on.
pub const MUST_NOT_USE: &[(&str, &[&str], &str)] = &[
    ("sql", &["tokio", "tonic", "prost", "rocksdb"], "sql runs over the traits of txn, with any transport and store"),
    ("proto", &["rocksdb", "sqlparser"], "proto holds generated types only"),
    ("shell", &["rocksdb", "sqlparser"], "the shell is a client: it has only the wire"),
    ("sim", &["tokio", "tonic", "prost", "rocksdb", "datafusion"], "the simulator must compile in seconds"),
    ("corpus", &["rocksdb"], "the corpus is run by every `make test`, and by fuzzers that rebuild it often"),
    ("e2e", &["rocksdb"], "end-to-end tests see real processes from outside"),
];

/// Words that do not occur in the code of a pure crate.
pub const PURE_MUST_NOT_SAY: &[(&str, &str)] = &[
    ("std::time", "time is an argument"),
    ("std::fs", "return what to write in Ready"),
    ("std::net", "return what to send in Ready"),
    ("std::thread", "pure code has no threads"),
    ("SystemTime", "time is an argument"),
    ("Instant", "time is an argument"),
    ("Utc::now", "time is an argument"),
    ("Local::now", "time is an argument"),
    ("HashMap", "its order depends on a seed: use BTreeMap"),
    ("HashSet", "its order depends on a seed: use BTreeSet"),
];

/// The longest file, in lines. Beyond it, split by role.
pub const LINES_MAX: usize = 600;

/// Files that are longer all the same, with a length that may only shrink.
pub const LONG_FILES: &[(&str, usize)] = &[];

/// Test files that may sleep, and why.
pub const MAY_SLEEP: &[(&str, &str)] =
    &[("tests/e2e/src/wait.rs", "polls a condition of a real process, with a deadline")];

/// Where the server may mention wire types: one file converts, the front-ends serve them.
pub const WIRE_FILES: &[&str] =
    &["server/src/wire.rs", "server/src/wire/", "server/src/frontend.rs", "server/src/frontend/"];

/// The one folder that may mention DataFusion.
pub const DATAFUSION_FOLDER: &str = "sql/src/select/";
