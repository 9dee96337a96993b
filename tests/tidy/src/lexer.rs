//! Splits Rust text into code and comments, line by line, so that a rule about code is not misled by a
//! word in a string or a comment. Knows just enough of the language for that.

/// One line of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The code, with comments and the contents of strings taken out.
    pub code: String,
    /// The text of comments.
    pub comment: String,
    /// Whether it belongs to a `#[cfg(test)]` item.
    pub test: bool,
}

enum State {
    Code,
    LineComment,
    /// With its depth: they nest.
    BlockComment(usize),
    /// With the number of `#` of a raw string; `None` where backslash escapes.
    String(Option<usize>),
}

/// All lines of `text`.
pub fn lines(text: &str) -> Vec<Line> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut lines = vec![Line::default()];
    let mut state = State::Code;
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        if c == '\n' {
            lines.push(Line::default());
            if matches!(state, State::LineComment) {
                state = State::Code;
            }
            i += 1;
            continue;
        }
        let line = lines.last_mut().expect("there is always a line");
        let mut step = 1;
        match &mut state {
            State::Code => match (c, at(i + 1)) {
                ('/', '/') => (state, step) = (State::LineComment, 2),
                ('/', '*') => (state, step) = (State::BlockComment(1), 2),
                ('"', _) => {
                    line.code.push(c);
                    state = State::String(raw_hashes(&line.code));
                }
                // A char literal, as opposed to a lifetime.
                ('\'', '\\') => {
                    let end = (i + 3..chars.len()).find(|&k| at(k) == '\'').unwrap_or(chars.len());
                    step = end + 1 - i;
                }
                ('\'', _) if at(i + 2) == '\'' => step = 3,
                _ => line.code.push(c),
            },
            State::LineComment => line.comment.push(c),
            State::BlockComment(depth) => match (c, at(i + 1)) {
                ('*', '/') => {
                    *depth -= 1;
                    step = 2;
                    if *depth == 0 {
                        state = State::Code;
                    }
                }
                ('/', '*') => (*depth, step) = (*depth + 1, 2),
                _ => line.comment.push(c),
            },
            State::String(None) if c == '\\' => step = if at(i + 1) == '\n' { 1 } else { 2 },
            State::String(hashes) if c == '"' => {
                let wanted = hashes.unwrap_or(0);
                if (1..=wanted).all(|k| at(i + k) == '#') {
                    line.code.push(c);
                    state = State::Code;
                    step = 1 + wanted;
                }
            }
            State::String(_) => {}
        }
        i += step;
    }
    mark_tests(&mut lines);
    lines
}

/// Whether the code so far, which ends in a quote, opens a raw string: `r"`, `br#"` and so on.
fn raw_hashes(code: &str) -> Option<usize> {
    let before = &code[..code.len() - 1];
    let trimmed = before.trim_end_matches('#');
    let prefix_at = trimmed.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
    matches!(&trimmed[prefix_at..], "r" | "br" | "cr").then_some(before.len() - trimmed.len())
}

/// Marks the item after each `#[cfg(test)]`: to its closing brace, or to a semicolon before any brace.
fn mark_tests(lines: &mut [Line]) {
    let mut depth = None;
    for line in lines {
        if depth.is_none() && line.code.contains("#[cfg(test)]") {
            depth = Some(0i32);
        }
        let Some(open) = &mut depth else { continue };
        line.test = true;
        let mut closed = false;
        for c in line.code.chars() {
            match c {
                '{' => *open += 1,
                '}' => *open -= 1,
                _ => {}
            }
            closed |= *open == 0 && (c == '}' || c == ';');
        }
        if closed && *open == 0 {
            depth = None;
        }
    }
}

/// Whether `word` occurs in `code` and is not part of a longer name.
pub fn has_word(code: &str, word: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let joins_before = word.starts_with(in_name) && before.is_some_and(in_name);
        let joins_after = word.ends_with(in_name) && after.is_some_and(in_name);
        !joins_before && !joins_after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Vec<String> {
        lines(text).into_iter().map(|line| line.code).collect()
    }

    #[test]
    fn takes_out_comments_and_strings() {
        assert_eq!(code("a(); // b()"), ["a(); "]);
        assert_eq!(code("a /* b /* c */ d */ e"), ["a  e"]);
        assert_eq!(code("f(\"x // y\\\" z\") + 1"), ["f(\"\") + 1"]);
        assert_eq!(code("r#\"a \" b\"# + br\"\\\" + c"), ["r#\"\" + br\"\" + c"]);
        assert_eq!(code("\"a\nb\\\nc\"; d"), ["\"", "", "\"; d"]);
        assert_eq!(code("'\"' 'a' '\\'' <'a, 'b>"), ["   <'a, 'b>"]);
        assert_eq!(lines("x //! y")[0].comment, "! y");
    }

    #[test]
    fn knows_which_lines_are_tests() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod t;\nfn d() {}";
        let marked: Vec<bool> = lines(text).iter().map(|line| line.test).collect();
        assert_eq!(marked, [false, true, true, true, true, false, true, true, false]);
    }

    #[test]
    fn finds_whole_words() {
        assert!(has_word("use proto::x;", "proto::"));
        assert!(!has_word("use my_proto::x;", "proto::"));
        assert!(!has_word("InstantLike", "Instant"));
        assert!(has_word("std::time::Instant", "std::time"));
    }
}
