//! What is fuzzed: for every reader of bytes or text that a peer, a client or a disk can choose, a
//! function that is given anything and must not panic, with inputs to begin with.
//!
//! ```text
//!   cargo fuzz (nightly) --bytes--> target functions <--bytes-- cargo test: seeds, corpus, mutations
//! ```
//!
//! What each checks beside: whatever decodes is encoded and decoded to the same again, and text that
//! was written is read as what it was. Memory is bounded by the fuzzer: it stops at an allocation
//! that is out of all proportion to the input. `fuzz/README.md` says how to run it.

pub mod history;
pub mod seeds;
pub mod sql;
pub mod storage;
pub mod text;
pub mod wire;

/// Something to fuzz.
pub struct Target {
    /// As in `fuzz/fuzz_targets` and `fuzz/corpus`.
    pub name: &'static str,
    /// Takes any bytes; panics if a promise is broken.
    pub run: fn(&[u8]),
    /// Real inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "paxos_message", run: wire::paxos_message, seeds: seeds::paxos_message },
    Target { name: "paxos_stored", run: storage::paxos_stored, seeds: seeds::paxos_stored },
    Target { name: "txn_message", run: wire::txn_message, seeds: seeds::txn_message },
    Target { name: "txn_command", run: storage::txn_command, seeds: seeds::txn_command },
    Target { name: "txn_meta", run: storage::txn_meta, seeds: seeds::txn_meta },
    Target { name: "txn_store", run: storage::txn_store, seeds: seeds::txn_store },
    Target { name: "sql_parse", run: sql::parse, seeds: seeds::sql_text },
    Target { name: "sql_plan", run: sql::plan, seeds: seeds::sql_text },
    Target { name: "sql_row", run: sql::row, seeds: seeds::sql_row },
    Target { name: "sql_catalog", run: sql::catalog, seeds: seeds::sql_catalog },
    Target { name: "wire", run: wire::wire, seeds: seeds::wire },
    Target { name: "specs", run: text::specs, seeds: seeds::specs },
    Target { name: "shell_lexer", run: text::lexer, seeds: seeds::shell_lexer },
    Target { name: "history_lines", run: history::lines, seeds: seeds::history_lines },
    Target { name: "history_judge", run: history::judge, seeds: seeds::history_judge },
];

/// Whatever decodes is encoded and decoded to the same again; the encoding is then stable.
pub(crate) fn stable<T: PartialEq + std::fmt::Debug, E: std::fmt::Debug>(
    data: &[u8],
    decode: impl Fn(bytes::Bytes) -> Result<T, E>,
    encode: impl Fn(&T) -> bytes::Bytes,
) -> Option<T> {
    let value = decode(bytes::Bytes::copy_from_slice(data)).ok()?;
    let encoded = encode(&value);
    let again = decode(encoded.clone()).expect("what was encoded decodes");
    assert_eq!(value, again, "decoded otherwise the second time");
    assert_eq!(encode(&again), encoded, "encoded otherwise the second time");
    Some(value)
}

/// Splits bytes at the first `at`; the second part is empty without one.
pub(crate) fn split(data: &[u8], at: u8) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == at) {
        Some(position) => (&data[..position], &data[position + 1..]),
        None => (data, &[]),
    }
}
