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
use crate::report;

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
    let history = if args.file == Path::new("-") { String::new() } else { args.file.display().to_string() };
    let options = report::Options { history, ..report::Options::default() };
    if let Some(path) = &args.html {
        report::write_html(path, &events, Some(&verdict), &options)?;
        err.line(format!("report in {}", path.display()));
    }
    match args.report {
        Report::Text => {
            report::text(&events, Some(&verdict), &options).lines().for_each(|line| out.line(line));
            out.line(format!("judged in  {:.1} s", took.as_secs_f64()));
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

fn json(verdict: &Verdict, events: usize, seconds: f64) -> serde_json::Value {
    let anomalies = verdict.anomalies.iter().map(|a| json!({"name": a.name, "story": a.story}));
    json!({
        "verdict": if verdict.is_valid() { "valid" } else { "invalid" },
        "clock_lied": verdict.clock_lied,
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
    fn a_file_is_judged_and_reported() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, html) = (folder.path().join("h.jsonl"), folder.path().join("r.html"));
        let lines = [
            r#"{"index":0,"process":1,"type":"invoke","time_ns":0,"txn":[["append",1,1]]}"#,
            r#"{"index":1,"process":1,"type":"ok","time_ns":5,"txn":[["append",1,1]]}"#,
            r#"{"index":2,"process":1,"type":"invoke","time_ns":6,"txn":[["r",1,null]]}"#,
            r#"{"index":3,"process":1,"type":"ok","time_ns":9,"txn":[["r",1,[]]]}"#,
        ];
        std::fs::write(&file, lines.join("\n")).expect("written");
        let (mut out, said) = Out::memory();
        let args = CheckArgs { file, report: Report::Text, html: Some(html.clone()) };
        let code = run(&args, &mut out, &mut Out::memory().0).expect("it is judged");
        let said = String::from_utf8(said.lock().expect("no panic").clone()).expect("text");
        assert!(code == 1 && said.contains("verdict    INVALID: "), "{code}: {said}");
        assert!(std::fs::read_to_string(html).expect("written").contains("<title>INVALID"));
    }
}
