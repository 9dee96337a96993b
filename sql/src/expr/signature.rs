//! What a function takes and returns. Operators are functions whose names are signs.

use std::fmt;

use super::eval::EvalContext;
use crate::SqlError;
use crate::types::{DataType, Datum};

/// What an argument may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// Of this type, or of one that becomes it by itself.
    Is(DataType),
    /// An array. All of `AnyArray` and `AnyElement` are about one type.
    AnyArray,
    /// What that array holds.
    AnyElement,
    /// Anything.
    Any,
}

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result {
    /// This.
    Is(DataType),
    /// As the arguments that are `AnyArray`.
    AnyArray,
    /// As the arguments that are `AnyElement`.
    AnyElement,
}

/// What a function knows beside its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Env<'a> {
    /// The statement.
    pub context: &'a EvalContext<'a>,
    /// The type of the result.
    pub result: DataType,
}

/// The code of a function: its arguments are of the types that its signature says.
pub type Code = fn(&[Datum], Env<'_>) -> std::result::Result<Datum, SqlError>;

/// One function.
pub struct Signature {
    /// Its name, in lower case, or its sign.
    pub name: &'static str,
    /// Its arguments.
    pub args: &'static [Arg],
    /// Whether the last argument may come any number of times, and not at all.
    pub variadic: bool,
    /// Its result.
    pub result: Result,
    /// Whether NULL in any argument gives NULL, without a call.
    pub strict: bool,
    /// Whether two calls with the same arguments may differ.
    pub volatile: bool,
    /// What it does.
    pub code: Code,
}

impl Signature {
    /// NULL in gives NULL out.
    pub const fn strict(name: &'static str, args: &'static [Arg], result: Result, code: Code) -> Signature {
        Signature { name, args, variadic: false, result, strict: true, volatile: false, code }
    }

    /// Called with NULLs, too.
    pub const fn lenient(name: &'static str, args: &'static [Arg], result: Result, code: Code) -> Signature {
        Signature { strict: false, ..Signature::strict(name, args, result, code) }
    }

    /// The last argument any number of times.
    pub const fn repeated(self) -> Signature {
        Signature { variadic: true, ..self }
    }

    /// Another result at each call.
    pub const fn changing(self) -> Signature {
        Signature { volatile: true, ..self }
    }
}

/// [`Signature::strict`], as the tables of functions write it.
pub(super) const fn strict(name: &'static str, args: &'static [Arg], result: Result, code: Code) -> Signature {
    Signature::strict(name, args, result, code)
}

/// [`Signature::lenient`], as the tables of functions write it.
pub(super) const fn lenient(name: &'static str, args: &'static [Arg], result: Result, code: Code) -> Signature {
    Signature::lenient(name, args, result, code)
}

/// A function, for the types that binding chose.
#[derive(Clone, Copy)]
pub struct Function {
    /// Which.
    pub signature: &'static Signature,
    /// The type of the result.
    pub result: DataType,
}

impl Function {
    /// Calls it. The arguments must be of the types that it was chosen for.
    pub fn call(self, args: &[Datum], context: &EvalContext<'_>) -> std::result::Result<Datum, SqlError> {
        if self.signature.strict && args.iter().any(Datum::is_null) {
            return Ok(Datum::Null);
        }
        (self.signature.code)(args, Env { context, result: self.result })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.signature.name
    }

    /// Whether it is written between its arguments.
    pub fn is_operator(self) -> bool {
        !self.name().starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        std::ptr::eq(self.signature, other.signature) && self.result == other.result
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", self.name, self.args)
    }
}

/// Short names, for the tables of signatures.
pub(super) mod short {
    use super::{Arg, Result};
    use crate::types::{DataType as T, Element};

    macro_rules! both {
        ($($name:ident = $ty:expr;)*) => {
            /// Arguments.
            #[allow(missing_docs, dead_code)]
            pub mod arg { use super::*; $(pub const $name: Arg = Arg::Is($ty);)* }
            /// Results.
            #[allow(missing_docs, dead_code)]
            pub mod out { use super::*; $(pub const $name: Result = Result::Is($ty);)* }
        };
    }
    both! {
        BOOL = T::Bool; I2 = T::Int2; I4 = T::Int4; I8 = T::Int; F4 = T::Float4; F8 = T::Float; NUM = T::Numeric;
        TEXT = T::Text; CHAR = T::Char; BYTES = T::Bytes; DATE = T::Date; TIME = T::Time; TS = T::LocalTimestamp;
        TSTZ = T::Timestamp; IVL = T::Interval; UUID = T::Uuid; JSON = T::Json; TEXTS = T::Array(Element::Text);
        INTS = T::Array(Element::Int4);
    }
    pub use arg::*;
    pub const ANY: Arg = Arg::Any;
    pub const ELEMENT: Arg = Arg::AnyElement;
    pub const ARRAY: Arg = Arg::AnyArray;
}
