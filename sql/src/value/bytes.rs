//! BYTEA: text in and out.

pub(super) fn push_hex(out: &mut String, byte: u8) {
    out.push(char::from_digit(u32::from(byte >> 4), 16).expect("a nibble"));
    out.push(char::from_digit(u32::from(byte & 15), 16).expect("a nibble"));
}

/// Hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    bytes.iter().for_each(|byte| push_hex(&mut out, *byte));
    out
}

/// From hexadecimal digits, with blanks between them or not.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// `\x` and hexadecimal digits, or text with `\\` and `\ooo`.
pub fn parse(text: &str) -> Option<Vec<u8>> {
    match text.strip_prefix("\\x") {
        Some(hex) => from_hex(hex),
        None => unescape(text),
    }
}

/// Text with `\\` and `\ooo`.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            bytes.push(byte);
        } else if let Some(tail) = rest.strip_prefix(b"\\") {
            bytes.push(b'\\');
            rest = tail;
        } else {
            let octal = rest.get(..3)?;
            let value = octal
                .iter()
                .try_fold(0u32, |acc, d| (b'0'..=b'7').contains(d).then(|| acc * 8 + u32::from(d - b'0')))?;
            bytes.push(u8::try_from(value).ok()?);
            rest = &rest[3..];
        }
    }
    Some(bytes)
}
