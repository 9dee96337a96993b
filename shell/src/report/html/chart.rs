//! The timeline: panels over one axis of time, with the faults as bands through all of them.
//!
//! ```text
//!   [ kill n2 ]      [ pause n1 ]           lanes of faults
//!   |#########.....###########              acknowledged a second, gaps in red
//!   |  .  |                                 failed, without an answer
//!   |-----/\------/\----------              latency: p50, p95, p99, on a logarithmic scale
//!   |= = = = =                              what each node answered
//!   |__/\_________                          epsilon of each node
//!   0 s      5 s      10 s
//! ```

use std::fmt::Write as _;

use super::super::format::{moment, rate, span};
use super::super::series::{Band, Series};
use super::super::summary::Summary;
use super::super::text::lasted;
use super::svg::{area, escape, line, px, rect, steps, text, ticks};

/// The whole drawing's width; it scales with the page.
pub const TOTAL: f64 = 1100.0;
/// Where the axis of time begins.
pub const LEFT: f64 = 62.0;
/// How wide it is.
pub const WIDTH: f64 = 1022.0;

/// So many faults are drawn.
pub const FAULTS_DRAWN: usize = 400;

const LANES_MAX: usize = 5;
const LANE: f64 = 20.0;
const GAPS_DRAWN: usize = 60;
const GAPS_NAMED: usize = 12;

/// The colour of a kind of fault, 0 to 6.
pub fn hue(kind: &str) -> usize {
    match kind {
        "kill" | "power-cut" | "crash" => 0,
        "pause" | "slow" | "slow-disk" | "delay" => 1,
        "partition" | "isolate" => 2,
        "skew" | "clock" | "clock-step" => 3,
        "disk-full" | "bit-flip" | "loss" => 4,
        "restart" | "move" | "split" | "transfer" => 5,
        _ => 6,
    }
}

struct Axis<'a> {
    series: &'a Series,
}

impl Axis<'_> {
    fn edge(&self, bucket: usize) -> f64 {
        LEFT + WIDTH * bucket as f64 / self.series.len as f64
    }

    fn at(&self, ns: u64) -> f64 {
        let length = self.series.bucket_ns as f64 * self.series.len as f64;
        let since = ns.saturating_sub(self.series.start_ns) as f64;
        LEFT + WIDTH * (since / length).clamp(0.0, 1.0)
    }
}

