//! Meta-commands that hurt the nodes of a demo's cluster, from any shell on its machine.

use std::time::Duration;

use proto::v1::fault_request::Fault;
use proto::v1::{ProcessAction, Type};

use super::super::{Flow, Shell};
use crate::format::{self, int_value, null, text_value};
use crate::nemesis::control::{self, Control};
use crate::nemesis::cuts::{self, Cuts};
use crate::units::{human, parse_duration};

/// What [`Shell::hurt`] does.
pub const NAMES: &[&str] = &[
    "\\kill",
    "\\stop",
    "\\restart",
    "\\pause",
    "\\resume",
    "\\partition",
    "\\skew",
    "\\slow",
    "\\slow-disk",
    "\\disconnect",
    "\\heal",
];

/// What may follow a command instead of a number.
pub const WORDS: &[(&str, &[&str])] = &[
    ("\\kill", &["all"]),
    ("\\stop", &["all"]),
    ("\\restart", &["all"]),
    ("\\pause", &["all"]),
    ("\\resume", &["all"]),
    ("\\disconnect", &["all"]),
    ("\\partition", &["bridge", "off", "ring"]),
    ("\\skew", &["drift=", "off", "offset=", "step="]),
    ("\\slow", &["off"]),
    ("\\slow-disk", &["off"]),
    ("\\heal", &["net"]),
];

/// Of `\slow` without a duration.
const DELAY_DEFAULT: Duration = Duration::from_millis(50);

/// A fault that the user asks for; `None`: the words make no sense.
type Asked = Result<Option<(Vec<u64>, Fault)>, String>;

impl Shell {
    fn control(&self) -> Result<Control, String> {
        Control::at(self.client.faults_at())
    }

    /// One of [`NAMES`].
    pub(super) async fn hurt(&mut self, name: &str, words: &[String]) -> Flow {
        let words: Vec<&str> = words.iter().map(|word| word.trim_end_matches(';')).filter(|w| !w.is_empty()).collect();
        let control = match self.control() {
            Ok(control) => control,
            Err(why) => return self.complain(&format!("{name}: {why}")),
        };
        let known = match control.describe().await {
            Ok(state) => state.nodes.iter().map(|node| node.node).collect::<Vec<_>>(),
            Err(why) => return self.complain(&why),
        };
        let done = match asked(name, &words, &known) {
            Ok(Some((nodes, fault))) => control.inject(&nodes, fault).await,
            Ok(None) => return self.usage(name),
            Err(why) => Err(why),
        };
        match done {
            Ok(said) => {
                self.err.line(said);
                Flow::Done
            }
            Err(why) => self.complain(&why),
        }
    }

    /// `\faults`
    pub(super) async fn faults(&mut self) -> Flow {
        let state = match self.state("\\faults").await {
            Ok(state) => state,
            Err(flow) => return flow,
        };
        if state.faults.is_empty() && !self.form().is_for_programs() {
            self.out.line("no faults");
            return Flow::Done;
        }
        let columns = [("fault", Type::Text), ("nodes", Type::Text), ("for", Type::Text), ("particulars", Type::Text)];
        let row = |fault: proto::v1::ActiveFault| {
            let nodes: Vec<String> = fault.nodes.iter().map(u64::to_string).collect();
            let time = human(Duration::from_millis(fault.for_ms.max(0).unsigned_abs()));
            vec![text_value(fault.kind), text_value(nodes.join(" ")), text_value(time), text_value(fault.detail)]
        };
        let rows = state.faults.into_iter().map(row).collect();
        format::print(self.form(), &columns, rows, &mut self.out);
        Flow::Done
    }

    /// `\demo`
    pub(super) async fn demo_nodes(&mut self) -> Flow {
        let state = match self.state("\\demo").await {
            Ok(state) => state,
            Err(flow) => return flow,
        };
        let columns = [
            ("node", Type::Bigint),
            ("address", Type::Text),
            ("pid", Type::Bigint),
            ("state", Type::Text),
            ("data", Type::Text),
        ];
        let row = |n: proto::v1::FaultyNode| {
            let pid = if n.pid == 0 { null() } else { int_value(n.pid) };
            vec![int_value(n.node), text_value(n.address), pid, text_value(n.state), text_value(n.data)]
        };
        let rows = state.nodes.into_iter().map(row).collect();
        format::print(self.form(), &columns, rows, &mut self.out);
        Flow::Done
    }

    async fn state(&mut self, name: &str) -> Result<proto::v1::FaultsState, Flow> {
        let control = self.control().map_err(|why| format!("{name}: {why}"));
        let state = match control {
            Ok(control) => control.describe().await,
            Err(why) => Err(why),
        };
        state.map_err(|why| self.complain(&why))
    }
}

