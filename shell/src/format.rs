//! Results as text: `table` and `vertical` for people (as psql shows them), `csv`, `tsv` and
//! `json` for programs.
//!
//! csv, tsv and json are written as rows arrive. A table needs all widths before its first line,
//! so it is written in parts of [`TABLE_ROWS_MAX`] rows, each with its own widths: memory stays
//! bounded whatever a query returns.

use std::fmt::Write as _;

use comfy_table::{
    Cell, CellAlignment, ContentArrangement, ContentLineStyle, LineStyle, Row as TableRow, Table, TableStyle,
};
use proto::v1::value::Kind;
use proto::v1::{Column, Row, Type, Value};

use crate::out::Out;
use crate::units::{sql_timestamp, timestamp};

/// How many rows of a table are laid out together.
pub const TABLE_ROWS_MAX: usize = 10_000;

/// The form of results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns with a header and a count.
    #[default]
    Table,
    /// One line for each value.
    Vertical,
    /// Comma-separated values with a header (RFC 4180); NULL is empty and the empty text is "".
    Csv,
    /// Tab-separated values with a header; NULL is \N, and tab, newline, backslash are escaped.
    Tsv,
    /// An array of objects.
    Json,
}

impl Format {
    /// Parses a name as `--format` takes it.
    pub fn parse(name: &str) -> Result<Format, String> {
        <Format as clap::ValueEnum>::from_str(name, true)
            .map_err(|_| format!("'{name}' is no format: choose table, vertical, csv, tsv or json"))
    }

    /// True for the forms that programs read: only rows are written.
    pub fn is_for_programs(self) -> bool {
        matches!(self, Format::Csv | Format::Tsv | Format::Json)
    }
}

/// Bytes as PostgreSQL shows them: `\x` and hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("\\x"), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

/// A double in its shortest form, with an exponent only where it is very large or small.
pub fn double(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else if value != 0.0 && !(1e-4..1e15).contains(&value.abs()) {
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if exponent.starts_with('-') => format!("{digits}e-{:0>2}", &exponent[1..]),
            Some((digits, exponent)) => format!("{digits}e+{exponent:0>2}"),
            None => text,
        }
    } else {
        format!("{value}")
    }
}

/// A value as text, as psql shows it; `None` for NULL.
pub fn text(value: &Value) -> Option<String> {
    Some(match value.kind.as_ref()? {
        Kind::Boolean(b) => if *b { "t" } else { "f" }.to_string(),
        Kind::Bigint(n) => n.to_string(),
        Kind::Double(d) => double(*d),
        Kind::Text(s) => s.clone(),
        Kind::Bytea(b) => hex(b),
        Kind::TimestampNs(ns) => sql_timestamp(*ns),
    })
}

/// A value as JSON.
pub fn json(value: &Value) -> serde_json::Value {
    match &value.kind {
        None => serde_json::Value::Null,
        Some(Kind::Boolean(b)) => (*b).into(),
        Some(Kind::Bigint(n)) => (*n).into(),
        Some(Kind::Double(d)) if d.is_finite() => (*d).into(),
        Some(Kind::Text(s)) => s.clone().into(),
        // RFC 3339, which every reader of JSON knows.
        Some(Kind::TimestampNs(ns)) => timestamp(*ns).into(),
        Some(_) => text(value).into(),
    }
}

/// Control characters must not reach a terminal: they could move its cursor or set its title.
fn visible(text: &str) -> String {
    if !text.contains(|c: char| c.is_control() && c != '\n') {
        return text.to_string();
    }
    text.chars().fold(String::new(), |mut clean, c| {
        match c {
            '\n' => clean.push('\n'),
            '\t' => clean.push_str("\\t"),
            '\r' => clean.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(clean, "\\x{:02X}", c as u32);
            }
            c => clean.push(c),
        }
        clean
    })
}

fn csv_field(text: Option<String>) -> String {
    match text {
        None => String::new(),
        Some(t) if t.is_empty() || t.contains([',', '"', '\n', '\r']) => format!("\"{}\"", t.replace('"', "\"\"")),
        Some(t) => t,
    }
}

