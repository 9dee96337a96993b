//! Small pieces of SVG: shapes as text, scales and ticks.

use std::fmt::Write as _;

/// Text that is safe anywhere in HTML and SVG, also within quotes.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // No page may hold these; a line's end and a tab may be part of a story.
            c if c.is_control() && c != '\n' && c != '\t' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// JSON that is safe inside a script element.
pub fn script_json(value: &serde_json::Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// A coordinate, with a tenth of a pixel.
pub fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_string)
}

/// A horizontal or vertical line.
pub fn line(out: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let (x1, y1, x2, y2) = (px(from.0), px(from.1), px(to.0), px(to.1));
    let _ = write!(out, r#"<line class="{class}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>"#);
}

/// A filled box.
pub fn rect(out: &mut String, class: &str, at: (f64, f64), size: (f64, f64)) {
    let (x, y, w, h) = (px(at.0), px(at.1), px(size.0), px(size.1));
    let _ = write!(out, r#"<rect class="{class}" x="{x}" y="{y}" width="{w}" height="{h}"/>"#);
}

/// A text; it is escaped here.
pub fn text(out: &mut String, class: &str, at: (f64, f64), what: &str) {
    let _ = write!(out, r#"<text class="{class}" x="{}" y="{}">{}</text>"#, px(at.0), px(at.1), escape(what));
}

/// A path of steps through one value a bucket, broken where there is none. `x` are the edges.
pub fn steps(edges: impl Fn(usize) -> f64, ys: &[Option<f64>]) -> String {
    let mut path = String::new();
    let mut last: Option<f64> = None;
    for (at, y) in ys.iter().enumerate() {
        match (*y, last) {
            (Some(y), None) => {
                let _ = write!(path, "M{} {}H{}", px(edges(at)), px(y), px(edges(at + 1)));
            }
            // The same height goes on: nothing but the right edge moves.
            (Some(y), Some(before)) if px(y) == px(before) => {
                let cut = path.rfind('H').unwrap_or(path.len());
                path.truncate(cut);
                let _ = write!(path, "H{}", px(edges(at + 1)));
            }
            (Some(y), Some(_)) => {
                let _ = write!(path, "V{}H{}", px(y), px(edges(at + 1)));
            }
            (None, _) => {}
        }
        last = *y;
    }
    path
}

/// The area between two values a bucket, where both are.
pub fn area(edges: impl Fn(usize) -> f64, low: &[Option<f64>], high: &[Option<f64>]) -> String {
    let mut path = String::new();
    let mut at = 0;
    while at < low.len() {
        let run = (at..low.len()).take_while(|i| low[*i].is_some() && high[*i].is_some()).count();
        if run == 0 {
            at += 1;
            continue;
        }
        let range = at..at + run;
        let mut forth = vec![None; at];
        forth.extend(high[range.clone()].iter().copied());
        path.push_str(&steps(&edges, &forth));
        for i in range.rev() {
            let _ = write!(path, "L{} {}", px(edges(i + 1)), px(low[i].unwrap_or_default()));
            let _ = write!(path, "H{}", px(edges(i)));
        }
        path.push('Z');
        at += run;
    }
    path
}

/// Some three to five round values from 0 to at least `max`.
pub fn ticks(max: f64) -> Vec<f64> {
    let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
    let rough = max / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].iter().map(|m| m * power).find(|step| *step >= rough).unwrap_or(10.0 * power);
    (0..=5).map(|n| f64::from(n) * step).take_while(|v| *v < max + step * 0.999).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_a_text_or_a_script() {
        assert_eq!(escape("<a href=\"x\">'&\u{7}"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;\u{fffd}");
        let json = script_json(&serde_json::json!("</script><!--"));
        assert!(!json.contains('<') && !json.contains('>'), "{json}");
    }

    #[test]
    fn steps_break_where_there_is_nothing() {
        let edges = |at: usize| at as f64 * 10.0;
        let ys = [Some(5.0), Some(5.0), Some(7.0), None, Some(1.0)];
        assert_eq!(steps(edges, &ys), "M0 5H20V7H30M40 1H50");
        let zero = [Some(9.0); 5];
        assert_eq!(area(edges, &zero[..2], &ys[..2]), "M0 5H20L20 9H10L10 9H0Z");
    }

    #[test]
    fn ticks_are_round_and_reach_the_top() {
        assert_eq!(ticks(1230.0), [0.0, 500.0, 1000.0, 1500.0]);
        assert_eq!(ticks(4.0), [0.0, 1.0, 2.0, 3.0, 4.0]);
        for odd in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(ticks(odd).last(), Some(&1.0));
        }
    }
}
