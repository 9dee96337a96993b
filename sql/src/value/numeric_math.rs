//! Roots, exponentials and logarithms of NUMERIC, with as many digits as PostgreSQL gives.
//!
//! Computed in integers that stand for a fraction over a power of ten, with some digits more than are asked
//! for, and rounded once.

use num_bigint::BigInt;

use super::numeric::{Numeric, RESULT_SCALE_MAX, SIGNIFICANT_DIGITS_MIN, divide_rounded, overflow, pow10};
use crate::SqlError;

/// Digits computed beyond those of the result.
const GUARD_DIGITS: i64 = 12;
/// The largest exponent of e, as in PostgreSQL.
const EXPONENT_MAX: f64 = 6000.0;
const LOG10_E: f64 = std::f64::consts::LOG10_E;
const LN_10: f64 = std::f64::consts::LN_10;

/// A fraction over 10^scale.
struct Fixed {
    one: BigInt,
}

impl Fixed {
    fn new(scale: i64) -> Fixed {
        Fixed { one: pow10(scale.max(0) as u32) }
    }

    fn of(&self, v: &Numeric) -> BigInt {
        v.unscaled() * &self.one / pow10(u32::from(v.scale()))
    }

    fn mul(&self, a: &BigInt, b: &BigInt) -> BigInt {
        a * b / &self.one
    }

    /// artanh of a small number, times two: ln((1 + z) / (1 - z)).
    fn twice_artanh(&self, z: &BigInt) -> BigInt {
        let square = self.mul(z, z);
        let (mut power, mut sum, mut divisor) = (z.clone(), z.clone(), 1);
        loop {
            power = self.mul(&power, &square);
            divisor += 2;
            let term = &power / divisor;
            if term == BigInt::ZERO {
                return sum * 2;
            }
            sum += term;
        }
    }

    fn ln_2(&self) -> BigInt {
        self.twice_artanh(&(&self.one / 3))
    }

    /// ln of a number above 0.
    fn ln(&self, x: &BigInt) -> BigInt {
        // x = y * 2^halvings, y near 1.
        let halvings = x.bits() as i64 - self.one.bits() as i64;
        let y = if halvings >= 0 { x >> halvings as u64 } else { x << (-halvings) as u64 };
        let z = (&y - &self.one) * &self.one / (&y + &self.one);
        self.twice_artanh(&z) + self.ln_2() * halvings
    }

    /// e^x.
    fn exp(&self, x: &BigInt) -> BigInt {
        let ln_2 = self.ln_2();
        let doublings = divide_rounded(x, &ln_2);
        let rest = (x - &doublings * &ln_2) >> 8u32;
        let (mut term, mut sum, mut divisor) = (self.one.clone(), self.one.clone(), 0);
        loop {
            divisor += 1;
            term = self.mul(&term, &rest) / divisor;
            if term == BigInt::ZERO || term == BigInt::from(-1) {
                break;
            }
            sum += &term;
        }
        for _ in 0..8 {
            sum = self.mul(&sum, &sum);
        }
        let doublings = i64::try_from(&doublings).unwrap_or(0);
        if doublings >= 0 { sum << doublings as u64 } else { sum >> (-doublings) as u64 }
    }

    fn rounded(&self, value: &BigInt, scale: i64) -> Result<Numeric, SqlError> {
        Numeric::new(divide_rounded(&(value * pow10(scale as u32)), &self.one), scale)
    }
}

fn clamp(scale: i64) -> i64 {
    scale.clamp(0, RESULT_SCALE_MAX)
}

/// About log10 of |ln x|: PostgreSQL's `estimate_ln_dweight`.
fn ln_weight(x: &Numeric) -> i64 {
    let near_one = |bound: &str| x.compare(&Numeric::parse(bound).expect("a constant"));
    if near_one("0.9").is_ge() && near_one("1.1").is_le() {
        let difference = x.sub(&Numeric::from(1)).unwrap_or(Numeric::ZERO);
        if difference.is_zero() {
            return 0;
        }
        let (weight, first) = difference.leading_group();
        return weight * 4 + (first as f64).log10() as i64;
    }
    if x.is_zero() || x.is_negative() {
        return 0;
    }
    let digits: String = x.digit_text().chars().take(8).collect();
    let exponent = x.digits() - i64::from(x.scale()) - digits.len() as i64;
    let ln = digits.parse::<f64>().expect("digits").ln() + exponent as f64 * LN_10;
    if ln == 0.0 { 0 } else { ln.abs().log10() as i64 }
}

