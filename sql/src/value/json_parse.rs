//! Reading JSON (RFC 8259), with PostgreSQL's errors.

use super::json::{DEPTH_MAX, Json};
use super::numeric::Numeric;
use crate::SqlError;

/// From text: 22P02 if it is no JSON, 54001 if it is nested too deeply.
pub(super) fn parse(text: &str) -> Result<Json, SqlError> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    let value = reader.value()?;
    reader.blanks();
    if reader.at < text.len() {
        return Err(reader.unexpected("end of input"));
    }
    Ok(value)
}

fn bad(detail: String) -> SqlError {
    SqlError::new("22P02", "invalid input syntax for type json").detail(detail)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.blanks();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// The word, number or sign that comes next.
    fn token(&self) -> &str {
        let rest = self.rest();
        let word = rest
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'+' | b'-') || *b >= 0x80);
        let count = word.count();
        if count > 0 { &rest[..count] } else { &rest[..rest.chars().next().map_or(0, char::len_utf8)] }
    }

    fn unexpected(&self, expected: &str) -> SqlError {
        if self.rest().is_empty() {
            return bad("The input string ended unexpectedly.".into());
        }
        let token: String = self.token().chars().take(60).collect();
        let known =
            matches!(token.as_str(), "true" | "false" | "null") || token.len() == 1 && "{}[],:\"".contains(&token);
        let is_number = number_len(&token) == Some(token.len());
        if known || is_number {
            bad(format!("Expected {expected}, but found \"{token}\"."))
        } else {
            bad(format!("Token \"{token}\" is invalid."))
        }
    }

    fn value(&mut self) -> Result<Json, SqlError> {
        self.blanks();
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(Json::String),
            Some(_) => self.scalar(),
            None => Err(self.unexpected("JSON value")),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Json, SqlError>) -> Result<Json, SqlError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(SqlError::new("54001", "a JSON value is nested too deeply")
                .detail(format!("It has at most {DEPTH_MAX} levels.")));
        }
        self.at += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn scalar(&mut self) -> Result<Json, SqlError> {
        let token = self.token();
        let value = match token {
            "null" => Json::Null,
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            _ if number_len(token) == Some(token.len()) => Json::Number(Numeric::parse(token)?),
            _ => return Err(self.unexpected("JSON value")),
        };
        self.at += token.len();
        Ok(value)
    }

    fn array(&mut self) -> Result<Json, SqlError> {
        let mut items = Vec::new();
        if self.eat(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value()?);
            if self.eat(b']') {
                return Ok(Json::Array(items));
            }
            if !self.eat(b',') {
                return Err(self.unexpected("\",\" or \"]\""));
            }
        }
    }

    fn object(&mut self) -> Result<Json, SqlError> {
        let mut pairs = Vec::new();
        if self.eat(b'}') {
            return Ok(Json::Object(pairs));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected(if pairs.is_empty() { "string or \"}\"" } else { "string" }));
            }
            let key = self.string()?;
            if !self.eat(b':') {
                return Err(self.unexpected("\":\""));
            }
            pairs.push((key, self.value()?));
            if self.eat(b'}') {
                return Ok(Json::object(pairs));
            }
            if !self.eat(b',') {
                return Err(self.unexpected("\",\" or \"}\""));
            }
        }
    }

    fn string(&mut self) -> Result<String, SqlError> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let plain = self.rest().find(|c: char| c == '"' || c == '\\' || c < ' ');
            let Some(plain) = plain else {
                let token: String = self.text[start..].chars().take(60).collect();
                return Err(bad(format!("Token \"{token}\" is invalid.")));
            };
            out.push_str(&self.text[self.at..self.at + plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let c = self.escape()?;
                    out.push(c);
                }
                Some(byte) => return Err(bad(format!("Character with value 0x{byte:02x} must be escaped."))),
                None => return Err(self.unexpected("string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, SqlError> {
        let byte = self.peek().ok_or_else(|| self.unexpected("string"))?;
        let c = match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unicode();
            }
            _ => {
                let c = self.rest().chars().next().unwrap_or('?');
                return Err(bad(format!("Escape sequence \"\\{c}\" is invalid.")));
            }
        };
        self.at += 1;
        Ok(c)
    }

    fn hex4(&mut self) -> Result<u32, SqlError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else {
            return Err(bad("\"\\u\" must be followed by four hexadecimal digits.".into()));
        };
        self.at += 4;
        Ok(digits.iter().fold(0, |acc, digit| acc * 16 + char::from(*digit).to_digit(16).expect("a hexadecimal digit")))
    }

    fn unicode(&mut self) -> Result<char, SqlError> {
        let first = self.hex4()?;
        if first == 0 {
            return Err(SqlError::new("22P05", "unsupported Unicode escape sequence")
                .detail("\\u0000 cannot be converted to text."));
        }
        let code = match first {
            0xd800..=0xdbff => {
                if !self.rest().starts_with("\\u") {
                    return Err(bad("Unicode low surrogate must follow a high surrogate.".into()));
                }
                self.at += 2;
                let second = self.hex4()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(bad("Unicode low surrogate must follow a high surrogate.".into()));
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| bad("Unicode low surrogate must follow a high surrogate.".into()))
    }
}

/// How much of the front of a text is a JSON number.
fn number_len(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && bytes[at] == b'0') {
        return None;
    }
    at += whole;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        if exponent == 0 {
            return None;
        }
        at += 1 + sign + exponent;
    }
    Some(at)
}
