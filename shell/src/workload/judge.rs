//! The end of a run: the faults are healed, the cluster answers again, and the history is judged.
//! Shared by all workloads.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use check::{Anomaly, Event, Kind, Process, Verdict};
use serde_json::{Value, json};

use super::history::Recorder;
use super::tables;
use crate::args::JudgeArgs;
use crate::client::{Client, ClientOptions};
use crate::out::Out;
use crate::report;
use crate::units::human;

/// How long a healed cluster may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// How many anomalies the text tells in full.
const STORIES_MAX: usize = 5;

/// Waits until the cluster takes writes again. The error says why it does not; the value is how
/// long it took.
pub async fn healed(addresses: &[String], options: &ClientOptions) -> Result<Duration, String> {
    let began = Instant::now();
    let mut client = Client::offline(addresses, options.clone());
    loop {
        match tables::answers(&mut client).await {
            Ok(()) => return Ok(began.elapsed()),
            Err(failure) if began.elapsed() > ANSWER_MAX => {
                return Err(format!("after {} the cluster still does not answer: {failure}", human(ANSWER_MAX)));
            }
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let _ = client.reconnect().await;
            }
        }
    }
}

/// The first line of a history: what is run, and all that it takes to run it again.
pub fn setup(workload: &str, seed: u64, clients: u64, duration: Duration, more: Value) -> Value {
    let mut value = json!({
        "workload": workload,
        "seed": seed,
        "clients": clients,
        "duration_s": duration.as_secs_f64(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}

/// What the history proves.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// None if no check was asked for.
    pub verdict: Option<Verdict>,
    /// How long the judge took.
    pub took: Duration,
    /// What each fault cost, for people.
    pub faults: Vec<String>,
}

impl Judged {
    /// Nothing found that cannot be.
    pub fn good(&self) -> bool {
        self.verdict.as_ref().is_none_or(Verdict::is_valid)
    }

    /// `valid`, `INVALID` or `not checked`.
    pub fn word(&self) -> &'static str {
        match &self.verdict {
            None => "not checked",
            Some(verdict) if verdict.is_valid() && !verdict.counts.is_empty() => "valid but for real time",
            Some(verdict) if verdict.is_valid() => "valid",
            Some(_) => "INVALID",
        }
    }

    /// For people.
    pub fn text(&self) -> Vec<String> {
        let mut lines = self.faults.clone();
        let Some(verdict) = &self.verdict else { return lines };
        lines.extend(verdict.checked.iter().map(|what| format!("checked        {what}")));
        let excused = verdict.is_valid();
        for anomaly in verdict.anomalies.iter().take(if excused { 1 } else { STORIES_MAX }) {
            let word = if excused { "not owed" } else { "ANOMALY" };
            lines.push(format!("{word:<15}{}", anomaly.name));
            lines.extend(anomaly.story.lines().map(|line| format!("               {line}")));
        }
        if !verdict.counts.is_empty() {
            let counts: Vec<String> = verdict.counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
            let word = if excused { "not owed" } else { "anomalies" };
            lines.push(format!("{word:<15}{}", counts.join(", ")));
        }
        if excused && verdict.clock_lied {
            lines.push(
                "               a clock left its bound: what rests on real time was not owed, all else was".into(),
            );
        }
        lines.push(format!("verdict        {} (judged in {})", self.word(), human(self.took)));
        lines
    }

    /// Adds itself to a report.
    pub fn json(&self, report: &mut Value) {
        report["verdict"] = json!(self.word().to_lowercase());
        if let Some(verdict) = &self.verdict {
            let anomalies = verdict.anomalies.iter().map(|a| json!({"name": a.name, "story": a.story}));
            report["anomalies"] = Value::Array(anomalies.collect());
            report["counts"] = json!(verdict.counts);
            report["checked"] = json!(verdict.checked);
            report["judged_in_s"] = json!(self.took.as_secs_f64());
        }
    }
}

/// Judges what was recorded, as the arguments ask. `audit` is what the workload itself can say.
pub async fn judge(
    args: &JudgeArgs,
    recorder: Arc<Recorder>,
    violations: Vec<String>,
    audit: impl FnOnce(&[Event]) -> Vec<Anomaly> + Send + 'static,
) -> anyhow::Result<Judged> {
    if !args.needs_events() {
        recorder.flush().map_err(|e| anyhow::anyhow!("cannot write the history: {e}"))?;
        return Ok(Judged::default());
    }
    let args = args.clone();
    // It may take many seconds of CPU.
    let work = tokio::task::spawn_blocking(move || {
        let events = recorder.events()?;
        if !args.check {
            page(&args, &recorder, &events, None)?;
            return Ok(Judged { faults: report::faults(&events), ..Judged::default() });
        }
        let began = Instant::now();
        let mut verdict = check::judge(&events);
        let impossible = |story| Anomaly { name: "impossible-answer".to_string(), story };
        audit(&events).into_iter().chain(violations.into_iter().map(impossible)).for_each(|a| verdict.add(a));
        let took = began.elapsed();
        page(&args, &recorder, &events, Some(&verdict))?;
        Ok::<_, anyhow::Error>(Judged { verdict: Some(verdict), took, faults: report::faults(&events) })
    });
    work.await.map_err(|e| anyhow::anyhow!("the judge crashed, which no valid history makes it do: {e}"))?
}

/// Writes the page that was asked for.
fn page(args: &JudgeArgs, recorder: &Recorder, events: &[Event], verdict: Option<&Verdict>) -> anyhow::Result<()> {
    let Some(path) = &args.html else { return Ok(()) };
    let done = |event: &&Event| event.kind == Kind::Ok && matches!(event.process, Process::Client(_));
    let done = events.iter().filter(done).count() as u64;
    let few = format!("only {done} operations took effect, and {} are needed", args.min_ops);
    let options = report::Options {
        history: recorder.path().map(|path| path.display().to_string()).unwrap_or_default(),
        problems: Some(few).filter(|_| done < args.min_ops).into_iter().collect(),
        ..report::Options::default()
    };
    report::write_html(path, events, verdict, &options)
}

/// Where the parts of a run were written.
pub fn say_files(history: Option<&PathBuf>, args: &JudgeArgs, lines: &mut Out) {
    for (name, path) in [("history", history), ("report", args.html.as_ref())] {
        if let Some(path) = path {
            lines.line(format!("{name:<15}{}", path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_page_is_written_with_and_without_a_verdict() {
        let folder = tempfile::tempdir().expect("a folder");
        for (check, min_ops, word) in [(false, 0, "NOT JUDGED"), (true, 1, "VALID"), (true, 9, "PROVES NOTHING")] {
            let html = folder.path().join("r.html");
            let args = JudgeArgs { check, min_ops, html: Some(html.clone()) };
            let recorder = Recorder::create(None, args.needs_events(), Instant::now()).expect("memory");
            for kind in [Kind::Invoke, Kind::Ok] {
                recorder.record(1, kind, |event| event.txn = vec![check::Op::Append(check::Key::Number(1), 1)]);
            }
            let judged = judge(&args, Arc::new(recorder), Vec::new(), |_| Vec::new()).await.expect("judged");
            assert_eq!(judged.verdict.is_some(), check);
            let page = std::fs::read_to_string(html).expect("written");
            assert!(page.contains(&format!("<title>{word}: ")), "{word}");
        }
    }
}
