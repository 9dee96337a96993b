//! What happened: a hash of all of it, and the last of it in words.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use paxos::{NodeId, Write};
use txn::NodeMessage;

use crate::clock::truth;

/// How many events a failure prints.
const KEPT: usize = 200;

/// How many lines a story has at most: the last ones.
const STORY_MAX: usize = 400;

/// One thing that happened, put into words only when someone wants to read it.
#[derive(Clone, Debug)]
pub enum Happened {
    /// A message was sent.
    Sent(NodeId, NodeId, Bytes),
    /// A message arrived.
    Arrived(NodeId, NodeId, Bytes),
    /// A message of a node to itself: its gateway and its groups.
    Local(NodeId, Bytes),
    /// A batch of the log was written.
    Wrote(NodeId, u64, Vec<(paxos::GroupId, Write)>),
    /// A batch of the log, and all before it, is durable.
    Synced(NodeId, u64),
    /// A node's own remark.
    Note(NodeId, String),
    /// Anything else.
    Other(String),
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = |bytes: &Bytes| match NodeMessage::decode(bytes.clone()) {
            Ok(message) => format!("{message:?}"),
            Err(e) => e.to_string(),
        };
        match self {
            Happened::Sent(from, to, bytes) => write!(f, "{from} -> {to} sent    {}", message(bytes)),
            Happened::Arrived(from, to, bytes) => write!(f, "{from} -> {to} arrived {}", message(bytes)),
            Happened::Local(node, bytes) => write!(f, "{node} local {}", message(bytes)),
            Happened::Wrote(node, persist, writes) => write!(f, "{node} writes #{persist} {writes:?}"),
            Happened::Synced(node, persist) => write!(f, "{node} synced #{persist}"),
            Happened::Note(node, text) => write!(f, "{node} notes: {text}"),
            Happened::Other(text) => f.write_str(text),
        }
    }
}

/// The trace of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    last: VecDeque<(i64, Happened)>,
    /// Print everything as it happens.
    verbose: bool,
    /// A story is told of whatever has one of these in its words; none if there are none.
    focus: Vec<String>,
    story: VecDeque<String>,
    /// How many events there were.
    pub events: u64,
}

impl Trace {
    /// Of nothing yet.
    pub fn new(verbose: bool) -> Trace {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            last: VecDeque::new(),
            verbose,
            focus: Vec::new(),
            story: VecDeque::new(),
            events: 0,
        }
    }

    /// A story is wanted of these.
    pub fn focus(&mut self, focus: Vec<String>) {
        self.focus = focus;
    }

    /// The story so far.
    pub fn story(&self) -> Vec<String> {
        self.story.iter().cloned().collect()
    }

    /// Adds what belongs to the story: what happens to processes and leaders, and what is in focus.
    fn tell(&mut self, now: i64, what: &Happened) {
        let telling = match what {
            Happened::Note(..) => true,
            Happened::Other(text) => !text.starts_with("client"),
            _ => false,
        };
        let text = match what {
            Happened::Wrote(..) | Happened::Synced(..) => return,
            what => line(now, what),
        };
        if telling || self.focus.iter().any(|name| text.contains(name)) {
            if self.story.len() == STORY_MAX {
                self.story.pop_front();
            }
            self.story.push_back(text.chars().take(300).collect());
        }
    }

    /// Something happened.
    pub fn record(&mut self, now: i64, what: Happened) {
        self.events += 1;
        self.mix(now as u64);
        match &what {
            Happened::Sent(from, to, bytes) => self.mix_all(1, from.0, to.0, bytes),
            Happened::Arrived(from, to, bytes) => self.mix_all(2, from.0, to.0, bytes),
            Happened::Local(node, bytes) => self.mix_all(3, node.0, 0, bytes),
            Happened::Wrote(node, persist, writes) => self.mix_all(4, node.0, *persist, &[writes.len() as u8]),
            Happened::Synced(node, persist) => self.mix_all(5, node.0, *persist, &[]),
            Happened::Note(node, text) => self.mix_all(6, node.0, 0, text.as_bytes()),
            Happened::Other(text) => self.mix_all(7, 0, 0, text.as_bytes()),
        }
        if self.verbose {
            print_line(&line(now, &what));
        }
        if !self.focus.is_empty() {
            self.tell(now, &what);
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back((now, what));
    }

    fn mix_all(&mut self, kind: u64, a: u64, b: u64, bytes: &[u8]) {
        self.mix(kind);
        self.mix(a);
        self.mix(b);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last events in words.
    pub fn last(&self) -> Vec<String> {
        self.last.iter().map(|(at, what)| line(*at, what)).collect()
    }
}

fn line(now: i64, what: &Happened) -> String {
    let mut text = format!("{:>14.6} ms  {what}", now as f64 / 1e6);
    // A snapshot chunk or a batch of entries would hide everything else.
    if text.len() > 1_200 {
        let cut = (0..=1_200).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(cut);
        text.push_str(" ..");
    }
    text
}

#[allow(clippy::print_stdout)] // `--verbose` is for people who pipe it into a pager
fn print_line(text: &str) {
    println!("{text}");
}

/// True time for people: the milliseconds since the start that every line shows.
pub fn ms_of(ts: truetime::Timestamp) -> String {
    format!("{:.6} ms", ts.since_ns(truth(0)) as f64 / 1e6)
}
