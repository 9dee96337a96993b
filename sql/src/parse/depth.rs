//! How deep a statement may be: `sqlparser` builds trees whose depth is that of the text, and frees them
//! recursively, so the depth is bounded before it sees the tokens.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::SqlError;

/// The most operators in one expression, and so about the depth of its tree: ANDs and ORs count once,
/// others twice.
const OPERATORS_MAX: usize = 400;
/// The deepest nesting of parentheses, CASEs, NOTs and signs together. The parser's frames are big: a
/// thread's stack of 2 MiB must hold so many of them even where they are not optimised.
const NESTED_MAX: usize = 20;

/// What is open at one level of parentheses.
#[derive(Default)]
struct Level {
    /// Operators of the expression so far: the parser puts each on top of what is left of it.
    operators: usize,
    /// CASEs without their END.
    cases: usize,
    /// NOTs and signs in a row: the parser recurses for each.
    prefixes: usize,
    /// Casts and tests in a row: each is a level of the tree above the one before.
    postfixes: usize,
    /// What the parenthesis itself counts: more in FROM, where the parser's frames are the biggest.
    weight: usize,
}

/// 54001 if the tree of any expression would be too deep.
pub(super) fn check_depth(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    use Keyword as K;
    let mut levels = vec![Level::default()];
    let mut operators = 0;
    let mut nested = 0;
    let mut after_operand = false;
    let mut after_from = false;
    for token in tokens {
        let top = levels.last_mut().expect("the outermost level is never popped");
        let was_operand = std::mem::replace(&mut after_operand, false);
        let was_from = std::mem::replace(&mut after_from, false);
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                let weight = if was_from { 3 } else { 1 };
                levels.push(Level { weight, ..Level::default() });
                nested += weight;
                after_from = was_from;
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                after_operand = true;
                if levels.len() > 1
                    && let Some(done) = levels.pop()
                {
                    operators -= done.operators;
                    nested -= done.weight + 2 * done.cases + done.prefixes + done.postfixes;
                }
            }
            Token::Comma => {
                operators -= std::mem::take(&mut top.operators);
                nested -= std::mem::take(&mut top.prefixes) + std::mem::take(&mut top.postfixes);
            }
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::Placeholder(_)
            | Token::Period => after_operand = true,
            Token::Word(word) => match word.keyword {
                K::CASE => {
                    top.cases += 1;
                    nested += 2;
                }
                K::END if top.cases > 0 => {
                    top.cases -= 1;
                    nested -= 2;
                    after_operand = true;
                }
                K::NOT | K::INTERVAL | K::PRIOR | K::EXISTS | K::SELECT | K::EXPLAIN | K::ARRAY => {
                    top.prefixes += 1;
                    nested += 1;
                }
                K::AND | K::OR | K::WHEN | K::THEN | K::ELSE | K::FROM | K::WHERE => {
                    after_from = word.keyword == K::FROM;
                    nested -= std::mem::take(&mut top.prefixes) + std::mem::take(&mut top.postfixes);
                    top.operators += 1;
                    operators += 1;
                }
                K::JOIN => {
                    after_from = true;
                    top.operators += 1;
                    operators += 1;
                }
                K::IS | K::IN | K::LIKE | K::ILIKE | K::BETWEEN | K::COLLATE | K::AT => {
                    top.postfixes += 1;
                    nested += 1;
                }
                K::UNION | K::EXCEPT | K::INTERSECT => {
                    top.prefixes += 1;
                    nested += 1;
                }
                _ => after_operand = true,
            },
            Token::DoubleColon => {
                top.postfixes += 1;
                nested += 1;
            }
            _ if was_operand => {
                // Twice: ANDs and ORs become one flat list, these do not.
                nested -= std::mem::take(&mut top.postfixes);
                top.operators += 2;
                operators += 2;
            }
            _ => {
                top.prefixes += 1;
                nested += 1;
            }
        }
        if operators > OPERATORS_MAX || nested > NESTED_MAX {
            return Err(too_complex());
        }
    }
    Ok(())
}

pub(super) fn too_complex() -> SqlError {
    SqlError::new("54001", "statement is too complex").detail(format!(
        "An expression has at most {} operators, {OPERATORS_MAX} ANDs and ORs, and {NESTED_MAX} levels of nesting.",
        OPERATORS_MAX / 2
    ))
}
