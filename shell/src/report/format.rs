//! Numbers as a report writes them.

/// A count with its thousands apart: `12,345`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 fault`, `2 faults`.
pub fn plural(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Nanoseconds for people, to three places: `850 µs`, `1.83 ms`, `12.3 s`, `4 m 05 s`.
pub fn span(ns: u64) -> String {
    let (value, unit) = match ns {
        0 => return "0".to_string(),
        1..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        1_000_000_000..60_000_000_000 => (ns as f64 / 1e9, "s"),
        _ => {
            let seconds = ns / 1_000_000_000;
            return match seconds {
                0..3600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
                _ => format!("{} h {:02} m", seconds / 3600, seconds / 60 % 60),
            };
        }
    };
    format!("{} {unit}", places(value))
}

/// Nanoseconds in milliseconds, without the unit.
pub fn ms(ns: u64) -> String {
    places(ns as f64 / 1e6)
}

/// A moment of the run: `12.345 s`.
pub fn moment(ns: u64) -> String {
    format!("{:.3} s", ns as f64 / 1e9)
}

/// A rate: `1,234/s`, `3.2/s`.
pub fn rate(per_second: f64) -> String {
    if per_second >= 100.0 { format!("{}/s", count(per_second.round() as u64)) } else { format!("{per_second:.1}/s") }
}

fn places(value: f64) -> String {
    if value >= 999.5 {
        count(value.round() as u64)
    } else if value >= 99.95 {
        format!("{value:.0}")
    } else if value >= 9.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_written() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((plural(1, "fault"), plural(20, "fault")), ("1 fault".into(), "20 faults".into()));
        let spans = [0, 850, 1_830_000, 99_960_000, 12_345_000_000, 245_000_000_000, 12_000_000_000_000];
        assert_eq!(spans.map(span), ["0", "0.85 µs", "1.83 ms", "100 ms", "12.3 s", "4 m 05 s", "3 h 20 m"]);
        assert_eq!(
            (rate(3.21), rate(1234.4), moment(12_345_678_901)),
            ("3.2/s".into(), "1,234/s".into(), "12.346 s".into())
        );
        assert_eq!([1_830_000, 1_835_400_000].map(ms), ["1.83", "1,835"]);
    }
}
