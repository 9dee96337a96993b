//! The report as one page: no other file, no network, readable without its script, in light, in dark
//! and on paper. Whatever comes from the history is escaped.

mod chart;
mod svg;

use std::fmt::Write as _;

use check::Verdict;
use serde_json::json;

use super::faults::Fault;
use super::format::{count, moment, ms, plural, rate, span};
use super::series::Series;
use super::summary::Summary;
use super::text::{doubt, lasted, recovered};
use super::{Options, Standing, anomalies, headline};
use svg::{escape, script_json};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What of long things is shown.
const STORIES_MAX: usize = 40;
const STORY_CHARS_MAX: usize = 4000;
const FAULTS_MAX: usize = 400;

/// The page.
pub fn render(summary: &Summary, series: &Series, verdict: Option<&Verdict>, options: &Options) -> String {
    let workload = &summary.setup.workload;
    let title = match (options.title.is_empty(), workload.is_empty()) {
        (false, _) => options.title.clone(),
        (true, false) => format!("Meridian workload {workload}"),
        (true, true) => "Meridian: a recorded history".to_string(),
    };
    let mut page = String::with_capacity(256 << 10);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\
         <title>{}</title>\n<style>\n{STYLE}</style></head><body>\n",
        escape(&format!("{}: {title}", Standing::of(summary, verdict, options).word()))
    );
    let _ = write!(page, "<h1>{}</h1>\n<p class=\"soft\">{}</p>\n", escape(&title), escape(&subtitle(summary)));
    verdict_box(&mut page, summary, verdict, options);
    stories(&mut page, summary, verdict);
    cards(&mut page, summary);
    if summary.operations.begun > 0 {
        let chart = chart::draw(summary, series);
        let _ = writeln!(page, "<figure>{chart}<div id=\"tip\" hidden></div></figure>");
    }
    faults(&mut page, summary);
    latencies(&mut page, summary);
    failures(&mut page, summary);
    checked(&mut page, verdict);
    again(&mut page, summary, options);
    let data = script_json(&data(summary, series));
    let _ = write!(
        page,
        "{FOOTER}<script type=\"application/json\" id=\"data\">{data}</script>\n<script>\n{SCRIPT}</script>\n</body></html>\n"
    );
    page
}

const FOOTER: &str = "<footer><p>All figures come from the recorded history: times are those of the client that \
recorded it. The worst gap of a fault is the longest stretch without an acknowledged write that begins while the \
fault is there or shortly after. It is recovered when that gap is over and writes come at half their usual rate \
again; the usual rate is the median of the time that no fault disturbed.</p></footer>\n";

fn subtitle(summary: &Summary) -> String {
    let setup = &summary.setup;
    let mut parts: Vec<String> = Vec::new();
    parts.extend(setup.clients.map(|n| plural(n, "client")));
    if !summary.nodes.is_empty() {
        parts.push(plural(summary.nodes.len() as u64, "node"));
    }
    parts.push(format!("{} of load", span(summary.load_took_ns())));
    parts.extend(setup.seed.map(|seed| format!("seed {seed}")));
    parts.push(plural(summary.events, "event"));
    parts.join(" · ")
}

fn verdict_box(page: &mut String, summary: &Summary, verdict: Option<&Verdict>, options: &Options) {
    let standing = Standing::of(summary, verdict, options);
    let class = match standing {
        Standing::Valid => "good",
        Standing::Invalid => "bad",
        Standing::ProvesNothing | Standing::NotJudged => "unsure",
    };
    let words = headline(summary, verdict, options);
    let mut letters = words.chars();
    let words: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    let _ = write!(page, "<div class=\"verdict {class}\"><b>{}</b><span>{}.", standing.word(), escape(&words));
    for why in options.problems.iter().filter(|_| standing != Standing::ProvesNothing) {
        let _ = write!(page, "<br>{}", escape(why));
    }
    page.push_str("</span></div>\n");
}

