//! Runs the golden scripts in `testscripts/mvcc/` and `testscripts/gc/`.
//!
//! Timestamps are small numbers. A span is a key, `a..c`, `a..`, `"..c"` or `all`.
//!
//! ```text
//! put TS K=V ...       delete TS K ...      fill K FROM TO     versions of K at FROM, FROM+1, ..., TO
//! get K at=TS          newest K
//! read SPAN at=TS [reverse=yes] [limit=N] [bytes=N]            also prints what the store had to do
//! sweep SPAN line=TS [versions=N] [from=K]
//! hash line=TS         whether the hash differs from the one before
//! versions
//! ```

use std::cell::RefCell;
use std::error::Error;
use std::fmt::Write as _;

use goldenscript::Command;

use super::*;
use crate::checksum::{Hasher64, hash_chunk};
use crate::gc::sweep;
use crate::keyspace::decode_version_key;
use crate::testing::MemoryStore;

type Outcome<T> = std::result::Result<T, Box<dyn Error>>;

/// What a store was made to do, beyond visiting keys.
#[derive(Default)]
struct Work {
    scans: u32,
    visits: u32,
    seeks: u32,
}

/// A store that counts.
struct Counting<'a> {
    store: &'a MemoryStore,
    work: RefCell<Work>,
}

impl Storage for Counting<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.store.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], reverse: bool, visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        self.work.borrow_mut().scans += 1;
        self.store.scan(from, to, reverse, &mut |key, value| {
            self.work.borrow_mut().visits += 1;
            let then = visit(key, value);
            self.work.borrow_mut().seeks += u32::from(matches!(then, Visit::Seek(_)));
            then
        })
    }

    fn write(&mut self, _: Batch) -> Result<()> {
        Err(StorageError("only for reading".into()))
    }
}

#[derive(Default)]
struct World {
    store: MemoryStore,
    hash: Option<u64>,
}

fn parse_ts(text: &str) -> Outcome<Timestamp> {
    Ok(Timestamp::from_nanos(text.parse()?))
}

fn parse_key(text: &str) -> Key {
    text.as_bytes().to_vec().into()
}

fn parse_span(text: &str) -> Span {
    match text.split_once("..") {
        None if text == "all" => Span::all(),
        Some((start, end)) => Span::new(parse_key(start), parse_key(end)),
        None => Span::point(parse_key(text)),
    }
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\\0")
}

fn show_version(raw: &[u8]) -> String {
    let (key, ts) = decode_version_key(raw).expect("a version's key");
    format!("{}@{}", show(&key), ts.as_nanos())
}

impl World {
    fn write(&mut self, writes: &[Mutation], ts: Timestamp) -> Outcome<()> {
        let mut batch = Batch::default();
        put_versions(&mut batch, writes, ts);
        Ok(self.store.write(batch)?)
    }

    fn read(&self, op: &ReadOp, at: Timestamp, mut bytes: usize) -> Outcome<String> {
        let store = Counting { store: &self.store, work: RefCell::default() };
        let mut newest = Timestamp::MIN;
        let result = read(&store, op, at, &mut bytes, &mut newest)?;
        let mut out = String::new();
        for row in &result.rows {
            writeln!(out, "{}={} @{}", show(&row.key), show(&row.value), row.commit_ts.as_nanos())?;
        }
        if let Some(rest) = result.resume {
            writeln!(out, "rest: {}..{}", show(&rest.start), show(&rest.end))?;
        }
        if newest > Timestamp::MIN {
            writeln!(out, "newest: {}", newest.as_nanos())?;
        }
        let Work { scans, visits, seeks } = store.work.into_inner();
        writeln!(out, "work: {scans} scans, {visits} visits, {seeks} seeks")?;
        Ok(out)
    }

    fn sweep(&mut self, span: &Span, line: Timestamp, from: Option<Key>, versions_max: usize) -> Outcome<String> {
        let (batch, next) = sweep(&self.store, span, line, from, versions_max)?;
        let mut out = String::new();
        for op in &batch.ops {
            let crate::storage::Op::Delete(raw) = op else { return Err("a sweep only deletes".into()) };
            writeln!(out, "dropped {}", show_version(raw))?;
        }
        if let Some(next) = next {
            writeln!(out, "next: {}", show(&next))?;
        }
        self.store.write(batch)?;
        Ok(out)
    }

