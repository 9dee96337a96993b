//! The functions of sequences. What they draw from is the statement's: see `sequence.rs` of the crate.

use super::super::signature::short::{BOOL, I8, TEXT, out};
use super::super::signature::{Env, Signature, strict};
use super::text_of;
use crate::SqlError;
use crate::sequence::Sequences;
use crate::types::Datum;

pub(super) const FUNCTIONS: &[Signature] = &[
    strict("nextval", &[TEXT], out::I8, |args, env| {
        Ok(Datum::Int(sequences(env, "nextval")?.next(text_of(&args[0]))?))
    })
    .changing(),
    strict("currval", &[TEXT], out::I8, |args, env| {
        Ok(Datum::Int(sequences(env, "currval")?.current(text_of(&args[0]))?))
    })
    .changing(),
    strict("lastval", &[], out::I8, |_, env| Ok(Datum::Int(sequences(env, "lastval")?.last()?))).changing(),
    strict("setval", &[TEXT, I8], out::I8, |args, env| set(args, true, env)).changing(),
    strict("setval", &[TEXT, I8, BOOL], out::I8, |args, env| set(args, args[2] == Datum::Bool(true), env)).changing(),
    strict("pg_get_serial_sequence", &[TEXT, TEXT], out::TEXT, |args, env| {
        let found = sequences(env, "pg_get_serial_sequence")?.of_column(text_of(&args[0]), text_of(&args[1]))?;
        Ok(found.map_or(Datum::Null, Datum::Text))
    })
    .changing(),
];

fn sequences<'a>(env: Env<'a>, name: &str) -> Result<&'a dyn Sequences, SqlError> {
    env.context.random.sequences().ok_or_else(|| SqlError::unsupported(format!("{name} in this place")))
}

fn set(args: &[Datum], called: bool, env: Env<'_>) -> Result<Datum, SqlError> {
    let Datum::Int(value) = args[1] else { return Ok(Datum::Null) };
    Ok(Datum::Int(sequences(env, "setval")?.set(text_of(&args[0]), value, called)?))
}
