//! NUMERIC: exact decimal numbers, by PostgreSQL's rules for the digits of a result.
//!
//! A value is an integer and how many of its digits stand after the point (its scale). `1.0` and `1.00`
//! are equal and print as they were made. Up to 18 digits the integer is a machine word; beyond, a
//! big one. There is neither NaN nor infinity.

use std::cmp::Ordering;
use std::fmt;

use num_bigint::{BigInt, Sign};

use crate::SqlError;

/// The most digits before the point, as in PostgreSQL.
pub const INTEGER_DIGITS_MAX: i64 = 131_072;
/// The most digits after the point, as in PostgreSQL.
pub const SCALE_MAX: i64 = 16_383;
/// A quotient has at least so many significant digits, as in PostgreSQL.
pub(super) const SIGNIFICANT_DIGITS_MIN: i64 = 16;
/// The most digits after the point that an inexact result has.
pub(super) const RESULT_SCALE_MAX: i64 = 1000;
/// The digits that PostgreSQL's weights are counted in: its digits are of base 10,000.
const GROUP: i64 = 4;

/// A number.
#[derive(Clone, PartialEq, Eq)]
pub struct Numeric {
    unscaled: Unscaled,
    scale: u16,
}

/// `Big` only if it does not fit into `Small`.
#[derive(Clone, PartialEq, Eq)]
enum Unscaled {
    Small(i64),
    Big(Box<BigInt>),
}

/// 22003.
pub(super) fn overflow() -> SqlError {
    SqlError::new("22003", "value overflows numeric format")
}

/// 10^n.
pub(super) fn pow10(n: u32) -> BigInt {
    BigInt::from(10).pow(n)
}

