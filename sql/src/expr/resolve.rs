//! Which of several functions or operators of one name is meant: PostgreSQL's rules (its manual, 10.2 and 10.3).
//!
//! Of those that the arguments can be converted to by themselves: one that needs no conversion at all; else
//! those with the most exact matches; of them those that convert to a category's preferred type most often;
//! then an argument of unknown type is taken as text if one of them takes text, else as what all of them
//! agree in. What is then still several is ambiguous.

use super::signature::{Arg, Function, Result as ResultType, Signature};
use crate::types::DataType;
use crate::value::{CastContext, cast_context};

/// Why none was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is none.
    None,
    /// There are several.
    Ambiguous,
}

/// PostgreSQL's groups of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Category {
    Number,
    String,
    DateTime,
    Timespan,
    Boolean,
    Array,
    User,
}

fn category(ty: DataType) -> Category {
    match ty {
        ty if ty.is_number() => Category::Number,
        DataType::Text | DataType::Char => Category::String,
        DataType::Date | DataType::Time | DataType::LocalTimestamp | DataType::Timestamp => Category::DateTime,
        DataType::Interval => Category::Timespan,
        DataType::Bool => Category::Boolean,
        DataType::Array(_) => Category::Array,
        _ => Category::User,
    }
}

fn is_preferred(ty: DataType) -> bool {
    matches!(ty, DataType::Float | DataType::Text | DataType::Timestamp | DataType::Interval | DataType::Bool)
}

/// The common type of two, as of the results of CASE: PostgreSQL's `select_common_type`.
pub(super) fn common(a: DataType, b: DataType) -> Option<DataType> {
    let implicit = |from, to| cast_context(from, to) == Some(CastContext::Implicit);
    if a == b {
        return Some(a);
    }
    if category(a) != category(b) {
        return None;
    }
    match (implicit(a, b), implicit(b, a)) {
        (_, true) if is_preferred(a) => Some(a),
        (true, false) => Some(b),
        (_, true) => Some(a),
        (false, false) => None,
    }
}

struct Candidate {
    signature: &'static Signature,
    args: Vec<DataType>,
    result: DataType,
}

/// A signature for so many arguments of these types, if it fits.
fn candidate(signature: &'static Signature, given: &[Option<DataType>]) -> Option<Candidate> {
    let wanted = signature.args;
    let count = given.len();
    let fits = if signature.variadic { count + 1 >= wanted.len() } else { count == wanted.len() };
    if !fits {
        return None;
    }
    let arg = |at: usize| wanted[at.min(wanted.len() - 1)];
    // What the arguments say about the element of a polymorphic function.
    let mut element: Option<DataType> = None;
    for (at, ty) in given.iter().enumerate() {
        let found = match (arg(at), ty) {
            (Arg::AnyArray, Some(DataType::Array(found))) => Some(found.data_type()),
            (Arg::AnyArray, Some(_)) => return None,
            (Arg::AnyElement, Some(found)) => Some(*found),
            _ => None,
        };
        if let Some(found) = found {
            element = Some(match element {
                Some(known) => common(known, found)?,
                None => found,
            });
        }
    }
    let mut args = Vec::with_capacity(count);
    for (at, ty) in given.iter().enumerate() {
        let to = match arg(at) {
            Arg::Is(to) => to,
            Arg::Any => ty.unwrap_or(DataType::Text),
            Arg::AnyElement => element?,
            Arg::AnyArray => DataType::Array(element?.as_element()?),
        };
        if ty.is_some_and(|ty| cast_context(ty, to) != Some(CastContext::Implicit)) {
            return None;
        }
        args.push(to);
    }
    let result = match signature.result {
        ResultType::Is(ty) => ty,
        ResultType::AnyElement => element?,
        ResultType::AnyArray => DataType::Array(element?.as_element()?),
    };
    Some(Candidate { signature, args, result })
}

/// Keeps those with the highest score.
fn keep_best(candidates: &mut Vec<Candidate>, score: impl Fn(&Candidate) -> usize) {
    let best = candidates.iter().map(&score).max().unwrap_or(0);
    candidates.retain(|candidate| score(candidate) == best);
}

/// Chooses: the function, and what its arguments must be brought to.
pub(super) fn choose(
    signatures: impl Iterator<Item = &'static Signature>,
    given: &[Option<DataType>],
    is_operator: bool,
) -> Result<(Function, Vec<DataType>), Failure> {
    let mut candidates: Vec<Candidate> = signatures.filter_map(|signature| candidate(signature, given)).collect();
    let exact = |candidate: &Candidate, given: &[Option<DataType>]| {
        candidate.args.iter().zip(given).filter(|(to, ty)| Some(**to) == **ty).count()
    };
    // An operator with one unknown side: first as if both were of one type.
    if is_operator
        && let [Some(known), None] | [None, Some(known)] = *given
        && let Some(at) = candidates.iter().position(|candidate| candidate.args == [known, known])
    {
        candidates.swap(0, at);
        candidates.truncate(1);
    }
    if let Some(at) = candidates.iter().position(|candidate| exact(candidate, given) == given.len()) {
        candidates.swap(0, at);
        candidates.truncate(1);
    }
    if candidates.len() > 1 {
        keep_best(&mut candidates, |candidate| exact(candidate, given));
    }
    if candidates.len() > 1 {
        keep_best(&mut candidates, |candidate| {
            let preferred = |(to, ty): (&DataType, &Option<DataType>)| {
                ty.is_some_and(|ty| ty == *to || (is_preferred(*to) && category(ty) == category(*to)))
            };
            candidate.args.iter().zip(given).filter(|pair| preferred(*pair)).count()
        });
    }
    if candidates.len() > 1 {
        settle_unknown(&mut candidates, given);
    }
    match candidates.len() {
        0 => Err(Failure::None),
        1 => {
            let Candidate { signature, args, result } = candidates.remove(0);
            Ok((Function { signature, result }, args))
        }
        _ => Err(Failure::Ambiguous),
    }
}

/// What an unknown argument is taken as.
fn settle_unknown(candidates: &mut Vec<Candidate>, given: &[Option<DataType>]) {
    let mut kept: Vec<bool> = vec![true; candidates.len()];
    for (at, _) in given.iter().enumerate().filter(|(_, ty)| ty.is_none()) {
        let categories: Vec<Category> = candidates.iter().map(|candidate| category(candidate.args[at])).collect();
        let chosen = if categories.contains(&Category::String) {
            Category::String
        } else if categories.iter().all(|found| *found == categories[0]) {
            categories[0]
        } else {
            // They differ: the known arguments decide, if they are all of one type.
            let mut known = given.iter().flatten();
            if let Some(first) = known.next()
                && known.all(|ty| ty == first)
            {
                for (keep, candidate) in kept.iter_mut().zip(candidates.iter()) {
                    *keep &= candidate.args[at] == *first;
                }
                continue;
            }
            return;
        };
        let preferred = candidates
            .iter()
            .any(|candidate| category(candidate.args[at]) == chosen && is_preferred(candidate.args[at]));
        for (keep, candidate) in kept.iter_mut().zip(candidates.iter()) {
            let ty = candidate.args[at];
            *keep &= category(ty) == chosen && (!preferred || is_preferred(ty));
        }
    }
    if kept.iter().any(|keep| *keep) {
        let mut kept = kept.into_iter();
        candidates.retain(|_| kept.next().unwrap_or(false));
    }
}
