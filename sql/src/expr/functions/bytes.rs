//! Functions of BYTEA, digests, and UUIDs.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use md5::Md5;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::{check_length, int_of, text_of};
use crate::SqlError;
use crate::expr::signature::short::{BYTES, I4, I8, TEXT, out};
use crate::expr::signature::{Signature, strict as f};
use crate::types::Datum;
use crate::value::bytes::{from_hex, hex, unescape};

/// Base64's lines, as PostgreSQL breaks them.
const LINE_CHARS: usize = 76;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

pub(super) const FUNCTIONS: &[Signature] = &[
    f("encode", &[BYTES, TEXT], out::TEXT, |a, _| encode(bytes(&a[0]), text_of(&a[1]))),
    f("decode", &[TEXT, TEXT], out::BYTES, |a, _| decode(text_of(&a[0]), text_of(&a[1])).map(Datum::Bytes)),
    f("md5", &[TEXT], out::TEXT, |a, _| Ok(Datum::Text(hex(&Md5::digest(text_of(&a[0]).as_bytes()))))),
    f("md5", &[BYTES], out::TEXT, |a, _| Ok(Datum::Text(hex(&Md5::digest(bytes(&a[0])))))),
    f("sha224", &[BYTES], out::BYTES, |a, _| Ok(Datum::Bytes(Sha224::digest(bytes(&a[0])).to_vec()))),
    f("sha256", &[BYTES], out::BYTES, |a, _| Ok(Datum::Bytes(Sha256::digest(bytes(&a[0])).to_vec()))),
    f("sha384", &[BYTES], out::BYTES, |a, _| Ok(Datum::Bytes(Sha384::digest(bytes(&a[0])).to_vec()))),
    f("sha512", &[BYTES], out::BYTES, |a, _| Ok(Datum::Bytes(Sha512::digest(bytes(&a[0])).to_vec()))),
    f("get_byte", &[BYTES, I4], out::I4, |a, _| {
        let at = index(bytes(&a[0]), int_of(&a[1]))?;
        Ok(Datum::Int(i64::from(bytes(&a[0])[at])))
    }),
    f("set_byte", &[BYTES, I4, I4], out::BYTES, |a, _| {
        let at = index(bytes(&a[0]), int_of(&a[1]))?;
        let mut changed = bytes(&a[0]).to_vec();
        changed[at] = int_of(&a[2]) as u8;
        Ok(Datum::Bytes(changed))
    }),
    f("get_bit", &[BYTES, I8], out::I4, |a, _| {
        let at = int_of(&a[1]);
        let byte = index(bytes(&a[0]), at.div_euclid(8))?;
        Ok(Datum::Int(i64::from(bytes(&a[0])[byte] >> at.rem_euclid(8) & 1)))
    }),
    f("substr", &[BYTES, I4], out::BYTES, |a, _| substr(bytes(&a[0]), int_of(&a[1]), None)),
    f("substr", &[BYTES, I4, I4], out::BYTES, |a, _| substr(bytes(&a[0]), int_of(&a[1]), Some(int_of(&a[2])))),
    f("substring", &[BYTES, I4], out::BYTES, |a, _| substr(bytes(&a[0]), int_of(&a[1]), None)),
    f("substring", &[BYTES, I4, I4], out::BYTES, |a, _| substr(bytes(&a[0]), int_of(&a[1]), Some(int_of(&a[2])))),
    f("position", &[BYTES, BYTES], out::I4, |a, _| {
        let (text, part) = (bytes(&a[0]), bytes(&a[1]));
        let found = if part.is_empty() { Some(0) } else { text.windows(part.len()).position(|window| window == part) };
        Ok(Datum::Int(found.map_or(0, |at| at as i64 + 1)))
    }),
    f("||", &[BYTES, BYTES], out::BYTES, |a, _| {
        check_length(bytes(&a[0]).len() + bytes(&a[1]).len())?;
        Ok(Datum::Bytes([bytes(&a[0]), bytes(&a[1])].concat()))
    }),
    f("convert_from", &[BYTES, TEXT], out::TEXT, |a, _| {
        utf8_name(text_of(&a[1]))?;
        let text = String::from_utf8(bytes(&a[0]).to_vec()).ok().filter(|text| !text.contains('\0'));
        text.map(Datum::Text).ok_or_else(|| SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\""))
    }),
    f("convert_to", &[TEXT, TEXT], out::BYTES, |a, _| {
        utf8_name(text_of(&a[1]))?;
        Ok(Datum::Bytes(text_of(&a[0]).as_bytes().to_vec()))
    }),
    f("gen_random_uuid", &[], out::UUID, |_, env| {
        let random = &env.context.random;
        let mut bytes = [random.random_u64().to_be_bytes(), random.random_u64().to_be_bytes()].concat();
        // Version 4, of RFC 9562.
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Ok(Datum::Uuid(bytes.try_into().expect("16 bytes")))
    })
    .changing(),
];