impl Numeric {
    /// The square root: 2201F of what is below 0.
    pub fn sqrt(&self) -> Result<Numeric, SqlError> {
        if self.is_negative() {
            return Err(SqlError::new("2201F", "cannot take square root of a negative number"));
        }
        let (weight, _) = self.leading_group();
        let root_weight = if weight >= 0 { weight * 2 + 1 } else { 1 - (1 - weight * 4) / 2 };
        let scale = clamp((SIGNIFICANT_DIGITS_MIN - root_weight).max(i64::from(self.scale())));
        // Of 4 * 10^2scale * x, so that the last bit rounds.
        let shift = 2 * scale - i64::from(self.scale());
        let unscaled: BigInt = self.unscaled() * 4;
        let radicand = if shift >= 0 { unscaled * pow10(shift as u32) } else { unscaled / pow10(-shift as u32) };
        Numeric::new((radicand.sqrt() + 1) / 2, scale)
    }

    /// e^x: 22003.
    pub fn exp(&self) -> Result<Numeric, SqlError> {
        let approximate = self.to_f64();
        let digits = (approximate * LOG10_E).clamp(-2000.0, 2000.0) as i64;
        let scale = clamp((SIGNIFICANT_DIGITS_MIN - digits).max(i64::from(self.scale())));
        self.exp_to(scale)
    }

    fn exp_to(&self, scale: i64) -> Result<Numeric, SqlError> {
        let approximate = self.to_f64();
        if approximate >= EXPONENT_MAX {
            return Err(overflow());
        }
        if approximate <= -EXPONENT_MAX {
            return Numeric::new(BigInt::ZERO, scale);
        }
        let whole_digits = (approximate * LOG10_E).max(0.0) as i64;
        let fixed = Fixed::new(scale + whole_digits + GUARD_DIGITS);
        fixed.rounded(&fixed.exp(&fixed.of(self)), scale)
    }

    fn check_logarithm(&self) -> Result<(), SqlError> {
        if self.is_zero() {
            return Err(SqlError::new("2201E", "cannot take logarithm of zero"));
        }
        if self.is_negative() {
            return Err(SqlError::new("2201E", "cannot take logarithm of a negative number"));
        }
        Ok(())
    }

    /// Precise enough for so many digits after the point.
    fn fixed_ln(&self, scale: i64) -> (Fixed, BigInt) {
        // Of a small number the digits begin late.
        let late = (i64::from(self.scale()) - self.digits()).max(0);
        let fixed = Fixed::new(scale + 2 * late + GUARD_DIGITS);
        let ln = fixed.ln(&fixed.of(self));
        (fixed, ln)
    }

    /// The natural logarithm: 2201E of what is not above 0.
    pub fn ln(&self) -> Result<Numeric, SqlError> {
        self.check_logarithm()?;
        let scale = clamp((SIGNIFICANT_DIGITS_MIN - ln_weight(self)).max(i64::from(self.scale())));
        let (fixed, ln) = self.fixed_ln(scale);
        fixed.rounded(&ln, scale)
    }

    /// The logarithm to a base: 2201E, 22012.
    pub fn log(&self, base: &Numeric) -> Result<Numeric, SqlError> {
        base.check_logarithm()?;
        self.check_logarithm()?;
        let weight = ln_weight(self) - ln_weight(base);
        let own = i64::from(self.scale()).max(i64::from(base.scale()));
        let scale = clamp((SIGNIFICANT_DIGITS_MIN - weight).max(own));
        let (fixed, ln) = self.fixed_ln(scale + 8);
        let (base_fixed, base_ln) = base.fixed_ln(scale + 8 + weight.abs());
        if base_ln == BigInt::ZERO {
            return Err(SqlError::new("22012", "division by zero"));
        }
        let numerator = ln * &base_fixed.one * pow10(scale as u32);
        Numeric::new(divide_rounded(&numerator, &(base_ln * &fixed.one)), scale)
    }