fn asked(name: &str, words: &[&str], known: &[u64]) -> Asked {
    let action = match name {
        "\\kill" => Some(control::process(ProcessAction::Kill)),
        "\\stop" => Some(control::process(ProcessAction::Stop)),
        "\\restart" => Some(control::process(ProcessAction::Restart)),
        "\\pause" => Some(control::process(ProcessAction::Pause)),
        "\\resume" => Some(control::process(ProcessAction::Resume)),
        "\\disconnect" => Some(control::reset()),
        _ => None,
    };
    if let Some(action) = action {
        return Ok(nodes(words, known)?.map(|nodes| (nodes, action)));
    }
    match (name, words) {
        ("\\heal", []) => Ok(Some((Vec::new(), control::heal(false)))),
        ("\\heal", ["net"]) => Ok(Some((Vec::new(), control::heal(true)))),
        ("\\partition", ["off"]) => Ok(Some((Vec::new(), control::partition(&Cuts::new(), "off")))),
        ("\\partition", [_, ..]) => {
            let text = words.join(" ");
            let cuts = cuts::parse(&text, known)?;
            Ok(Some((Vec::new(), control::partition(&cuts, &text))))
        }
        ("\\skew", [node, fault]) => {
            let text = if *fault == "off" { "" } else { fault };
            Ok(Some((vec![number(node, known)?], Fault::Skew(text.to_string()))))
        }
        ("\\slow", [node]) => {
            Ok(Some((vec![number(node, known)?], control::slow_network(DELAY_DEFAULT, Duration::ZERO))))
        }
        ("\\slow", [node, delay]) => {
            Ok(Some((vec![number(node, known)?], control::slow_network(duration(delay)?, Duration::ZERO))))
        }
        ("\\slow", [node, delay, jitter]) => {
            let fault = control::slow_network(duration(delay)?, duration(jitter)?);
            Ok(Some((vec![number(node, known)?], fault)))
        }
        ("\\slow-disk", [node, delay]) => Ok(Some((vec![number(node, known)?], control::slow_disk(duration(delay)?)))),
        _ => Ok(None),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    if text == "off" { Ok(Duration::ZERO) } else { parse_duration(text) }
}

fn nodes(words: &[&str], known: &[u64]) -> Result<Option<Vec<u64>>, String> {
    match words {
        [] => Ok(None),
        ["all"] => Ok(Some(known.to_vec())),
        words => words.iter().map(|word| number(word, known)).collect::<Result<_, _>>().map(Some),
    }
}

fn number(word: &str, known: &[u64]) -> Result<u64, String> {
    let number = word.trim_start_matches('n').parse().map_err(|_| format!("'{word}' is not the number of a node"))?;
    if known.contains(&number) {
        return Ok(number);
    }
    Err(format!("there is no node {number}: they are numbered 1 to {}", known.last().unwrap_or(&0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_faults_or_errors() {
        let ask = |name: &str, words: &[&str]| asked(name, words, &[1, 2, 3]);
        let kill = control::process(ProcessAction::Kill);
        assert_eq!(ask("\\kill", &["n2"]), Ok(Some((vec![2], kill.clone()))));
        assert_eq!(ask("\\kill", &["all"]), Ok(Some((vec![1, 2, 3], kill))));
        assert_eq!(ask("\\skew", &["2", "+40ms"]), Ok(Some((vec![2], Fault::Skew("+40ms".into())))));
        assert_eq!(ask("\\skew", &["2", "off"]), Ok(Some((vec![2], Fault::Skew(String::new())))));
        assert_eq!(ask("\\slow-disk", &["2", "20ms"]), Ok(Some((vec![2], Fault::FsyncDelayNs(20_000_000)))));
        for (name, words) in [("\\kill", &[][..]), ("\\skew", &["2"]), ("\\partition", &[]), ("\\heal", &["1"])] {
            assert_eq!(ask(name, words), Ok(None), "{name}");
        }
        for (name, words, part) in [
            ("\\kill", &["4"][..], "there is no node 4"),
            ("\\kill", &["x"], "'x' is not the number of a node"),
            ("\\slow", &["2", "soon"], "not a duration"),
            ("\\partition", &["1|9"], "there is no node 9"),
        ] {
            let why = ask(name, words).unwrap_err();
            assert!(why.contains(part), "{name} {words:?}: {why}");
        }
    }

    #[test]
    fn every_command_is_listed() {
        for name in NAMES {
            assert!(super::super::COMMANDS.iter().any(|command| command.name == *name), "{name}");
        }
    }
}
