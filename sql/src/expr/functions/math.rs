//! Functions of numbers.

use super::{check_float, division_by_zero, float_of, int_of};
use crate::SqlError;
use crate::expr::signature::short::{F4, F8, I2, I4, I8, NUM, out};
use crate::expr::signature::{Signature, strict as f};
use crate::types::{DataType, Datum, Numeric};
use crate::value::integer_out_of_range;

pub(super) const FUNCTIONS: &[Signature] = &[
    f("abs", &[I2], out::I2, |a, _| abs_int(&a[0], DataType::Int2)),
    f("abs", &[I4], out::I4, |a, _| abs_int(&a[0], DataType::Int4)),
    f("abs", &[I8], out::I8, |a, _| abs_int(&a[0], DataType::Int)),
    f("abs", &[NUM], out::NUM, |a, _| Ok(Datum::Numeric(num(&a[0]).abs()))),
    f("abs", &[F4], out::F4, |a, _| Ok(Datum::Float4(real(&a[0]).abs()))),
    f("abs", &[F8], out::F8, |a, _| Ok(Datum::Float(float_of(&a[0]).abs()))),
    f("ceil", &[NUM], out::NUM, |a, _| num(&a[0]).ceil().map(Datum::Numeric)),
    f("ceil", &[F8], out::F8, |a, _| Ok(Datum::Float(float_of(&a[0]).ceil()))),
    f("ceiling", &[NUM], out::NUM, |a, _| num(&a[0]).ceil().map(Datum::Numeric)),
    f("ceiling", &[F8], out::F8, |a, _| Ok(Datum::Float(float_of(&a[0]).ceil()))),
    f("floor", &[NUM], out::NUM, |a, _| num(&a[0]).floor().map(Datum::Numeric)),
    f("floor", &[F8], out::F8, |a, _| Ok(Datum::Float(float_of(&a[0]).floor()))),
    f("round", &[NUM], out::NUM, |a, _| num(&a[0]).round(0).map(Datum::Numeric)),
    f("round", &[NUM, I4], out::NUM, |a, _| num(&a[0]).round(int_of(&a[1])).map(Datum::Numeric)),
    f("round", &[F8], out::F8, |a, _| Ok(Datum::Float(float_of(&a[0]).round_ties_even()))),
    f("trunc", &[NUM], out::NUM, |a, _| num(&a[0]).trunc(0).map(Datum::Numeric)),
    f("trunc", &[NUM, I4], out::NUM, |a, _| num(&a[0]).trunc(int_of(&a[1])).map(Datum::Numeric)),
    f("trunc", &[F8], out::F8, |a, _| Ok(Datum::Float(float_of(&a[0]).trunc()))),
    f("sign", &[NUM], out::NUM, |a, _| Ok(Datum::Numeric(Numeric::from(num(&a[0]).compare(&Numeric::ZERO) as i64)))),
    f("sign", &[F8], out::F8, |a, _| {
        let v = float_of(&a[0]);
        Ok(Datum::Float(if v == 0.0 { 0.0 } else { v.signum() }))
    }),
    f("sqrt", &[NUM], out::NUM, |a, _| num(&a[0]).sqrt().map(Datum::Numeric)),
    f("sqrt", &[F8], out::F8, |a, _| sqrt(float_of(&a[0]))),
    f("|/", &[F8], out::F8, |a, _| sqrt(float_of(&a[0]))),
    f("cbrt", &[F8], out::F8, |a, _| Ok(Datum::Float(float_of(&a[0]).cbrt()))),
    f("||/", &[F8], out::F8, |a, _| Ok(Datum::Float(float_of(&a[0]).cbrt()))),
    f("@", &[I8], out::I8, |a, _| abs_int(&a[0], DataType::Int)),
    f("@", &[NUM], out::NUM, |a, _| Ok(Datum::Numeric(num(&a[0]).abs()))),
    f("@", &[F8], out::F8, |a, _| Ok(Datum::Float(float_of(&a[0]).abs()))),
    f("power", &[NUM, NUM], out::NUM, |a, _| num(&a[0]).power(num(&a[1])).map(Datum::Numeric)),
    f("power", &[F8, F8], out::F8, |a, _| power(float_of(&a[0]), float_of(&a[1]))),
    f("pow", &[NUM, NUM], out::NUM, |a, _| num(&a[0]).power(num(&a[1])).map(Datum::Numeric)),
    f("pow", &[F8, F8], out::F8, |a, _| power(float_of(&a[0]), float_of(&a[1]))),
    f("^", &[NUM, NUM], out::NUM, |a, _| num(&a[0]).power(num(&a[1])).map(Datum::Numeric)),
    f("^", &[F8, F8], out::F8, |a, _| power(float_of(&a[0]), float_of(&a[1]))),
    f("exp", &[NUM], out::NUM, |a, _| num(&a[0]).exp().map(Datum::Numeric)),
    f("exp", &[F8], out::F8, |a, _| {
        let v = float_of(&a[0]);
        let result = check_float(v.exp(), &[v])?;
        if result == 0.0 && v.is_finite() { Err(underflow()) } else { Ok(Datum::Float(result)) }
    }),
    f("ln", &[NUM], out::NUM, |a, _| num(&a[0]).ln().map(Datum::Numeric)),
    f("ln", &[F8], out::F8, |a, _| logarithm(float_of(&a[0]), f64::ln)),
    f("log", &[NUM], out::NUM, |a, _| num(&a[0]).log(&Numeric::from(10)).map(Datum::Numeric)),
    f("log", &[NUM, NUM], out::NUM, |a, _| num(&a[1]).log(num(&a[0])).map(Datum::Numeric)),
    f("log", &[F8], out::F8, |a, _| logarithm(float_of(&a[0]), f64::log10)),
    f("log10", &[NUM], out::NUM, |a, _| num(&a[0]).log(&Numeric::from(10)).map(Datum::Numeric)),
    f("log10", &[F8], out::F8, |a, _| logarithm(float_of(&a[0]), f64::log10)),
    f("mod", &[I2, I2], out::I2, |a, _| rest(&a[0], &a[1])),
    f("mod", &[I4, I4], out::I4, |a, _| rest(&a[0], &a[1])),
    f("mod", &[I8, I8], out::I8, |a, _| rest(&a[0], &a[1])),
    f("mod", &[NUM, NUM], out::NUM, |a, _| num(&a[0]).rem(num(&a[1])).map(Datum::Numeric)),
    f("div", &[NUM, NUM], out::NUM, |a, _| num(&a[0]).div_whole(num(&a[1])).map(Datum::Numeric)),
    f("gcd", &[I4, I4], out::I4, |a, _| gcd(&a[0], &a[1], DataType::Int4)),
    f("gcd", &[I8, I8], out::I8, |a, _| gcd(&a[0], &a[1], DataType::Int)),
    f("lcm", &[I4, I4], out::I4, |a, _| lcm(&a[0], &a[1], DataType::Int4)),
    f("lcm", &[I8, I8], out::I8, |a, _| lcm(&a[0], &a[1], DataType::Int)),
    f("factorial", &[I8], out::NUM, |a, _| factorial(int_of(&a[0]))),
    f("scale", &[NUM], out::I4, |a, _| Ok(Datum::Int(i64::from(num(&a[0]).scale())))),
    f("min_scale", &[NUM], out::I4, |a, _| Ok(Datum::Int(i64::from(num(&a[0]).trimmed().scale())))),
    f("trim_scale", &[NUM], out::NUM, |a, _| Ok(Datum::Numeric(num(&a[0]).trimmed()))),
    f("width_bucket", &[F8, F8, F8, I4], out::I4, |a, _| {
        width_bucket(float_of(&a[0]), float_of(&a[1]), float_of(&a[2]), int_of(&a[3]))
    }),
    f("pi", &[], out::F8, |_, _| Ok(Datum::Float(std::f64::consts::PI))),
    f("degrees", &[F8], out::F8, |a, _| Ok(Datum::Float(float_of(&a[0]).to_degrees()))),
    f("radians", &[F8], out::F8, |a, _| Ok(Datum::Float(float_of(&a[0]).to_radians()))),
    f("sin", &[F8], out::F8, |a, _| finite(float_of(&a[0]), f64::sin)),
    f("cos", &[F8], out::F8, |a, _| finite(float_of(&a[0]), f64::cos)),
    f("tan", &[F8], out::F8, |a, _| finite(float_of(&a[0]), f64::tan)),
    f("cot", &[F8], out::F8, |a, _| finite(float_of(&a[0]), |v| 1.0 / v.tan())),
    f("asin", &[F8], out::F8, |a, _| within_one(float_of(&a[0]), f64::asin)),
    f("acos", &[F8], out::F8, |a, _| within_one(float_of(&a[0]), f64::acos)),
    f("atan", &[F8], out::F8, |a, _| Ok(Datum::Float(float_of(&a[0]).atan()))),
    f("atan2", &[F8, F8], out::F8, |a, _| Ok(Datum::Float(float_of(&a[0]).atan2(float_of(&a[1]))))),
    f("sinh", &[F8], out::F8, |a, _| Ok(Datum::Float(float_of(&a[0]).sinh()))),
    f("cosh", &[F8], out::F8, |a, _| Ok(Datum::Float(float_of(&a[0]).cosh()))),
    f("tanh", &[F8], out::F8, |a, _| Ok(Datum::Float(float_of(&a[0]).tanh()))),
    f("random", &[], out::F8, |_, env| {
        // 53 bits: as many as a double between 0 and 1 has.
        Ok(Datum::Float((env.context.random.random_u64() >> 11) as f64 / (1u64 << 53) as f64))
    })
    .changing(),
    f("&", &[I2, I2], out::I2, |a, _| Ok(Datum::Int(int_of(&a[0]) & int_of(&a[1])))),
    f("&", &[I4, I4], out::I4, |a, _| Ok(Datum::Int(int_of(&a[0]) & int_of(&a[1])))),
    f("&", &[I8, I8], out::I8, |a, _| Ok(Datum::Int(int_of(&a[0]) & int_of(&a[1])))),
    f("|", &[I2, I2], out::I2, |a, _| Ok(Datum::Int(int_of(&a[0]) | int_of(&a[1])))),
    f("|", &[I4, I4], out::I4, |a, _| Ok(Datum::Int(int_of(&a[0]) | int_of(&a[1])))),
    f("|", &[I8, I8], out::I8, |a, _| Ok(Datum::Int(int_of(&a[0]) | int_of(&a[1])))),
    f("#", &[I2, I2], out::I2, |a, _| Ok(Datum::Int(int_of(&a[0]) ^ int_of(&a[1])))),
    f("#", &[I4, I4], out::I4, |a, _| Ok(Datum::Int(int_of(&a[0]) ^ int_of(&a[1])))),
    f("#", &[I8, I8], out::I8, |a, _| Ok(Datum::Int(int_of(&a[0]) ^ int_of(&a[1])))),
    f("~", &[I2], out::I2, |a, _| Ok(Datum::Int(!int_of(&a[0])))),
    f("~", &[I4], out::I4, |a, _| Ok(Datum::Int(!int_of(&a[0])))),
    f("~", &[I8], out::I8, |a, _| Ok(Datum::Int(!int_of(&a[0])))),
    f("<<", &[I2, I4], out::I2, |a, _| {
        Ok(Datum::Int(i64::from((int_of(&a[0]) as i32).wrapping_shl(int_of(&a[1]) as u32) as i16)))
    }),
    f("<<", &[I4, I4], out::I4, |a, _| {
        Ok(Datum::Int(i64::from((int_of(&a[0]) as i32).wrapping_shl(int_of(&a[1]) as u32))))
    }),
    f("<<", &[I8, I4], out::I8, |a, _| Ok(Datum::Int(int_of(&a[0]).wrapping_shl(int_of(&a[1]) as u32)))),
    f(">>", &[I2, I4], out::I2, |a, _| {
        Ok(Datum::Int(i64::from((int_of(&a[0]) as i32).wrapping_shr(int_of(&a[1]) as u32))))
    }),
    f(">>", &[I4, I4], out::I4, |a, _| {
        Ok(Datum::Int(i64::from((int_of(&a[0]) as i32).wrapping_shr(int_of(&a[1]) as u32))))
    }),
    f(">>", &[I8, I4], out::I8, |a, _| Ok(Datum::Int(int_of(&a[0]).wrapping_shr(int_of(&a[1]) as u32)))),
];