fn stories(page: &mut String, summary: &Summary, verdict: Option<&Verdict>) {
    let names = anomalies(verdict);
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(|(name, n)| format!("{} × {name}", count(*n))).collect();
        let _ = write!(page, "<h2>What cannot have been</h2><p>{}</p>", escape(&names.join(", ")));
    }
    for anomaly in verdict.iter().flat_map(|v| &v.anomalies).take(STORIES_MAX) {
        let mut story: String = anomaly.story.chars().take(STORY_CHARS_MAX).collect();
        if story.len() < anomaly.story.len() {
            story.push_str("\n… (the text report has the rest)");
        }
        let _ = write!(page, "<pre><b>{}</b>\n{}</pre>\n", escape(&anomaly.name), escape(&story));
    }
    if !summary.violations.is_empty() {
        page.push_str("<h2>What the workload itself called impossible</h2><ul>");
        for what in &summary.violations {
            let _ = write!(page, "<li>{}</li>", escape(&what.chars().take(STORY_CHARS_MAX).collect::<String>()));
        }
        page.push_str("</ul>\n");
    }
}

fn cards(page: &mut String, summary: &Summary) {
    let o = &summary.operations;
    let mut cards = vec![
        ("took effect", count(o.ok), rate(summary.rate())),
        ("failed", count(o.failed), "certainly had no effect".to_string()),
        ("without an answer", count(o.in_doubt), doubt(summary)),
    ];
    if let Some((work, l)) = summary.work.first() {
        let more = format!("{}; p99 {}, max {}", work.name(), span(l.p99), span(l.max));
        cards.push(("median latency", span(l.p50), more));
    }
    let (at, gap) = summary.worst_gap;
    let what = if summary.service.of_writes { "write" } else { "operation" };
    cards.push(("worst gap", span(gap), format!("no {what} acknowledged, from {}", moment(at))));
    let disturbed = summary.faults.iter().filter(|f| f.cost.disturbed).count() as u64;
    let more = if summary.faults.is_empty() { "none" } else { "disturbed writes" };
    let more = if summary.faults.is_empty() { more.to_string() } else { format!("{} {more}", count(disturbed)) };
    cards.push(("faults", count(summary.faults.len() as u64 + summary.faults_left_out), more));
    page.push_str("<div class=\"cards\">");
    for (name, value, more) in cards {
        let [name, value, more] = [name, value.as_str(), more.as_str()].map(escape);
        let _ = write!(
            page,
            "<div class=\"card\"><div class=\"k\">{name}</div><div class=\"v\">{value}</div><div class=\"d\">{more}</div></div>"
        );
    }
    page.push_str("</div>\n");
}

fn faults(page: &mut String, summary: &Summary) {
    if summary.faults.is_empty() {
        return;
    }
    let longest = summary.faults.iter().map(|f| f.cost.gap.1).max().unwrap_or(1).max(1);
    page.push_str(
        "<h2>Faults and what they cost</h2><div class=\"scroll\"><table><thead><tr><th class=\"num\">at</th>\
         <th>fault</th><th class=\"num\">lasted</th><th>worst gap</th><th class=\"num\">recovered after</th>\
         <th class=\"num\">failed</th><th class=\"num\">in doubt</th><th>longest silence of each node</th>\
         <th>of each range</th></tr></thead><tbody>",
    );
    for (at, fault) in summary.faults.iter().take(FAULTS_MAX).enumerate() {
        row(page, at, fault, longest);
    }
    page.push_str("</tbody></table></div>\n");
    let more = summary.faults.len().saturating_sub(FAULTS_MAX) as u64 + summary.faults_left_out;
    if more > 0 {
        let _ = writeln!(page, "<p class=\"soft\">and {} more</p>", count(more));
    }
}

fn row(page: &mut String, at: usize, fault: &Fault, longest: u64) {
    let cost = &fault.cost;
    let list = |letter: char, gaps: &[(u64, u64)]| {
        let one = |(name, ns): &(u64, u64)| format!("{letter}{name} {}", span(*ns)).replace(' ', "\u{a0}");
        gaps.iter().take(12).map(one).collect::<Vec<_>>().join(", ")
    };
    let detail = if fault.detail.is_empty() {
        String::new()
    } else {
        format!(" <span class=\"soft\">{}</span>", escape(&fault.detail))
    };
    let _ = writeln!(
        page,
        "<tr data-f=\"{at}\"><td class=\"num\">{}</td><td><span class=\"chip\" style=\"background:var(--f{})\"></span>\
         {} {}{detail}</td><td class=\"num\">{}</td><td class=\"cost{}\">{} <i style=\"width:{:.0}%\"></i></td>\
         <td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
         <td class=\"soft\">{}</td><td class=\"soft\">{}</td></tr>",
        moment(fault.began_ns),
        chart::hue(&fault.kind),
        escape(&fault.kind),
        escape(&fault.target),
        lasted(fault),
        if cost.disturbed { "" } else { " calm" },
        span(cost.gap.1),
        cost.gap.1 as f64 / longest as f64 * 90.0,
        recovered(fault),
        count(cost.failed),
        count(cost.in_doubt),
        list('n', &cost.by_node),
        list('r', &cost.by_range),
    );
}

