//! Settings that are a time: `5s`, `200ms`, `1.5min`, or a plain number of milliseconds.

use crate::SqlError;

/// PostgreSQL's units, the largest first, in milliseconds.
const UNITS: &[(&str, i64)] = &[("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];
/// The longest, in milliseconds.
const MS_MAX: i64 = i32::MAX as i64;

/// Milliseconds; 0 is never. 22023 for what is no time.
pub(super) fn parse(name: &str, text: &str) -> Result<i64, SqlError> {
    let invalid = || SqlError::new("22023", format!("invalid value for parameter \"{name}\": \"{text}\""));
    let trimmed = text.trim();
    let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit() || "+-.".contains(c)).len();
    let number: f64 = trimmed[..digits].parse().map_err(|_| invalid())?;
    let unit_ms = match trimmed[digits..].trim() {
        "" => 1.0,
        "us" => 0.001,
        unit => match UNITS.iter().find(|(known, _)| *known == unit) {
            Some((_, ms)) => *ms as f64,
            None => {
                let hint = "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\".";
                return Err(invalid().hint(hint));
            }
        },
    };
    let ms = (number * unit_ms).round_ties_even();
    if !(0.0..=MS_MAX as f64).contains(&ms) {
        let message = format!("{ms} ms is outside the valid range for parameter \"{name}\" (0 .. {MS_MAX})");
        return Err(SqlError::new("22023", message));
    }
    Ok(ms as i64)
}

/// As SHOW prints it: in the largest unit that gives a whole number.
pub(super) fn show(ms: i64) -> String {
    let fits = UNITS.iter().find(|(_, unit_ms)| ms != 0 && ms % unit_ms == 0);
    fits.map_or_else(|| "0".to_string(), |(unit, unit_ms)| format!("{}{unit}", ms / unit_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_postgresql_shows_them() {
        for (text, shown) in [
            ("0", "0"),
            ("5000", "5s"),
            ("1500", "1500ms"),
            (" 90s ", "90s"),
            ("60000", "1min"),
            ("1.5min", "90s"),
            ("200 ms", "200ms"),
            ("1500us", "2ms"),
            ("400us", "0"),
            ("48h", "2d"),
            ("0s", "0"),
        ] {
            assert_eq!(show(parse("t", text).unwrap()), shown, "{text}");
        }
        for bad in ["", "s", "5 sec", "1e3", "-1", "30d", "1-", "five"] {
            assert_eq!(parse("t", bad).unwrap_err().sqlstate, "22023", "{bad}");
        }
    }
}