fn num(datum: &Datum) -> &Numeric {
    match datum {
        Datum::Numeric(v) => v,
        other => panic!("a function that takes a numeric was given {other:?}"),
    }
}

fn real(datum: &Datum) -> f32 {
    match datum {
        Datum::Float4(v) => *v,
        other => panic!("a function that takes a real was given {other:?}"),
    }
}

fn underflow() -> SqlError {
    SqlError::new("22003", "value out of range: underflow")
}

fn abs_int(datum: &Datum, ty: DataType) -> Result<Datum, SqlError> {
    let result = int_of(datum).checked_abs().map(Datum::Int).filter(|datum| datum.is_of(ty));
    result.ok_or_else(|| integer_out_of_range(ty))
}

fn sqrt(v: f64) -> Result<Datum, SqlError> {
    if v < 0.0 {
        return Err(SqlError::new("2201F", "cannot take square root of a negative number"));
    }
    Ok(Datum::Float(v.sqrt()))
}

fn power(a: f64, b: f64) -> Result<Datum, SqlError> {
    if a == 0.0 && b < 0.0 {
        return Err(SqlError::new("2201F", "zero raised to a negative power is undefined"));
    }
    let result = a.powf(b);
    if result.is_nan() && !a.is_nan() && !b.is_nan() {
        return Err(SqlError::new("2201F", "a negative number raised to a non-integer power yields a complex result"));
    }
    if result == 0.0 && a != 0.0 && a.is_finite() && b.is_finite() {
        return Err(underflow());
    }
    Ok(Datum::Float(check_float(result, &[a, b])?))
}