fn bytes(datum: &Datum) -> &[u8] {
    match datum {
        Datum::Bytes(bytes) => bytes,
        other => panic!("a function that takes bytes was given {other:?}"),
    }
}

fn utf8_name(name: &str) -> Result<(), SqlError> {
    match name.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
        "utf8" | "unicode" => Ok(()),
        _ => Err(SqlError::unsupported(format!("the encoding \"{name}\"")).hint("Use UTF8.")),
    }
}

fn index(bytes: &[u8], at: i64) -> Result<usize, SqlError> {
    usize::try_from(at)
        .ok()
        .filter(|at| *at < bytes.len())
        .ok_or_else(|| SqlError::new("2202E", format!("index {at} out of valid range, 0..{}", bytes.len() as i64 - 1)))
}

fn substr(bytes: &[u8], from: i64, len: Option<i64>) -> Result<Datum, SqlError> {
    let end = match len {
        Some(len) if len < 0 => return Err(SqlError::new("22011", "negative substring length not allowed")),
        Some(len) => from.saturating_add(len),
        None => i64::MAX,
    };
    let start = from.max(1);
    let count = end.saturating_sub(start).max(0) as usize;
    Ok(Datum::Bytes(bytes.iter().skip((start - 1) as usize).take(count).copied().collect()))
}

fn unknown_encoding(name: &str) -> SqlError {
    SqlError::new("22023", format!("unrecognized encoding: \"{name}\""))
}

fn encode(bytes: &[u8], form: &str) -> Result<Datum, SqlError> {
    check_length(bytes.len().saturating_mul(4))?;
    Ok(Datum::Text(match form.to_ascii_lowercase().as_str() {
        "hex" => hex(bytes),
        "base64" => {
            let whole = BASE64.encode(bytes);
            let lines: Vec<&str> =
                (0..whole.len()).step_by(LINE_CHARS).map(|at| &whole[at..(at + LINE_CHARS).min(whole.len())]).collect();
            lines.join("\n")
        }
        "escape" => {
            let mut out = String::with_capacity(bytes.len());
            for byte in bytes {
                match byte {
                    0 | 0x80.. => out.push_str(&format!("\\{byte:03o}")),
                    b'\\' => out.push_str("\\\\"),
                    byte => out.push(char::from(*byte)),
                }
            }
            out
        }
        _ => return Err(unknown_encoding(form)),
    }))
}

fn decode(text: &str, form: &str) -> Result<Vec<u8>, SqlError> {
    match form.to_ascii_lowercase().as_str() {
        "hex" => from_hex(text).ok_or_else(|| {
            let wrong = text.chars().find(|c| !c.is_ascii_hexdigit() && !c.is_ascii_whitespace());
            match wrong {
                Some(c) => SqlError::new("22023", format!("invalid hexadecimal digit: \"{c}\"")),
                None => SqlError::new("22023", "invalid hexadecimal data: odd number of digits"),
            }
        }),
        "base64" => {
            let plain: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            BASE64.decode(plain.as_bytes()).map_err(|_| {
                match plain.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '/' | '=')) {
                    Some(c) => {
                        SqlError::new("22023", format!("invalid symbol \"{c}\" found while decoding base64 sequence"))
                    }
                    None => SqlError::new("22023", "invalid base64 end sequence")
                        .hint("Input data is missing padding, is truncated, or is otherwise corrupted."),
                }
            })
        }
        "escape" => unescape(text).ok_or_else(|| SqlError::new("22P02", "invalid input syntax for type bytea")),
        _ => Err(unknown_encoding(form)),
    }
}