/// Draws it.
pub fn draw(summary: &Summary, series: &Series) -> String {
    let axis = Axis { series };
    let mut body = String::new();
    let mut y = 6.0;
    let labels = lanes(&axis, summary, &mut y);
    let top = y;
    y = throughput(&mut body, &axis, summary, y + 20.0);
    y = trouble(&mut body, &axis, y + 4.0);
    y = latency(&mut body, &axis, summary, y + 30.0);
    y = nodes(&mut body, &axis, y);
    y = epsilon(&mut body, &axis, y);
    let mut bands = String::new();
    time_axis(&mut bands, &axis, top, y);
    for (at, fault) in summary.faults.iter().take(FAULTS_DRAWN).enumerate() {
        let (from, to) = extent(&axis, summary, fault);
        let (h, hue) = (px(y - top), hue(&fault.kind));
        let title = format!("{} {} at {}, lasted {}", fault.kind, fault.target, moment(fault.began_ns), lasted(fault));
        let (x, w) = (px(from), px((to - from).max(1.5)));
        let _ = write!(
            bands,
            r#"<rect id="f{at}" class="fb" x="{x}" y="{}" width="{w}" height="{h}" style="fill:var(--f{hue})"><title>{}</title></rect>"#,
            px(top),
            escape(&title)
        );
        let _ = write!(
            bands,
            r#"<line class="fe" x1="{x}" y1="{}" x2="{x}" y2="{}" style="stroke:var(--f{hue})"/>"#,
            px(top),
            px(y)
        );
    }
    let height = y + 26.0;
    let mut svg = format!(
        r#"<svg id="chart" viewBox="0 0 {} {}" role="img" tabindex="0" aria-label="timeline: throughput, latency, clock uncertainty and faults">"#,
        px(TOTAL),
        px(height)
    );
    // Bands lie under the curves, their names over everything.
    svg.push_str(&bands);
    svg.push_str(&body);
    svg.push_str(&labels);
    let (from, to) = (px(top), px(y));
    let _ = write!(svg, r#"<line id="cross" x1="0" x2="0" y1="{from}" y2="{to}" visibility="hidden"/></svg>"#);
    svg
}

fn extent(axis: &Axis, summary: &Summary, fault: &super::super::faults::Fault) -> (f64, f64) {
    let from = axis.at(fault.began_ns);
    let end = fault.ended_ns.unwrap_or(if fault.lasting { summary.load_ns.1 } else { fault.began_ns });
    (from, axis.at(end).max(from))
}

/// The names of the faults, on as few lanes as they fit.
fn lanes(axis: &Axis, summary: &Summary, y: &mut f64) -> String {
    let mut out = String::new();
    let mut ends: Vec<f64> = Vec::new();
    for fault in summary.faults.iter().take(FAULTS_DRAWN) {
        let (from, to) = extent(axis, summary, fault);
        let name: String = format!("{} {}", fault.kind, fault.target).trim().chars().take(28).collect();
        let wide = name.chars().count() as f64 * 6.4 + 10.0;
        let inside = to - from >= wide;
        let until = if inside { to } else { from + (to - from).max(3.0) + 2.0 + wide };
        // At the right edge a name stands before its band.
        let before = !inside && until > LEFT + WIDTH;
        let begin = if before { from - wide } else { from };
        let free = ends.iter().position(|end| *end + 2.0 <= begin);
        let lane = match free {
            Some(lane) => lane,
            None if ends.len() < LANES_MAX => {
                ends.push(0.0);
                ends.len() - 1
            }
            // No room for its name: the band alone tells of it.
            None => continue,
        };
        ends[lane] = if before { to.max(from + 3.0) } else { until };
        let top = *y + lane as f64 * LANE;
        let hue = hue(&fault.kind);
        let _ = write!(
            out,
            r#"<rect class="fl" x="{}" y="{}" width="{}" height="{}" rx="3" style="fill:var(--f{hue})"/>"#,
            px(from),
            px(top),
            px((to - from).max(3.0)),
            px(LANE - 4.0)
        );
        let base = px(top + 12.0);
        let (class, x) = match (inside, before) {
            (true, _) => ("fn", from + 5.0),
            (false, true) => ("fo e", from - 4.0),
            (false, false) => ("fo", to.max(from + 3.0) + 4.0),
        };
        let style = if inside { String::new() } else { format!(r#" style="fill:var(--f{hue})""#) };
        let _ = write!(out, r#"<text class="{class}" x="{}" y="{base}"{style}>{}</text>"#, px(x), escape(&name));
    }
    *y += ends.len() as f64 * LANE;
    out
}

fn panel(out: &mut String, y: f64, height: f64, scale: &[(f64, String)]) {
    for (at, label) in scale {
        line(out, "grid", (LEFT, *at), (LEFT + WIDTH, *at));
        text(out, "e", (LEFT - 7.0, at + 4.0), label);
    }
    line(out, "axis", (LEFT, y + height), (LEFT + WIDTH, y + height));
}

/// Coloured squares with their names, beside a panel's title.
fn legend(out: &mut String, base: f64, items: &[(&str, &str)]) {
    let mut x = LEFT + 128.0;
    for (class, name) in items {
        rect(out, class, (x, base - 9.0), (10.0, 10.0));
        text(out, "", (x + 15.0, base), name);
        x += 38.0 + name.chars().count() as f64 * 6.6;
    }
}

fn most_trouble(s: &Series) -> u32 {
    s.failed.iter().zip(&s.doubt).map(|(f, d)| f + d).max().unwrap_or(0)
}

fn throughput(out: &mut String, axis: &Axis, summary: &Summary, y: f64) -> f64 {
    let (s, height) = (axis.series, 150.0);
    let per_s = 1e9 / s.bucket_ns as f64;
    let both: Vec<f64> = s.writes.iter().zip(&s.reads).map(|(w, r)| f64::from(*w + *r) * per_s).collect();
    let scale = ticks(both.iter().copied().fold(0.0, f64::max));
    let top = scale.last().copied().unwrap_or(1.0);
    let place = |v: f64| Some(y + height - height * v / top);
    let labels: Vec<(f64, String)> =
        scale.iter().map(|v| (place(*v).unwrap_or(y), if *v > 0.0 { rate(*v) } else { "0".into() })).collect();
    panel(out, y, height, &labels);
    text(out, "t", (LEFT, y - 8.0), "acknowledged");
    let below = format!("no answer (both hang below, at most {} in {})", most_trouble(s), span(s.bucket_ns));
    let gap = if summary.service.of_writes { "no write acknowledged" } else { "nothing acknowledged" };
    legend(out, y - 8.0, &[("w", "writes"), ("r", "reads"), ("gap", gap), ("x", "failed"), ("q", &below)]);
    for (from, length) in summary.service.notable_gaps(GAPS_DRAWN) {
        let (a, b) = (axis.at(from), axis.at(from + length));
        rect(out, "gap", (a, y), ((b - a).max(1.0), height));
    }
    let edges = |at: usize| axis.edge(at);
    let floor: Vec<Option<f64>> = vec![place(0.0); s.len];
    let writes: Vec<Option<f64>> = s.writes.iter().map(|w| place(f64::from(*w) * per_s)).collect();
    let sums: Vec<Option<f64>> = both.iter().map(|v| place(*v)).collect();
    let _ = write!(out, r#"<path class="r" d="{}"/>"#, area(edges, &writes, &sums));
    let _ = write!(out, r#"<path class="w" d="{}"/>"#, area(edges, &floor, &writes));
    for (at, (from, length)) in summary.service.notable_gaps(GAPS_DRAWN).into_iter().enumerate() {
        let (a, b) = (axis.at(from), axis.at(from + length));
        line(out, "gapline", (a, y + height), (b.max(a + 2.0), y + height));
        if at < GAPS_NAMED {
            let middle = ((a + b) / 2.0).clamp(LEFT + 20.0, LEFT + WIDTH - 20.0);
            text(out, "gaptext", (middle, y + height - 7.0 - (at % 2) as f64 * 13.0), &span(length));
        }
    }
    y + height
}

/// Failed operations and those in doubt, as bars that hang from the throughput.
fn trouble(out: &mut String, axis: &Axis, y: f64) -> f64 {
    let (s, height) = (axis.series, 26.0);
    let scale = height / f64::from(most_trouble(s).max(1));
    let edges = |at: usize| axis.edge(at);
    let roof: Vec<Option<f64>> = vec![Some(y); s.len];
    let some = |v: f64, n: u32| (n > 0).then_some(v);
    let doubts: Vec<Option<f64>> = s.doubt.iter().map(|d| some(y + f64::from(*d) * scale, *d)).collect();
    let sums = s.failed.iter().zip(&s.doubt).map(|(f, d)| some(y + f64::from(f + d) * scale, *f));
    let from: Vec<Option<f64>> = s.doubt.iter().map(|d| Some(y + f64::from(*d) * scale)).collect();
    let _ = write!(out, r#"<path class="x" d="{}"/>"#, area(edges, &from, &sums.collect::<Vec<_>>()));
    let _ = write!(out, r#"<path class="q" d="{}"/>"#, area(edges, &roof, &doubts));
    y + height
}

fn latency(out: &mut String, axis: &Axis, summary: &Summary, y: f64) -> f64 {
    let (s, height) = (axis.series, 120.0);
    let bands = || s.latency.iter().flatten();
    let least = bands().map(|b| b.p50).min().unwrap_or(1_000_000).max(1000) as f64;
    let most = bands().map(|b| b.p99).max().unwrap_or(10_000_000).max(2000) as f64;
    let low = least.log10().floor();
    // A little above the longest; the whole decade would mostly be empty.
    let high = (most.log10() + 0.1).max(low + 1.0);
    let place = |ns: u64| y + height - height * (((ns.max(1) as f64).log10() - low) / (high - low)).clamp(0.0, 1.0);
    let decades = low as i32..=high as i32;
    let labels: Vec<(f64, String)> = decades
        .map(|power| 10u64.saturating_pow(u32::try_from(power).unwrap_or(0)))
        .map(|ns| (place(ns), whole(ns)))
        .collect();
    panel(out, y, height, &labels);
    let of = if summary.service.of_writes { "writes" } else { "operations" };
    text(out, "t", (LEFT, y - 8.0), &format!("latency of {of}"));
    text(out, "", (LEFT + 128.0, y - 8.0), "line p50, band to p95, thin line p99");
    let edges = |at: usize| axis.edge(at);
    let pick = |which: fn(&Band) -> u64| -> Vec<Option<f64>> {
        s.latency.iter().map(|b| b.as_ref().map(|b| place(which(b)))).collect()
    };
    let (p50, p95, p99) = (pick(|b| b.p50), pick(|b| b.p95), pick(|b| b.p99));
    let _ = write!(out, r#"<path class="band" d="{}"/>"#, area(edges, &p50, &p95));
    let _ = write!(out, r#"<path class="p99" d="{}"/>"#, steps(edges, &p99));
    let _ = write!(out, r#"<path class="p50" d="{}"/>"#, steps(edges, &p50));
    y + height
}

/// One strip a node: the fuller, the more it answered; a hole is a node that nobody got answers from.
fn nodes(out: &mut String, axis: &Axis, y: f64) -> f64 {
    let s = axis.series;
    if s.by_node.len() < 2 {
        return y;
    }
    let y = y + 30.0;
    text(out, "t", (LEFT, y - 8.0), "answered by");
    let most = s.by_node.iter().flat_map(|(_, counts)| counts).copied().max().unwrap_or(1).max(1);
    for (row, (node, counts)) in s.by_node.iter().enumerate() {
        let floor = y + row as f64 * 22.0 + 18.0;
        text(out, "e", (LEFT - 7.0, floor - 5.0), &format!("n{node}"));
        line(out, "axis", (LEFT, floor), (LEFT + WIDTH, floor));
        let place = |n: &u32| Some(floor - 18.0 * (f64::from(*n) / f64::from(most)));
        let highs: Vec<Option<f64>> = counts.iter().map(place).collect();
        let path = area(|at| axis.edge(at), &vec![Some(floor); s.len], &highs);
        let _ = write!(out, r#"<path class="cell" style="fill:var(--n{})" d="{path}"/>"#, row % 6);
    }
    y + s.by_node.len() as f64 * 22.0
}

fn epsilon(out: &mut String, axis: &Axis, y: f64) -> f64 {
    let s = axis.series;
    if s.epsilon.is_empty() {
        return y;
    }
    let (y, height) = (y + 34.0, 84.0);
    let most = s.epsilon.iter().flat_map(|(_, list)| list).flatten().max().copied().unwrap_or(0);
    let scale = ticks(most as f64 / 1e6);
    let top = scale.last().copied().unwrap_or(1.0);
    let place = |ms: f64| y + height - height * ms / top;
    let labels: Vec<(f64, String)> = scale.iter().map(|ms| (place(*ms), format!("{ms} ms"))).collect();
    panel(out, y, height, &labels);
    text(out, "t", (LEFT, y - 8.0), "clock uncertainty ε");
    for (row, (node, list)) in s.epsilon.iter().enumerate() {
        let known = s.by_node.iter().position(|(n, _)| n == node).unwrap_or(row);
        let x = LEFT + 150.0 + row as f64 * 46.0;
        let _ = write!(
            out,
            r#"<rect x="{}" y="{}" width="10" height="10" style="fill:var(--n{})"/>"#,
            px(x),
            px(y - 17.0),
            known % 6
        );
        text(out, "", (x + 14.0, y - 8.0), &format!("n{node}"));
        // A hair apart, so that equal clocks do not hide each other.
        let nudge = row as f64 * 1.2;
        let ys: Vec<Option<f64>> = list.iter().map(|ns| ns.map(|ns| place(ns as f64 / 1e6) - nudge)).collect();
        let path = steps(|at| axis.edge(at), &ys);
        let _ = write!(out, r#"<path class="eps" style="stroke:var(--n{})" d="{path}"/>"#, known % 6);
    }
    y + height
}

fn time_axis(out: &mut String, axis: &Axis, top: f64, y: f64) {
    let s = axis.series;
    let length_s = s.bucket_ns as f64 * s.len as f64 / 1e9;
    let step = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
    let step = step.into_iter().find(|step| length_s / step <= 12.0).unwrap_or(length_s / 12.0);
    let start_s = s.start_ns as f64 / 1e9;
    let first = (start_s / step).ceil() as u64;
    for n in first..=first + 14 {
        let at_s = n as f64 * step;
        let x = LEFT + WIDTH * (at_s - start_s) / length_s;
        if x > LEFT + WIDTH + 0.5 {
            break;
        }
        line(out, "grid", (x, top), (x, y));
        let label = match step {
            step if step >= 60.0 => span((at_s * 1e9) as u64),
            step if step >= 1.0 => format!("{at_s:.0} s"),
            _ => format!("{at_s:.2} s"),
        };
        text(out, "m", (x, y + 18.0), &label);
    }
}

/// A power of ten of nanoseconds: `10 ms`.
fn whole(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{} s", ns / 1_000_000_000),
    }
}