fn tsv_field(text: Option<String>) -> String {
    match text {
        None => "\\N".to_string(),
        Some(t) => t.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r"),
    }
}

/// Makes a column's second and later occurrences distinct, for JSON's keys.
fn distinct(columns: &[Column]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for column in columns {
        let mut name = column.name.clone();
        let mut count = 2;
        while names.contains(&name) {
            name = format!("{}_{count}", column.name);
            count += 1;
        }
        names.push(name);
    }
    names
}

/// Writes the results of one statement.
pub struct Printer {
    format: Format,
    columns: Vec<Column>,
    names: Vec<String>,
    held: Vec<Row>,
    rows: u64,
    started: bool,
}

impl Printer {
    /// For one statement.
    pub fn new(format: Format) -> Printer {
        Printer { format, columns: Vec::new(), names: Vec::new(), held: Vec::new(), rows: 0, started: false }
    }

    /// Rows of this shape follow.
    pub fn columns(&mut self, columns: Vec<Column>, out: &mut Out) {
        self.started = true;
        self.names = distinct(&columns);
        let header = |field: fn(Option<String>) -> String, between: &str| {
            columns.iter().map(|c| field(Some(c.name.clone()))).collect::<Vec<_>>().join(between)
        };
        match self.format {
            Format::Csv => out.line(header(csv_field, ",")),
            Format::Tsv => out.line(header(tsv_field, "\t")),
            Format::Json => out.text("["),
            Format::Table | Format::Vertical => {}
        }
        self.columns = columns;
    }

    /// Some rows.
    pub fn rows(&mut self, rows: Vec<Row>, out: &mut Out) {
        for row in rows {
            self.rows += 1;
            match self.format {
                Format::Csv => out.line(row.values.iter().map(|v| csv_field(text(v))).collect::<Vec<_>>().join(",")),
                Format::Tsv => out.line(row.values.iter().map(|v| tsv_field(text(v))).collect::<Vec<_>>().join("\t")),
                Format::Json => self.json_row(&row, out),
                Format::Vertical => self.vertical_row(&row, out),
                Format::Table => {
                    self.held.push(row);
                    if self.held.len() >= TABLE_ROWS_MAX {
                        self.flush_table(out);
                    }
                }
            }
        }
    }

    /// The statement's end. The tag is shown to people if it returned no rows.
    pub fn end(&mut self, tag: &str, out: &mut Out) {
        if self.started {
            self.close(out);
            let count = match self.rows {
                1 => "(1 row)".to_string(),
                n => format!("({n} rows)"),
            };
            match self.format {
                Format::Table => out.line(format!("{count}\n")),
                Format::Vertical if self.rows == 0 => out.line("(0 rows)\n"),
                Format::Vertical => out.line(""),
                _ => {}
            }
        } else if !self.format.is_for_programs() && !tag.is_empty() {
            out.line(tag);
        }
        *self = Printer::new(self.format);
    }

    /// The statement failed: what was begun is closed, so that JSON stays well formed.
    pub fn abort(&mut self, out: &mut Out) {
        if self.started && (self.rows > 0 || self.format == Format::Json) {
            self.close(out);
        }
        *self = Printer::new(self.format);
    }

    fn close(&mut self, out: &mut Out) {
        match self.format {
            Format::Table if !self.held.is_empty() || self.rows == 0 => self.flush_table(out),
            Format::Json => out.line(if self.rows == 0 { "]" } else { "\n]" }),
            _ => {}
        }
    }

    fn json_row(&self, row: &Row, out: &mut Out) {
        let fields = self.names.iter().zip(&row.values);
        let fields = fields.map(|(name, value)| format!("{}:{}", serde_json::Value::from(name.as_str()), json(value)));
        let lead = if self.rows == 1 { "\n  {" } else { ",\n  {" };
        out.text(format!("{lead}{}}}", fields.collect::<Vec<_>>().join(",")));
    }