const SMALL_POWERS: [i64; 19] = {
    let mut powers = [1i64; 19];
    let mut at = 1;
    while at < 19 {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// The quotient, rounded half away from zero.
pub(super) fn divide_rounded(a: &BigInt, b: &BigInt) -> BigInt {
    let two = BigInt::from(2);
    let negative = (a.sign() == Sign::Minus) != (b.sign() == Sign::Minus);
    let (a, b) = (BigInt::from(a.magnitude().clone()), BigInt::from(b.magnitude().clone()));
    let quotient = (&a * &two + &b) / (&b * &two);
    if negative { -quotient } else { quotient }
}

impl Numeric {
    /// 0, with no digit after the point.
    pub const ZERO: Numeric = Numeric { unscaled: Unscaled::Small(0), scale: 0 };

    /// `unscaled / 10^scale`: 22003 if it has too many digits.
    pub fn new(unscaled: BigInt, scale: i64) -> Result<Numeric, SqlError> {
        let (unscaled, scale) = if scale < 0 {
            if -scale > INTEGER_DIGITS_MAX {
                if unscaled.sign() == Sign::NoSign {
                    return Ok(Numeric::ZERO);
                }
                return Err(overflow());
            }
            (unscaled * pow10(-scale as u32), 0)
        } else {
            (unscaled, scale)
        };
        if scale > SCALE_MAX {
            return Err(overflow());
        }
        let value = match i64::try_from(&unscaled) {
            Ok(small) => Numeric { unscaled: Unscaled::Small(small), scale: scale as u16 },
            Err(_) => Numeric { unscaled: Unscaled::Big(Box::new(unscaled)), scale: scale as u16 },
        };
        // Bits first: counting digits is dear, and 3.32 bits are a digit.
        if let Unscaled::Big(big) = &value.unscaled
            && big.bits() as i64 > (INTEGER_DIGITS_MAX + scale) * 3
            && value.digits() - scale > INTEGER_DIGITS_MAX
        {
            return Err(overflow());
        }
        Ok(value)
    }

    fn small(unscaled: i64, scale: u16) -> Numeric {
        Numeric { unscaled: Unscaled::Small(unscaled), scale }
    }

    /// The number without its point.
    pub fn unscaled(&self) -> BigInt {
        match &self.unscaled {
            Unscaled::Small(v) => BigInt::from(*v),
            Unscaled::Big(v) => (**v).clone(),
        }
    }

    /// The number without its point, if it fits.
    pub fn unscaled_i128(&self) -> Option<i128> {
        match &self.unscaled {
            Unscaled::Small(v) => Some(i128::from(*v)),
            Unscaled::Big(v) => i128::try_from(&**v).ok(),
        }
    }

    /// From a number without its point; 22003 if the scale is more than [`SCALE_MAX`].
    pub fn from_i128(unscaled: i128, scale: u16) -> Result<Numeric, SqlError> {
        match i64::try_from(unscaled) {
            Ok(small) if i64::from(scale) <= SCALE_MAX => Ok(Numeric::small(small, scale)),
            _ => Numeric::new(BigInt::from(unscaled), i64::from(scale)),
        }
    }

    /// Digits after the point.
    pub fn scale(&self) -> u16 {
        self.scale
    }

    /// Whether it is 0.
    pub fn is_zero(&self) -> bool {
        self.unscaled == Unscaled::Small(0)
    }

    /// Whether it is below 0.
    pub fn is_negative(&self) -> bool {
        match &self.unscaled {
            Unscaled::Small(v) => *v < 0,
            Unscaled::Big(v) => v.sign() == Sign::Minus,
        }
    }

    /// About how much memory it takes beside itself, in bytes.
    pub fn heap_bytes(&self) -> usize {
        match &self.unscaled {
            Unscaled::Small(_) => 0,
            Unscaled::Big(v) => 32 + (v.bits() / 8) as usize,
        }
    }

    /// The digits without sign and point.
    pub(crate) fn digit_text(&self) -> String {
        match &self.unscaled {
            Unscaled::Small(v) => v.unsigned_abs().to_string(),
            Unscaled::Big(v) => v.magnitude().to_string(),
        }
    }

    /// How many digits there are, leading zeros not counted; 1 for 0.
    pub(super) fn digits(&self) -> i64 {
        self.digit_text().len() as i64
    }

    /// From text: 22P02, 22003.
    pub fn parse(text: &str) -> Result<Numeric, SqlError> {
        let bad = || {
            let shown: String = text.chars().take(100).collect();
            SqlError::new("22P02", format!("invalid input syntax for type numeric: \"{shown}\""))
        };
        let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace());
        let (negative, unsigned) = match trimmed.as_bytes().first() {
            Some(b'-') => (true, &trimmed[1..]),
            Some(b'+') => (false, &trimmed[1..]),
            _ => (false, trimmed),
        };
        if matches!(unsigned.to_ascii_lowercase().as_str(), "nan" | "inf" | "infinity") {
            return Err(SqlError::unsupported(format!("the numeric value {unsigned}"))
                .hint("Use DOUBLE PRECISION for what is not a number or infinite."));
        }
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => {
                let digits = &unsigned[at + 1..];
                let plain = digits.strip_prefix(['+', '-']).unwrap_or(digits);
                if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(bad());
                }
                let exponent: i64 = digits.parse().map_err(|_| overflow())?;
                if exponent.abs() > 2 * INTEGER_DIGITS_MAX {
                    return Err(overflow());
                }
                (&unsigned[..at], exponent)
            }
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let count = whole.len() + fraction.len();
        if count == 0 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let scale = fraction.len() as i64 - exponent;
        let result = if count <= 18 && (0..=SCALE_MAX).contains(&scale) {
            let digits = whole.bytes().chain(fraction.bytes());
            let value = digits.fold(0i64, |acc, b| acc * 10 + i64::from(b - b'0'));
            Numeric::small(value, scale as u16)
        } else {
            let significant = whole.trim_start_matches('0').len() as i64;
            if significant + exponent > INTEGER_DIGITS_MAX || fraction.len() as i64 > 2 * SCALE_MAX {
                return Err(overflow());
            }
            let unscaled: BigInt = format!("{whole}{fraction}").parse().map_err(|_| bad())?;
            if scale > SCALE_MAX {
                // As PostgreSQL: what does not fit after the point is rounded.
                let cut = u32::try_from(scale - SCALE_MAX).map_err(|_| overflow())?;
                Numeric::new(divide_rounded(&unscaled, &pow10(cut)), SCALE_MAX)?
            } else {
                Numeric::new(unscaled, scale)?
            }
        };
        Ok(if negative { result.neg() } else { result })
    }

    /// -x.
    pub fn neg(&self) -> Numeric {
        match &self.unscaled {
            Unscaled::Small(v) if *v != i64::MIN => Numeric::small(-v, self.scale),
            _ => self.rebuilt(-self.unscaled(), self.scale),
        }
    }

    /// |x|.
    pub fn abs(&self) -> Numeric {
        if self.is_negative() { self.neg() } else { self.clone() }
    }

    /// As [`Numeric::new`], for what has no more digits than a number that there is.
    fn rebuilt(&self, unscaled: BigInt, scale: u16) -> Numeric {
        match i64::try_from(&unscaled) {
            Ok(small) => Numeric::small(small, scale),
            Err(_) => Numeric { unscaled: Unscaled::Big(Box::new(unscaled)), scale },
        }
    }

    /// By value: 1.0 and 1.00 are equal here, though `==` tells them apart.
    pub fn compare(&self, other: &Numeric) -> Ordering {
        if let Some((a, b, _)) = self.aligned_small(other) {
            return a.cmp(&b);
        }
        let (a, b, _) = self.aligned(other);
        a.cmp(&b)
    }

    /// Both without their points, at the larger scale.
    fn aligned(&self, other: &Numeric) -> (BigInt, BigInt, u16) {
        let scale = self.scale.max(other.scale);
        (self.unscaled_at(scale), other.unscaled_at(scale), scale)
    }

    fn unscaled_at(&self, scale: u16) -> BigInt {
        match scale - self.scale {
            0 => self.unscaled(),
            more => self.unscaled() * pow10(u32::from(more)),
        }
    }

    /// As `aligned`, in machine words.
    fn aligned_small(&self, other: &Numeric) -> Option<(i128, i128, u16)> {
        let (Unscaled::Small(a), Unscaled::Small(b)) = (&self.unscaled, &other.unscaled) else { return None };
        let scale = self.scale.max(other.scale);
        let up = |v: i64, from: u16| {
            let power = SMALL_POWERS.get(usize::from(scale - from))?;
            Some(i128::from(v) * i128::from(*power))
        };
        Some((up(*a, self.scale)?, up(*b, other.scale)?, scale))
    }

    /// a + b.
    pub fn add(&self, other: &Numeric) -> Result<Numeric, SqlError> {
        if let Some((a, b, scale)) = self.aligned_small(other) {
            return Numeric::from_i128(a + b, scale);
        }
        let (a, b, scale) = self.aligned(other);
        Numeric::new(a + b, i64::from(scale))
    }

    /// a - b.
    pub fn sub(&self, other: &Numeric) -> Result<Numeric, SqlError> {
        self.add(&other.neg())
    }

    /// a * b.
    pub fn mul(&self, other: &Numeric) -> Result<Numeric, SqlError> {
        let scale = i64::from(self.scale) + i64::from(other.scale);
        if let (Unscaled::Small(a), Unscaled::Small(b)) = (&self.unscaled, &other.unscaled)
            && scale <= SCALE_MAX
        {
            return Numeric::from_i128(i128::from(*a) * i128::from(*b), scale as u16);
        }
        let product = self.unscaled() * other.unscaled();
        if scale > SCALE_MAX {
            let cut = (scale - SCALE_MAX) as u32;
            return Numeric::new(divide_rounded(&product, &pow10(cut)), SCALE_MAX);
        }
        Numeric::new(product, scale)
    }

    /// The weight of the first digit of base 10,000, and that digit; (0, 0) for 0.
    pub(super) fn leading_group(&self) -> (i64, i64) {
        if self.is_zero() {
            return (0, 0);
        }
        let digits = self.digit_text();
        let exponent = digits.len() as i64 - 1 - i64::from(self.scale);
        let weight = exponent.div_euclid(GROUP);
        let width = (exponent - weight * GROUP + 1) as usize;
        let mut first: i64 = digits[..width.min(digits.len())].parse().expect("digits");
        for _ in digits.len()..width {
            first *= 10;
        }
        (weight, first)
    }

    /// The digits after the point of a quotient: PostgreSQL's `select_div_scale`.
    fn quotient_scale(&self, divisor: &Numeric) -> i64 {
        let (weight, first) = self.leading_group();
        let (other_weight, other_first) = divisor.leading_group();
        let mut quotient_weight = weight - other_weight;
        if first <= other_first {
            quotient_weight -= 1;
        }
        (SIGNIFICANT_DIGITS_MIN - quotient_weight * GROUP)
            .max(i64::from(self.scale))
            .max(i64::from(divisor.scale))
            .clamp(0, RESULT_SCALE_MAX)
    }

    /// a / b, rounded: 22012.
    pub fn div(&self, other: &Numeric) -> Result<Numeric, SqlError> {
        if other.is_zero() {
            return Err(SqlError::new("22012", "division by zero"));
        }
        self.div_to(other, self.quotient_scale(other))
    }

    /// a / b, rounded to so many digits after the point.
    pub(crate) fn div_to(&self, other: &Numeric, scale: i64) -> Result<Numeric, SqlError> {
        let shift = scale - i64::from(self.scale) + i64::from(other.scale);
        let (mut a, mut b) = (self.unscaled(), other.unscaled());
        if shift >= 0 {
            a *= pow10(shift as u32);
        } else {
            b *= pow10(-shift as u32);
        }
        Numeric::new(divide_rounded(&a, &b), scale)
    }

    /// The whole part of a / b: 22012.
    pub fn div_whole(&self, other: &Numeric) -> Result<Numeric, SqlError> {
        if other.is_zero() {
            return Err(SqlError::new("22012", "division by zero"));
        }
        let (a, b, _) = self.aligned(other);
        Numeric::new(a / b, 0)
    }

    /// The rest of a division, with the sign of `self`: 22012.
    pub fn rem(&self, other: &Numeric) -> Result<Numeric, SqlError> {
        if other.is_zero() {
            return Err(SqlError::new("22012", "division by zero"));
        }
        if let Some((a, b, scale)) = self.aligned_small(other) {
            return Numeric::from_i128(a % b, scale);
        }
        let (a, b, scale) = self.aligned(other);
        Numeric::new(a % b, i64::from(scale))
    }

    /// With so many digits after the point, rounded half away from zero; negative: before it.
    pub fn round(&self, scale: i64) -> Result<Numeric, SqlError> {
        self.to_scale(scale, true)
    }

    /// With so many digits after the point, the others cut off; negative: before it.
    pub fn trunc(&self, scale: i64) -> Result<Numeric, SqlError> {
        self.to_scale(scale, false)
    }

    fn to_scale(&self, scale: i64, round: bool) -> Result<Numeric, SqlError> {
        let scale = scale.clamp(-INTEGER_DIGITS_MAX - 1, SCALE_MAX);
        let own = i64::from(self.scale);
        if scale >= own {
            return Numeric::new(self.unscaled_at(scale as u16), scale);
        }
        let cut = pow10((own - scale) as u32);
        let unscaled = if round { divide_rounded(&self.unscaled(), &cut) } else { self.unscaled() / cut };
        Numeric::new(unscaled, scale)
    }

    /// The largest whole number that is not above.
    pub fn floor(&self) -> Result<Numeric, SqlError> {
        let whole = self.trunc(0)?;
        if self.is_negative() && whole.compare(self).is_ne() { whole.sub(&Numeric::from(1)) } else { Ok(whole) }
    }

    /// The least whole number that is not below.
    pub fn ceil(&self) -> Result<Numeric, SqlError> {
        Ok(self.neg().floor()?.neg())
    }

    /// Without zeros at the end of the fraction.
    pub fn trimmed(&self) -> Numeric {
        let zeros = self.digit_text().bytes().rev().take_while(|b| *b == b'0').count();
        let cut = if self.is_zero() { self.scale } else { self.scale.min(zeros as u16) };
        if cut == 0 {
            return self.clone();
        }
        self.rebuilt(self.unscaled() / pow10(u32::from(cut)), self.scale - cut)
    }

    /// As NUMERIC(precision, scale): rounded; 22003 if it has too many digits before the point.
    pub fn with_precision(&self, precision: u16, scale: i16) -> Result<Numeric, SqlError> {
        let rounded = self.round(i64::from(scale))?;
        let digits = rounded.digits() - i64::from(rounded.scale);
        let most = i64::from(precision) - i64::from(scale);
        if !rounded.is_zero() && digits > most {
            let limit = if most == 0 { "1".to_string() } else { format!("10^{most}") };
            return Err(SqlError::new("22003", "numeric field overflow").detail(format!(
                "A field with precision {precision}, scale {scale} must round to an absolute value less than {limit}."
            )));
        }
        Ok(rounded)
    }

    /// Rounded to a whole number; `None` if it does not fit.
    pub fn to_i64(&self) -> Option<i64> {
        match &self.unscaled {
            Unscaled::Small(v) if self.scale == 0 => Some(*v),
            _ => self.round(0).ok().and_then(|whole| i64::try_from(&whole.unscaled()).ok()),
        }
    }

    /// The nearest double; infinite if it is too large.
    pub fn to_f64(&self) -> f64 {
        self.to_string().parse().expect("a numeric's text is a float's")
    }

    /// The nearest real; infinite if it is too large.
    pub fn to_f32(&self) -> f32 {
        self.to_string().parse().expect("a numeric's text is a float's")
    }

    /// From a float, with its first 15 significant digits, as PostgreSQL does: 22003 for what is no number.
    pub fn from_f64(v: f64) -> Result<Numeric, SqlError> {
        Numeric::from_float(v, 14)
    }

    /// From a real, with its first 6 significant digits, as PostgreSQL does.
    pub fn from_f32(v: f32) -> Result<Numeric, SqlError> {
        Numeric::from_float(f64::from(v), 5)
    }

    fn from_float(v: f64, digits_after_first: usize) -> Result<Numeric, SqlError> {
        if !v.is_finite() {
            return Err(SqlError::unsupported("NaN or infinity as a numeric"));
        }
        let text = format!("{v:.digits_after_first$e}");
        let (mantissa, exponent) = text.split_once('e').expect("`{:e}` has an exponent");
        let mantissa =
            if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
        Numeric::parse(&format!("{mantissa}e{exponent}"))
    }
}

impl From<i64> for Numeric {
    fn from(v: i64) -> Numeric {
        Numeric::small(v, 0)
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digit_text();
        let scale = usize::from(self.scale);
        let sign = if self.is_negative() { "-" } else { "" };
        if scale == 0 {
            return write!(f, "{sign}{digits}");
        }
        let digits = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

impl fmt::Debug for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
