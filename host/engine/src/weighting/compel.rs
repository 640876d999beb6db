//! compel's syntax: a word, or several in parentheses or quotes, with marks behind it. Each `+` raises by a tenth, each `-` lowers by a
//! tenth, a number says by how much; inside one another they multiply. A backslash before a parenthesis or a quote makes it a letter.
//!
//! Not here: its operators (`.blend`, `.and`, `.swap`, `.attend`, `withLora`), which are refused by name.

use super::{Part, refused};
use crate::error::Result;

const RAISED: f64 = 1.1;
const LOWERED: f64 = 0.9;

/// How deep groups may lie in one another.
const DEEPEST: usize = 32;

/// What stands behind a group and is more than this engine has.
const OPERATORS: &[&str] = &[".and(", ".add(", ".blend(", ".swap(", ".attend("];

/// The parts of a prompt.
pub(super) fn parts(prompt: &str) -> Result<Vec<Part>> {
    if let Some(lora) = ["withLora(", "useLora("].iter().find(|word| prompt.contains(*word)) {
        return refused(format!("{lora}…) in the prompt is not here; LoRA files are named outside of the prompt"));
    }
    let mut parts = Vec::new();
    items(&spaced(prompt), 1.0, 0, &mut parts)?;
    let mut fused: Vec<Part> = Vec::with_capacity(parts.len());
    for part in parts {
        match fused.last_mut() {
            Some(last) if last.weight == part.weight => {
                last.words.push(' ');
                last.words.push_str(&part.words);
            }
            _ => fused.push(part),
        }
    }
    if fused.is_empty() {
        fused.push(Part::words("", 1.0));
    }
    Ok(fused)
}

/// A blank after each comma, as if it had been written.
fn spaced(prompt: &str) -> String {
    let mut spaced = String::with_capacity(prompt.len());
    let mut letters = prompt.chars().peekable();
    while let Some(letter) = letters.next() {
        spaced.push(letter);
        if letter == ',' && letters.peek().is_some_and(|next| !next.is_whitespace()) {
            spaced.push(' ');
            // The blank parts it from the next comma too, which then gets none of its own.
            spaced.extend(letters.next());
        }
    }
    spaced
}

/// Reads words and groups until the text ends.
fn items(text: &str, weight: f64, depth: usize, parts: &mut Vec<Part>) -> Result<()> {
    if depth > DEEPEST {
        return refused(format!("groups in the prompt lie more than {DEEPEST} deep in one another"));
    }
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        rest = match group(rest) {
            Some((inside, after)) => {
                if let Some(operator) = OPERATORS.iter().find(|operator| after.starts_with(**operator)) {
                    return refused(format!("{operator}…) in the prompt is not here; weights are"));
                }
                let (factor, after) = factor(after, true);
                let inside = if rest.starts_with('"') { inside.replace("\\\"", "\"") } else { inside.to_owned() };
                items(&inside, weight * factor, depth + 1, parts)?;
                after
            }
            None => word(rest, weight, depth, parts),
        };
        rest = rest.trim_start();
    }
    Ok(())
}

/// What a group that begins here holds, and what comes after it.
fn group(text: &str) -> Option<(&str, &str)> {
    let is_quoted = text.starts_with('"');
    if !is_quoted && !text.starts_with('(') {
        return None;
    }
    let (mut open, mut is_escaped, mut in_quotes) = (0usize, false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if is_escaped => {}
            '"' if is_quoted && at > 0 => return Some((&text[1..at], &text[at + 1..])),
            '"' if !is_quoted => in_quotes = !in_quotes,
            '(' if !is_quoted && !in_quotes => open += 1,
            ')' if !is_quoted && !in_quotes => {
                open -= 1;
                if open == 0 {
                    return Some((&text[1..at], &text[at + 1..]));
                }
            }
            _ => {}
        }
        is_escaped = letter == '\\' && !is_escaped;
    }
    None
}

/// What stands behind a group or a word: how much it weighs, and the rest.
fn factor(text: &str, takes_numbers: bool) -> (f64, &str) {
    for (mark, base) in [('+', RAISED), ('-', LOWERED)] {
        let count = text.chars().take_while(|letter| *letter == mark).count();
        if count > 0 {
            return (base.powi(i32::try_from(count).unwrap_or(i32::MAX)), &text[count..]);
        }
    }
    if takes_numbers {
        let digits = |text: &str| text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let whole = digits(text);
        let end = match text[whole..].strip_prefix('.') {
            Some(after) => whole + 1 + digits(after),
            None => whole,
        };
        if let Ok(number) = text[..end].parse() {
            return (number, &text[end..]);
        }
    }
    (1.0, text)
}

/// Reads a word, and the marks at its end; gives what is left.
fn word<'a>(text: &'a str, weight: f64, depth: usize, parts: &mut Vec<Part>) -> &'a str {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    // Inside a group, marks and punctuation end a word; outside, only where it is a plain one with marks behind it.
    let plain = plain_length(text);
    let (factor, after) = factor(&text[plain..], false);
    let is_marked = plain > 0 && factor != 1.0;
    let (word, factor, rest) = if is_marked {
        (&text[..plain], factor, after)
    } else if depth > 0 && plain > 0 {
        (&text[..plain], 1.0, &text[plain..])
    } else if depth > 0 {
        let first = text.chars().next().map_or(0, char::len_utf8);
        (&text[..first], 1.0, &text[first..])
    } else {
        (&text[..end], 1.0, &text[end..])
    };
    let word = word.replace("\\(", "(").replace("\\)", ")").replace("\\\"", "\"");
    parts.push(Part::words(&word, weight * factor));
    rest
}

/// How far a word goes that holds no mark of the syntax but escaped ones, and signs inside of it.
fn plain_length(text: &str) -> usize {
    const MARKS: &str = "()\",.+-=";
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let next = letters.peek().map(|(_, letter)| *letter);
        match letter {
            '\\' if next.is_some_and(|next| MARKS.contains(next)) => {
                letters.next();
            }
            '+' | '-' if next.is_some_and(|next| !next.is_whitespace() && !MARKS.contains(next)) => {}
            letter if letter.is_whitespace() || MARKS.contains(letter) => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn operators_that_are_not_here_are_refused_by_name() {
        for prompt in ["(\"a\", \"b\").and()", "(\"a\", \"b\").blend(1, 2)", "a (cat).swap(dog)", "a withLora(x, 1)"] {
            assert!(parts(prompt).unwrap_err().to_string().contains("is not here"), "{prompt}");
        }
        assert!(parts(&"(".repeat(5000)).is_ok(), "groups that are never closed are letters");
        let deep = "(".repeat(40) + "a" + &")".repeat(40);
        assert!(parts(&deep).unwrap_err().to_string().contains("32 deep"));
    }
}
