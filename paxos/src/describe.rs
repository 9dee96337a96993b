//! A replica's state as text: for golden scripts, and for whoever debugs a cluster.

use std::fmt::Write as _;

use truetime::Timestamp;

use crate::replica::Role;
use crate::{Ballot, Chosen, Entry, Event, Message, Payload, Refusal, Replica};

/// Commands are shown up to this many bytes.
const COMMAND_BYTES_MAX: usize = 32;

/// A timestamp as seconds since the epoch, to the microsecond.
fn seconds(at: Timestamp) -> String {
    let us = at.as_nanos().div_euclid(1000);
    format!("{}.{:06}", us.div_euclid(1_000_000), us.rem_euclid(1_000_000))
}

/// A value, in a word or two.
pub(crate) fn payload(payload: &Payload) -> String {
    match payload {
        Payload::Noop => "noop".to_string(),
        Payload::Start => "start".to_string(),
        Payload::Command(command) => match std::str::from_utf8(command) {
            Ok(text) if text.len() <= COMMAND_BYTES_MAX && text.chars().all(|c| c.is_ascii_graphic()) => {
                text.to_string()
            }
            _ => format!("command of {} bytes", command.len()),
        },
        Payload::Config(config) => format!("config of {} voters", config.voters.len()),
    }
}

fn entry(entry: &Entry) -> String {
    let Entry { slot, ballot, origin, payload: value } = entry;
    let mut text = format!("{slot} {ballot} {}", payload(value));
    if origin != ballot {
        write!(text, " from {origin}").expect("writing to a string");
    }
    text
}

impl Replica {
    /// The whole state in lines, the same for the same state.
    pub fn dump(&self) -> String {
        let hard = &self.hard;
        let role = match &self.role {
            Role::Follower if self.is_voter() => "follower".to_string(),
            Role::Follower => "learner".to_string(),
            Role::Candidate(candidate) => candidate.describe(),
            Role::Leader(leading) => format!("{} under {}", leading.describe(), leading.ballot),
        };
        let epoch = match self.learner.epoch {
            Ballot::ZERO => "none".to_string(),
            epoch => epoch.to_string(),
        };
        let mut text = format!("{} {role}\n", self.id);
        let mut line = |what: String| writeln!(text, "  {what}").expect("writing to a string");
        let leader = self.leader.map_or("none".to_string(), |node| node.to_string());
        line(format!("promised={} chosen={} epoch={epoch} leader={leader}", hard.promised, hard.chosen));
        let vote = hard.lease.map_or("none".to_string(), |v| format!("{} until {}", v.holder, seconds(v.until)));
        let floor = hard.lease_floor.map_or("none".to_string(), seconds);
        line(format!("lease vote={vote} floor={floor}"));
        if let Role::Leader(leading) = &self.role {
            line(format!("lease end={} floor={}", seconds(leading.lease.end), seconds(leading.floor)));
            for (node, progress) in &leading.peers {
                line(format!("{node} accepted={} chosen={}", progress.accepted, progress.chosen));
            }
        }
        line(format!("log: {} entries after {}", self.log.len(), hard.truncated));
        for each in self.log.from(hard.truncated) {
            line(format!("  {}{}", entry(each), if each.slot > hard.chosen { " (open)" } else { "" }));
        }
        text
    }
}

fn slots(entries: &[Entry]) -> String {
    let each: Vec<String> = entries.iter().map(|e| format!("{}={}", e.slot, payload(&e.payload))).collect();
    format!("[{}]", each.join(" "))
}

impl std::fmt::Display for Message {
    /// One line, for traces; timestamps are left out but for those that decide something.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.name())?;
        match self {
            Message::Prepare { ballot, from, .. } => write!(f, " {ballot} from {from}"),
            Message::Willing { ballot } => write!(f, " {ballot}"),
            Message::Promise { ballot, chosen, floor, entries, .. } => {
                let floor = floor.map_or("none".to_string(), seconds);
                write!(f, " {ballot} {} chosen={chosen} floor={floor}", slots(entries))
            }
            Message::Reject { ballot, promised, reason } => match reason {
                Refusal::Promised => write!(f, " {ballot} promised {promised}"),
                Refusal::Leased(until) => write!(f, " {ballot} leased until {}", seconds(*until)),
                Refusal::Untrusted => write!(f, " {ballot} untrusted clock"),
                Refusal::Behind => write!(f, " {ballot} too far behind"),
            },
            Message::Accept { ballot, chosen, entries, .. } => {
                write!(f, " {ballot} {} chosen={chosen}", slots(entries))
            }
            Message::Accepted { ballot, chosen, lease, ranges } => {
                let ranges: Vec<String> = ranges.iter().map(|(a, b)| format!("{a}..{b}")).collect();
                let lease = if lease.is_some() { "" } else { " no lease" };
                write!(f, " {ballot} [{}] chosen={chosen}{lease}", ranges.join(" "))
            }
            Message::CatchUp { from } => write!(f, " from {from}"),
            Message::ChosenEntries { chosen, entries } => write!(f, " {} chosen={chosen}", slots(entries)),
            Message::Release { ballot, used } | Message::TimeoutNow { ballot, used } => {
                write!(f, " {ballot} used {}", seconds(*used))
            }
        }
    }
}

impl std::fmt::Display for Chosen {
    /// Slot, value and origin.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} from {}", self.slot, payload(&self.payload), self.origin)
    }
}

impl std::fmt::Display for Event {
    /// One line, for traces.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Event::Leading(l) => {
                write!(f, "leading under {} floor={} lease end={}", l.ballot, seconds(l.floor), seconds(l.lease_end))
            }
            Event::Deposed(ballot) => write!(f, "deposed from {ballot}"),
            Event::LeaderHint(Some(node)) => write!(f, "believes that {node} leads"),
            Event::LeaderHint(None) => write!(f, "knows no leader"),
            Event::NeedsSnapshot(node) => write!(f, "is asked for a snapshot for {node}"),
        }
    }
}