    fn versions(&self) -> Outcome<String> {
        let (from, to) = version_span(&Span::all());
        let mut out = String::new();
        self.store.scan(&from, &to, false, &mut |raw, bytes| {
            let value = if is_tombstone(bytes) { " deleted".into() } else { format!("={}", show(&bytes[1..])) };
            writeln!(out, "{}{value}", show_version(raw)).expect("a string takes it");
            Visit::Next
        })?;
        Ok(out)
    }
}

impl goldenscript::Runner for World {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Outcome<String> {
        let mut args = command.consume_args();
        let mut out = String::new();
        match command.name.as_str() {
            "put" => {
                let ts = parse_ts(args.next_pos().ok_or("when?")?)?;
                let mut writes = Vec::new();
                while let Some((key, value)) = args.next_key() {
                    writes.push(Mutation { key: parse_key(key), value: Some(parse_key(value)) });
                }
                self.write(&writes, ts)?;
            }
            "delete" => {
                let ts = parse_ts(args.next_pos().ok_or("when?")?)?;
                let mut writes = Vec::new();
                while let Some(key) = args.next_pos() {
                    writes.push(Mutation { key: parse_key(key), value: None });
                }
                self.write(&writes, ts)?;
            }
            "fill" => {
                let key = parse_key(args.next_pos().ok_or("which key?")?);
                let from: i64 = args.next_pos().ok_or("from when?")?.parse()?;
                let to: i64 = args.next_pos().ok_or("to when?")?.parse()?;
                for ts in from..=to {
                    let value = Some(parse_key(&ts.to_string()));
                    self.write(&[Mutation { key: key.clone(), value }], Timestamp::from_nanos(ts))?;
                }
            }
            "get" => {
                let key = parse_key(args.next_pos().ok_or("which key?")?);
                out = match get(&self.store, &key, parse_ts(args.take_key("at").ok_or("when?")?)?)? {
                    None => "nothing\n".into(),
                    Some((ts, None)) => format!("deleted @{}\n", ts.as_nanos()),
                    Some((ts, Some(value))) => format!("{} @{}\n", show(&value), ts.as_nanos()),
                };
            }
            "newest" => {
                let newest = newest_version(&self.store, &parse_key(args.next_pos().ok_or("which key?")?))?;
                out = newest.map_or("none\n".into(), |ts| format!("{}\n", ts.as_nanos()));
            }
            "read" => {
                let span = parse_span(args.next_pos().ok_or("which span?")?);
                let at = parse_ts(args.take_key("at").ok_or("when?")?)?;
                let reverse = args.take_key("reverse").is_some();
                let limit = args.take_key("limit").map_or(Ok(0), str::parse)?;
                let bytes = args.take_key("bytes").map_or(Ok(usize::MAX), str::parse)?;
                out = self.read(&ReadOp { span, reverse, limit }, at, bytes)?;
            }
            "sweep" => {
                let span = parse_span(args.next_pos().ok_or("which span?")?);
                let line = parse_ts(args.take_key("line").ok_or("up to when?")?)?;
                let versions_max = args.take_key("versions").map_or(Ok(usize::MAX), str::parse)?;
                out = self.sweep(&span, line, args.take_key("from").map(parse_key), versions_max)?;
            }
            "hash" => {
                let line = parse_ts(args.take_key("line").ok_or("at which line?")?)?;
                let mut hasher = Hasher64::new();
                hash_chunk(&self.store, &Span::all(), line, None, usize::MAX, &mut hasher)?;
                let hash = hasher.finish();
                let before = self.hash.replace(hash);
                let said = before.map_or("first", |before| if before == hash { "the same" } else { "another" });
                out = format!("{said}\n");
            }
            "versions" => out = self.versions()?,
            other => return Err(format!("unknown command {other}").into()),
        }
        args.reject_next()?;
        Ok(out)
    }
}

#[test]
fn golden_scripts() {
    for topic in ["mvcc", "gc"] {
        let root = std::path::Path::new("testscripts").join(topic);
        let mut scripts: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
        scripts.sort();
        assert!(!scripts.is_empty(), "no scripts under {}", root.display());
        for path in scripts {
            eprintln!("running {}", path.display());
            goldenscript::run(&mut World::default(), &path).unwrap();
        }
    }
}
