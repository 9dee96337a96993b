//! UUID: text in and out.

/// `a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11`.
pub fn to_text(bytes: &[u8; 16]) -> String {
    let mut out = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        super::bytes::push_hex(&mut out, *byte);
    }
    out
}

/// 32 hexadecimal digits, with a hyphen after any group of four, and braces around it or not.
pub fn parse(text: &str) -> Option<[u8; 16]> {
    let body = match text.strip_prefix('{') {
        Some(body) => body.strip_suffix('}')?,
        None => text,
    };
    let mut nibbles = 0usize;
    let mut out = [0u8; 16];
    let mut after_hyphen = true;
    for byte in body.bytes() {
        if byte == b'-' {
            if after_hyphen || !nibbles.is_multiple_of(4) || nibbles == 32 {
                return None;
            }
            after_hyphen = true;
            continue;
        }
        after_hyphen = false;
        let digit = char::from(byte).to_digit(16)? as u8;
        *out.get_mut(nibbles / 2)? |= if nibbles.is_multiple_of(2) { digit << 4 } else { digit };
        nibbles += 1;
    }
    (nibbles == 32 && !after_hyphen).then_some(out)
}
