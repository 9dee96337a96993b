//! `meridian check FILE`: the verdict on a recorded history, ours or another tool's.
//!
//! The judge itself is crate `check`, which reads nothing and prints nothing.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::Instant;

use check::{Event, Verdict};
use serde_json::json;

use crate::args::{CheckArgs, Report};
use crate::out::Out;

/// Judges a file and returns the exit code: 0 valid, 1 an anomaly, 2 not a history.
pub fn run(args: &CheckArgs, out: &mut Out, err: &mut Out) -> anyhow::Result<i32> {
    let events = match read(&args.file) {
        Ok(events) => events,
        Err(why) => {
            err.line(format!("meridian: {why}"));
            return Ok(2);
        }
    };
    let began = Instant::now();
    let verdict = check::judge(&events);
    let took = began.elapsed();
    match args.report {
        Report::Text => {
            text(&verdict).into_iter().for_each(|line| out.line(line));
            out.line(format!("judged {} events in {:.1} s", events.len(), took.as_secs_f64()));
        }
        Report::Json => out.line(json(&verdict, events.len(), took.as_secs_f64()).to_string()),
    }
    Ok(i32::from(!verdict.is_valid()))
}

/// The events of a file. The error names the line.
pub fn read(path: &Path) -> Result<Vec<Event>, String> {
    let name = path.display();
    let lines: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).map_err(|e| format!("cannot open {name}: {e}"))?))
    };
    let mut events = Vec::new();
    for (number, line) in (1..).zip(lines.lines()) {
        let line = line.map_err(|e| format!("{name}:{number}: {e}"))?;
        if !line.trim().is_empty() {
            events.push(Event::parse(&line).map_err(|e| format!("{name}:{number}: {e}"))?);
        }
    }
    Ok(events)
}

/// The verdict for people: what was checked, each anomaly's story, and the result at the end.
pub fn text(verdict: &Verdict) -> Vec<String> {
    let mut lines: Vec<String> = verdict.checked.iter().map(|line| format!("checked   {line}")).collect();
    for anomaly in &verdict.anomalies {
        lines.push(String::new());
        lines.push(format!("{}:", anomaly.name));
        lines.extend(anomaly.story.lines().map(|line| format!("  {line}")));
    }
    if verdict.is_valid() {
        lines.push("verdict   valid: nothing that a strictly serializable database could not have done".into());
    } else {
        lines.push(String::new());
        let counts: Vec<String> = verdict.counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        lines.push(format!("verdict   INVALID: {}", counts.join(", ")));
    }
    lines
}

fn json(verdict: &Verdict, events: usize, seconds: f64) -> serde_json::Value {
    let anomalies = verdict.anomalies.iter().map(|a| json!({"name": a.name, "story": a.story}));
    json!({
        "verdict": if verdict.is_valid() { "valid" } else { "invalid" },
        "counts": verdict.counts,
        "anomalies": anomalies.collect::<Vec<_>>(),
        "checked": verdict.checked,
        "events": events,
        "judged_in_s": seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_event_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("h.jsonl");
        std::fs::write(&path, "{\"index\":0,\"process\":1,\"type\":\"invoke\",\"time_ns\":0}\n\nnonsense\n")
            .expect("written");
        let why = read(&path).expect_err("the third line is none");
        assert!(why.contains("h.jsonl:3:"), "{why}");
        assert!(read(&folder.path().join("none")).expect_err("no file").contains("cannot open"));
    }

    #[test]
    fn the_verdict_ends_with_its_result() {
        let mut verdict = Verdict::default();
        assert!(text(&verdict).last().is_some_and(|line| line.contains("valid")));
        verdict.counts.insert("G1c".into(), 2);
        verdict.anomalies.push(check::Anomaly { name: "G1c".into(), story: "T1\nT2".into() });
        let lines = text(&verdict);
        assert!(lines.contains(&"G1c:".to_string()) && lines.contains(&"  T2".to_string()), "{lines:?}");
        assert!(lines.last().is_some_and(|line| line.contains("INVALID: 2 G1c")), "{lines:?}");
    }
}
