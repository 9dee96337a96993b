//! Typed expressions: names are column numbers, every conversion is explicit.
//!
//! `bind` makes them from the parser's tree by PostgreSQL's type rules; `eval` computes them.

pub mod aggregate;
mod arithmetic;
pub mod bind;
mod bind_call;
mod bind_value;
mod coerce;
pub mod eval;
pub mod functions;
mod literal;
pub(crate) mod operators;
mod resolve;
pub mod signature;

pub use bind::{Binder, Bound, Params, Scope};
pub use eval::{EvalContext, eval, is_true};

use crate::types::{DataType, Datum, Element, TypeModifier};
use functions::Function;

/// An expression over one input row.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A constant.
    Const(Datum),
    /// A column of the input row.
    Column(usize),
    /// A parameter: `$1` is 0.
    Param(usize),
    /// The transaction's start.
    Now,
    /// An aggregate, by number; only between binding and `aggregate::rewrite`.
    Aggregate(usize),
    /// NOT.
    Not(Box<Expr>),
    /// AND of any number.
    And(Vec<Expr>),
    /// OR of any number.
    Or(Vec<Expr>),
    /// IS NULL.
    IsNull(Box<Expr>),
    /// IS TRUE, IS FALSE.
    IsBool(Box<Expr>, bool),
    /// Unary minus of a number.
    Neg(Box<Expr>),
    /// Arithmetic and concatenation of two values of one type.
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// A comparison of two values of one type.
    Compare(CompareOp, Box<Expr>, Box<Expr>),
    /// IS DISTINCT FROM.
    Distinct(Box<Expr>, Box<Expr>),
    /// IN a list.
    In(Box<Expr>, Vec<Expr>),
    /// LIKE, ILIKE: text, pattern, escape character, ignore case.
    Like(Box<Expr>, Box<Expr>, Option<char>, bool),
    /// CASE: conditions with results, and the result otherwise.
    Case(Vec<(Expr, Expr)>, Box<Expr>),
    /// COALESCE.
    Coalesce(Vec<Expr>),
    /// NULLIF.
    NullIf(Box<Expr>, Box<Expr>),
    /// CAST.
    Cast(Box<Expr>, DataType),
    /// A length or a precision; whether the user wrote it, or a column has it.
    Modify(Box<Expr>, TypeModifier, bool),
    /// ARRAY[..]: of values, or of arrays.
    Array(Element, Vec<Expr>),
    /// A subscript of an array: lower and upper bounds, and whether it is a slice. Without bounds of a slice: all.
    Subscript(Box<Expr>, Vec<(Option<Expr>, Option<Expr>)>, bool),
    /// A comparison with the values of an array; whether any of them is enough.
    Quantified(CompareOp, Box<Expr>, Box<Expr>, bool),
    /// A function.
    Call(Function, Vec<Expr>),
}

/// Operators of two values of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Rem,
    /// `||`
    Concat,
}

/// Comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    /// `=`
    Eq,
    /// `<>`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

impl CompareOp {
    /// The same with its sides exchanged.
    pub fn flipped(self) -> CompareOp {
        match self {
            CompareOp::Lt => CompareOp::Gt,
            CompareOp::Le => CompareOp::Ge,
            CompareOp::Gt => CompareOp::Lt,
            CompareOp::Ge => CompareOp::Le,
            same => same,
        }
    }

    /// As written.
    pub fn symbol(self) -> &'static str {
        match self {
            CompareOp::Eq => "=",
            CompareOp::Ne => "<>",
            CompareOp::Lt => "<",
            CompareOp::Le => "<=",
            CompareOp::Gt => ">",
            CompareOp::Ge => ">=",
        }
    }
}

impl BinaryOp {
    /// As written.
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Rem => "%",
            BinaryOp::Concat => "||",
        }
    }
}

impl Expr {
    /// NOT of it.
    pub fn negated(self) -> Expr {
        Expr::Not(Box::new(self))
    }

    /// NOT of it, if asked for.
    pub fn negated_if(self, negated: bool) -> Expr {
        if negated { self.negated() } else { self }
    }

    /// Calls `visit` on it and everything below it, from the top.
    pub fn walk(&self, visit: &mut impl FnMut(&Expr)) {
        visit(self);
        self.for_children(|child| child.walk(visit));
    }

    fn for_children<'a>(&'a self, mut visit: impl FnMut(&'a Expr)) {
        match self {
            Expr::Const(_) | Expr::Column(_) | Expr::Param(_) | Expr::Now | Expr::Aggregate(_) => {}
            Expr::Not(a)
            | Expr::IsNull(a)
            | Expr::IsBool(a, _)
            | Expr::Neg(a)
            | Expr::Cast(a, _)
            | Expr::Modify(a, ..) => visit(a),
            Expr::And(list) | Expr::Or(list) | Expr::Coalesce(list) | Expr::Call(_, list) | Expr::Array(_, list) => {
                list.iter().for_each(visit)
            }
            Expr::Binary(_, a, b)
            | Expr::Compare(_, a, b)
            | Expr::Distinct(a, b)
            | Expr::NullIf(a, b)
            | Expr::Quantified(_, a, b, _)
            | Expr::Like(a, b, _, _) => {
                visit(a);
                visit(b);
            }
            Expr::Subscript(a, bounds, _) => {
                visit(a);
                bounds.iter().flat_map(|(low, high)| [low, high]).flatten().for_each(visit);
            }
            Expr::In(a, list) => {
                visit(a);
                list.iter().for_each(visit);
            }
            Expr::Case(branches, otherwise) => {
                for (condition, result) in branches {
                    visit(condition);
                    visit(result);
                }
                visit(otherwise);
            }
        }
    }

    /// Calls `visit` on each direct child.
    pub fn for_children_mut(&mut self, visit: &mut impl FnMut(&mut Expr)) {
        match self {
            Expr::Const(_) | Expr::Column(_) | Expr::Param(_) | Expr::Now | Expr::Aggregate(_) => {}
            Expr::Not(a)
            | Expr::IsNull(a)
            | Expr::IsBool(a, _)
            | Expr::Neg(a)
            | Expr::Cast(a, _)
            | Expr::Modify(a, ..) => visit(a),
            Expr::And(list) | Expr::Or(list) | Expr::Coalesce(list) | Expr::Call(_, list) | Expr::Array(_, list) => {
                list.iter_mut().for_each(visit)
            }
            Expr::Binary(_, a, b)
            | Expr::Compare(_, a, b)
            | Expr::Distinct(a, b)
            | Expr::NullIf(a, b)
            | Expr::Quantified(_, a, b, _)
            | Expr::Like(a, b, _, _) => {
                visit(a);
                visit(b);
            }
            Expr::Subscript(a, bounds, _) => {
                visit(a);
                bounds.iter_mut().flat_map(|(low, high)| [low, high]).flatten().for_each(visit);
            }
            Expr::In(a, list) => {
                visit(a);
                list.iter_mut().for_each(visit);
            }
            Expr::Case(branches, otherwise) => {
                for (condition, result) in branches {
                    visit(condition);
                    visit(result);
                }
                visit(otherwise);
            }
        }
    }

    /// Whether its value does not depend on the input row, and is the same each time.
    pub fn is_constant(&self) -> bool {
        let mut constant = true;
        self.walk(&mut |expr| {
            constant &= match expr {
                Expr::Column(_) | Expr::Aggregate(_) => false,
                Expr::Call(function, _) => !function.signature.volatile,
                _ => true,
            }
        });
        constant
    }
}