    fn vertical_row(&self, row: &Row, out: &mut Out) {
        let width = self.columns.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
        let title = format!("-[ RECORD {} ]", self.rows);
        let width_all = (width + 12).max(title.len());
        out.line(format!("{title:-<width_all$}"));
        for (column, value) in self.columns.iter().zip(&row.values) {
            let value = text(value).unwrap_or_else(|| "NULL".into());
            let value = visible(&value).replace('\n', &format!("\n{:width$} | ", ""));
            out.line(format!("{:<width$} | {value}", column.name));
        }
    }

    fn flush_table(&mut self, out: &mut Out) {
        let rows = std::mem::take(&mut self.held);
        if self.columns.is_empty() {
            return;
        }
        let rows = rows.iter().map(|row| row.values.iter().map(text).collect());
        out.line(aligned(&self.columns, rows));
    }
}

/// Aligned columns as psql lays them out, without a last newline. `None` is NULL.
pub fn aligned(columns: &[Column], rows: impl Iterator<Item = Vec<Option<String>>>) -> String {
    let style = TableStyle::new()
        .header_lines(ContentLineStyle::none().junction('|'))
        .header_separator(LineStyle::none().fill('-').junction('+'))
        .content_lines(ContentLineStyle::none().junction('|'));
    let mut table = Table::new();
    table.load_style(style).set_content_arrangement(ContentArrangement::Disabled).force_no_tty();
    let header = columns.iter().map(|c| Cell::new(visible(&c.name)).set_alignment(CellAlignment::Center));
    table.set_header(header.collect::<Vec<_>>());
    let numeric: Vec<bool> = columns.iter().map(|c| is_number(c.r#type())).collect();
    for row in rows {
        let cells = row.into_iter().enumerate().map(|(at, value)| {
            let right = numeric.get(at).copied().unwrap_or(false);
            let align = if right { CellAlignment::Right } else { CellAlignment::Left };
            Cell::new(visible(value.as_deref().unwrap_or("NULL"))).set_alignment(align)
        });
        table.add_row(TableRow::from(cells.collect::<Vec<_>>()));
    }
    table.lines().map(|line| line.trim_end().to_string()).collect::<Vec<_>>().join("\n")
}

/// Whether psql would show it at the right.
fn is_number(ty: Type) -> bool {
    use Type as T;
    matches!(ty, T::Bigint | T::Double | T::Smallint | T::Integer | T::Real | T::Numeric)
}

/// Prints rows that were made here rather than by a server; all columns are text unless a type is
/// given.
pub fn print(format: Format, columns: &[(&str, Type)], rows: Vec<Vec<Value>>, out: &mut Out) {
    let columns = columns.iter().map(|(name, kind)| Column { name: name.to_string(), r#type: *kind as i32 }).collect();
    let mut printer = Printer::new(format);
    printer.columns(columns, out);
    printer.rows(rows.into_iter().map(|values| Row { values }).collect(), out);
    printer.end("", out);
}

/// A TEXT value.
pub fn text_value(text: impl Into<String>) -> Value {
    Value { kind: Some(Kind::Text(text.into())) }
}

/// A BIGINT value; what does not fit is the largest.
pub fn int_value(number: impl TryInto<i64>) -> Value {
    Value { kind: Some(Kind::Bigint(number.try_into().unwrap_or(i64::MAX))) }
}

/// NULL.
pub fn null() -> Value {
    Value { kind: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(format: Format) -> String {
        let columns = [
            ("id", Type::Bigint),
            ("name", Type::Text),
            ("ok", Type::Boolean),
            ("x", Type::Double),
            ("raw", Type::Bytea),
            ("at", Type::Timestamptz),
        ];
        let kinds = |kinds: [Option<Kind>; 6]| kinds.into_iter().map(|kind| Value { kind }).collect::<Vec<_>>();
        let rows = vec![
            kinds([
                Some(Kind::Bigint(1)),
                Some(Kind::Text("a,\"b\"\tc".into())),
                Some(Kind::Boolean(true)),
                Some(Kind::Double(1.5)),
                Some(Kind::Bytea(vec![0, 255])),
                Some(Kind::TimestampNs(0)),
            ]),
            kinds([
                Some(Kind::Bigint(-20)),
                Some(Kind::Text(String::new())),
                None,
                Some(Kind::Double(1e20)),
                None,
                None,
            ]),
        ];
        let (mut out, bytes) = Out::memory();
        print(format, &columns, rows, &mut out);
        let bytes = bytes.lock().expect("one thread").clone();
        String::from_utf8(bytes).expect("utf-8")
    }

    #[test]
    fn table() {
        let expected = concat!(
            "  id |   name   |  ok  |   x   |   raw  |           at\n",
            "-----+----------+------+-------+--------+------------------------\n",
            "   1 | a,\"b\"\\tc | t    |   1.5 | \\x00ff | 1970-01-01 00:00:00+00\n",
            " -20 |          | NULL | 1e+20 | NULL   | NULL\n",
            "(2 rows)\n\n"
        );
        assert_eq!(sample(Format::Table), expected);
    }

    #[test]
    fn vertical() {
        let expected = concat!(
            "-[ RECORD 1 ]---\n",
            "id   | 1\n",
            "name | a,\"b\"\\tc\n",
            "ok   | t\n",
            "x    | 1.5\n",
            "raw  | \\x00ff\n",
            "at   | 1970-01-01 00:00:00+00\n",
            "-[ RECORD 2 ]---\n",
            "id   | -20\n",
            "name | \n",
            "ok   | NULL\n",
            "x    | 1e+20\n",
            "raw  | NULL\n",
            "at   | NULL\n",
            "\n"
        );
        assert_eq!(sample(Format::Vertical), expected);
    }

    #[test]
    fn csv_and_tsv() {
        let expected = concat!(
            "id,name,ok,x,raw,at\n",
            "1,\"a,\"\"b\"\"\tc\",t,1.5,\\x00ff,1970-01-01 00:00:00+00\n",
            "-20,\"\",,1e+20,,\n"
        );
        assert_eq!(sample(Format::Csv), expected);
        let expected = concat!(
            "id\tname\tok\tx\traw\tat\n",
            "1\ta,\"b\"\\tc\tt\t1.5\t\\\\x00ff\t1970-01-01 00:00:00+00\n",
            "-20\t\t\\N\t1e+20\t\\N\t\\N\n"
        );
        assert_eq!(sample(Format::Tsv), expected);
    }

    #[test]
    fn json_is_an_array_of_objects() {
        let text = sample(Format::Json);
        let parsed: serde_json::Value = serde_json::from_str(&text).expect("well formed");
        let expected = serde_json::json!([
            {"id": 1, "name": "a,\"b\"\tc", "ok": true, "x": 1.5, "raw": "\\x00ff", "at": "1970-01-01T00:00:00Z"},
            {"id": -20, "name": "", "ok": null, "x": 1e20, "raw": null, "at": null},
        ]);
        assert_eq!(parsed, expected);
    }

    #[test]
    fn no_rows_and_equal_names() {
        let (mut out, bytes) = Out::memory();
        print(Format::Table, &[("a", Type::Text)], Vec::new(), &mut out);
        print(Format::Json, &[("a", Type::Text)], Vec::new(), &mut out);
        print(Format::Json, &[("a", Type::Text), ("a", Type::Text)], vec![vec![null(), null()]], &mut out);
        let bytes = bytes.lock().expect("one thread").clone();
        let expected = " a\n---\n(0 rows)\n\n[]\n[\n  {\"a\":null,\"a_2\":null}\n]\n";
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }

    #[test]
    fn doubles() {
        for (value, expected) in [
            (0.0, "0"),
            (0.1, "0.1"),
            (-1e-7, "-1e-07"),
            (123456.0, "123456"),
            (1e300, "1e+300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double(value), expected);
        }
    }
}