fn logarithm(v: f64, log: fn(f64) -> f64) -> Result<Datum, SqlError> {
    if v == 0.0 {
        return Err(SqlError::new("2201E", "cannot take logarithm of zero"));
    }
    if v < 0.0 {
        return Err(SqlError::new("2201E", "cannot take logarithm of a negative number"));
    }
    Ok(Datum::Float(log(v)))
}

fn finite(v: f64, code: fn(f64) -> f64) -> Result<Datum, SqlError> {
    if v.is_infinite() { Err(SqlError::new("22003", "input is out of range")) } else { Ok(Datum::Float(code(v))) }
}

fn within_one(v: f64, code: fn(f64) -> f64) -> Result<Datum, SqlError> {
    if v.abs() > 1.0 { Err(SqlError::new("22003", "input is out of range")) } else { Ok(Datum::Float(code(v))) }
}

fn rest(a: &Datum, b: &Datum) -> Result<Datum, SqlError> {
    match (int_of(a), int_of(b)) {
        (_, 0) => Err(division_by_zero()),
        // The least integer modulo -1 is 0, though its quotient does not fit.
        (a, b) => Ok(Datum::Int(a.wrapping_rem(b))),
    }
}

fn gcd_of(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn checked(v: Option<u64>, ty: DataType) -> Result<Datum, SqlError> {
    let datum = v.and_then(|v| i64::try_from(v).ok()).map(Datum::Int).filter(|datum| datum.is_of(ty));
    datum.ok_or_else(|| integer_out_of_range(ty))
}

fn gcd(a: &Datum, b: &Datum, ty: DataType) -> Result<Datum, SqlError> {
    checked(Some(gcd_of(int_of(a).unsigned_abs(), int_of(b).unsigned_abs())), ty)
}

fn lcm(a: &Datum, b: &Datum, ty: DataType) -> Result<Datum, SqlError> {
    let (a, b) = (int_of(a).unsigned_abs(), int_of(b).unsigned_abs());
    if a == 0 || b == 0 {
        return Ok(Datum::Int(0));
    }
    checked((a / gcd_of(a, b)).checked_mul(b), ty)
}

fn factorial(n: i64) -> Result<Datum, SqlError> {
    if n < 0 {
        return Err(SqlError::new("22003", "factorial of a negative number is undefined"));
    }
    // Beyond, PostgreSQL's numeric overflows, too; but this many take long enough.
    if n > 10_000 {
        return Err(SqlError::new("22003", "value overflows numeric format"));
    }
    let product = (2..=n).try_fold(Numeric::from(1), |product, next| product.mul(&Numeric::from(next)))?;
    Ok(Datum::Numeric(product))
}

fn width_bucket(v: f64, low: f64, high: f64, count: i64) -> Result<Datum, SqlError> {
    let bad = |why: &str| Err(SqlError::new("2201G", why));
    if count <= 0 {
        return bad("count must be greater than zero");
    }
    if v.is_nan() || low.is_nan() || high.is_nan() {
        return bad("operand, lower bound, and upper bound cannot be NaN");
    }
    if low.is_infinite() || high.is_infinite() {
        return bad("lower and upper bounds must be finite");
    }
    if low == high {
        return bad("lower bound cannot equal upper bound");
    }
    let (outside_low, outside_high) = if low < high { (v < low, v >= high) } else { (v > low, v <= high) };
    let bucket = if outside_low {
        0
    } else if outside_high {
        count + 1
    } else {
        ((v - low) / (high - low) * count as f64).floor() as i64 + 1
    };
    if i32::try_from(bucket).is_err() {
        return Err(integer_out_of_range(DataType::Int4));
    }
    Ok(Datum::Int(bucket))
}