    /// x^y: 2201F where there is none, 22003.
    pub fn power(&self, exponent: &Numeric) -> Result<Numeric, SqlError> {
        let whole = exponent.round(0)?;
        let is_whole = whole.compare(exponent).is_eq();
        if self.is_zero() && exponent.is_negative() {
            return Err(SqlError::new("2201F", "zero raised to a negative power is undefined"));
        }
        if self.is_negative() && !is_whole {
            return Err(SqlError::new(
                "2201F",
                "a negative number raised to a non-integer power yields a complex result",
            ));
        }
        if is_whole && let Some(n) = whole.to_i64().and_then(|n| i32::try_from(n).ok()) {
            return self.power_whole(n);
        }
        if self.is_zero() {
            return Numeric::new(BigInt::ZERO, SIGNIFICANT_DIGITS_MIN);
        }
        let magnitude = self.abs();
        let (rough_fixed, rough) = magnitude.fixed_ln(8 - ln_weight(&magnitude).min(8) + 8);
        let rough = rough_fixed.rounded(&rough, 16)?.to_f64() * exponent.to_f64();
        if rough > EXPONENT_MAX {
            return Err(overflow());
        }
        if rough < -EXPONENT_MAX {
            return Numeric::new(BigInt::ZERO, RESULT_SCALE_MAX);
        }
        let own = i64::from(self.scale()).max(i64::from(exponent.scale()));
        let scale = clamp((SIGNIFICANT_DIGITS_MIN - (rough * LOG10_E) as i64).max(own));
        // The exponent's digits multiply the error of the logarithm.
        let whole_digits = (rough * LOG10_E).max(0.0) as i64;
        let precision = scale + whole_digits + exponent.digits() + GUARD_DIGITS;
        let (fixed, ln) = magnitude.fixed_ln(precision);
        let product = fixed.mul(&ln, &fixed.of(exponent));
        let result = fixed.rounded(&fixed.exp(&product), scale)?;
        let odd = self.is_negative() && whole.rem(&Numeric::from(2))?.compare(&Numeric::ZERO).is_ne();
        Ok(if odd { result.neg() } else { result })
    }

    fn power_whole(&self, n: i32) -> Result<Numeric, SqlError> {
        let scale = clamp(SIGNIFICANT_DIGITS_MIN.max(i64::from(self.scale())));
        if self.is_zero() {
            return Numeric::new(if n == 0 { BigInt::from(1) } else { BigInt::ZERO } * pow10(scale as u32), scale);
        }
        let log10 = (self.abs().to_f64().abs().log10()) * f64::from(n);
        if log10 > 131_072.0 {
            return Err(overflow());
        }
        if log10 < -(scale as f64) - 1.0 {
            return Numeric::new(BigInt::ZERO, scale);
        }
        // The factors keep the digits that the result shows, and those that their errors take.
        let kept = scale + log10.max(0.0) as i64 + i64::from(n.unsigned_abs().ilog2().max(1)) + GUARD_DIGITS;
        let limit = |v: Numeric| -> Result<Numeric, SqlError> {
            let cut = v.digits() - 2 * kept;
            if cut > 0 { v.round(i64::from(v.scale()) - cut) } else { Ok(v) }
        };
        let mut left = n.unsigned_abs();
        let (mut factor, mut result) = (self.clone(), Numeric::from(1));
        loop {
            if left & 1 == 1 {
                result = limit(result.mul(&factor)?)?;
            }
            left >>= 1;
            if left == 0 {
                break;
            }
            factor = limit(factor.mul(&factor)?)?;
        }
        if n < 0 { Numeric::from(1).div_to(&result, scale) } else { result.round(scale) }
    }
}