fn latencies(page: &mut String, summary: &Summary) {
    if summary.work.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Latency</h2><div class=\"scroll\"><table><thead><tr><th></th><th class=\"num\">count</th>\
         <th class=\"num\">p50 ms</th><th class=\"num\">p95 ms</th><th class=\"num\">p99 ms</th>\
         <th class=\"num\">max ms</th></tr></thead><tbody>",
    );
    for (work, l) in &summary.work {
        let _ = write!(page, "<tr><td>{}</td><td class=\"num\">{}</td>", work.name(), count(l.count));
        for ns in [l.p50, l.p95, l.p99, l.max] {
            let _ = write!(page, "<td class=\"num\">{}</td>", ms(ns));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

fn failures(page: &mut String, summary: &Summary) {
    if summary.failures.is_empty() {
        return;
    }
    page.push_str("<h2>Why operations failed</h2><div class=\"scroll\"><table><tbody>");
    for (class, n) in &summary.failures {
        let _ = writeln!(
            page,
            "<tr><td class=\"num\" style=\"width:7em\">{}</td><td>{}</td></tr>",
            count(*n),
            escape(class)
        );
    }
    page.push_str("</tbody></table></div>\n");
}

fn checked(page: &mut String, verdict: Option<&Verdict>) {
    let Some(verdict) = verdict.filter(|v| !v.checked.is_empty()) else { return };
    page.push_str("<h2>What was checked</h2><ul>");
    for what in verdict.checked.iter().take(STORIES_MAX) {
        let _ = write!(page, "<li>{}</li>", escape(&what.chars().take(STORY_CHARS_MAX).collect::<String>()));
    }
    page.push_str("</ul>\n");
}

fn again(page: &mut String, summary: &Summary, options: &Options) {
    let mut lines = Vec::new();
    lines.extend(Some(summary.command()).filter(|command| !command.is_empty()));
    if !options.history.is_empty() {
        lines.push(format!("meridian check {}", options.history));
    }
    if !lines.is_empty() {
        let _ = writeln!(page, "<h2>Run it again, judge it again</h2><pre>{}</pre>", escape(&lines.join("\n")));
    }
}

/// What the script shows at each moment.
fn data(summary: &Summary, series: &Series) -> serde_json::Value {
    let as_ms = |ns: u64| (ns as f64 / 1e4).round() / 1e2;
    let faults = summary.faults.iter().take(chart::FAULTS_DRAWN).filter_map(|fault| {
        let end = fault.ended_ns.unwrap_or(if fault.lasting { summary.load_ns.1 } else { fault.began_ns });
        let from = series.bucket(fault.began_ns)?;
        let to = series.bucket(end).unwrap_or(series.len - 1);
        Some(json!([format!("{} {}", fault.kind, fault.target), from, to]))
    });
    let latency = series.latency.iter().map(|b| b.map(|b| [b.p50, b.p95, b.p99].map(as_ms)));
    let epsilon = series
        .epsilon
        .iter()
        .map(|(node, list)| json!([node, list.iter().map(|ns| ns.map(as_ms)).collect::<Vec<_>>()]));
    json!({
        "left": chart::LEFT, "width": chart::WIDTH, "total": chart::TOTAL,
        "len": series.len, "bucket_s": series.bucket_ns as f64 / 1e9, "start_s": series.start_ns as f64 / 1e9,
        "writes": series.writes, "reads": series.reads, "failed": series.failed, "doubt": series.doubt,
        "latency": latency.collect::<Vec<_>>(),
        "nodes": series.by_node,
        "epsilon": epsilon.collect::<Vec<_>>(),
        "faults": faults.collect::<Vec<_>>(),
    })
}
