//! The syntax of brackets: round ones raise, square ones lower, each by a tenth; a number after a colon says by how much;
//! `BREAK` begins a new chunk. A backslash makes any of it a letter. Brackets that are not closed count to the end.

use super::Part;

/// What a pair of brackets multiplies the weight with.
const RAISED: f64 = 1.1;

/// The parts of a prompt. Everything is some prompt: nothing is refused.
pub(super) fn parts(prompt: &str) -> Vec<Part> {
    let mut reader = Reader { parts: Vec::new(), round: Vec::new(), square: Vec::new() };
    let mut rest = prompt;
    while let Some(first) = rest.chars().next() {
        rest = reader.take(first, rest);
    }
    for from in std::mem::take(&mut reader.round) {
        reader.multiply(from, RAISED);
    }
    for from in std::mem::take(&mut reader.square) {
        reader.multiply(from, RAISED.recip());
    }
    merged(reader.parts)
}

struct Reader {
    parts: Vec<Part>,
    /// Where the brackets that are open began.
    round: Vec<usize>,
    square: Vec<usize>,
}

impl Reader {
    /// Takes one mark, or everything up to the next; gives what is left.
    fn take<'a>(&mut self, first: char, rest: &'a str) -> &'a str {
        let after = &rest[first.len_utf8()..];
        match first {
            '\\' => {
                let letter = after.chars().next().filter(|letter| "()[]\\".contains(*letter));
                let escaped = &after[..letter.map_or(0, char::len_utf8)];
                self.parts.push(Part::words(escaped, 1.0));
                return &after[escaped.len()..];
            }
            '(' => self.round.push(self.parts.len()),
            '[' => self.square.push(self.parts.len()),
            ':' => {
                let Some((weight, length)) = weight(after) else {
                    self.parts.push(Part::words(":", 1.0));
                    return after;
                };
                match self.round.pop() {
                    Some(from) => self.multiply(from, weight),
                    None => self.parts.push(Part::words(&rest[..=length], 1.0)),
                }
                return &after[length..];
            }
            ')' if !self.round.is_empty() => {
                let from = self.round.pop().unwrap_or(0);
                self.multiply(from, RAISED);
            }
            ']' if !self.square.is_empty() => {
                let from = self.square.pop().unwrap_or(0);
                self.multiply(from, RAISED.recip());
            }
            ')' | ']' => self.parts.push(Part::words(&rest[..1], 1.0)),
            _ => {
                let end = rest.find(['\\', '(', ')', '[', ']', ':']).unwrap_or(rest.len());
                self.words(&rest[..end]);
                return &rest[end..];
            }
        }
        after
    }

    fn multiply(&mut self, from: usize, factor: f64) {
        self.parts.iter_mut().skip(from).for_each(|part| part.weight *= factor);
    }

    /// Words, with a break for each `BREAK` that stands by itself.
    fn words(&mut self, words: &str) {
        let mut rest = words;
        let mut from = 0;
        while let Some(found) = rest[from..].find("BREAK") {
            let (start, end) = (from + found, from + found + "BREAK".len());
            let is_letter = |c: char| c.is_alphanumeric() || c == '_';
            let alone = !rest[..start].ends_with(is_letter) && !rest[end..].starts_with(is_letter);
            if alone {
                self.parts.push(Part::words(rest[..start].trim_end(), 1.0));
                self.parts.push(Part { is_break: true, ..Part::words("", 1.0) });
                (rest, from) = (rest[end..].trim_start(), 0);
            } else {
                from = end;
            }
        }
        self.parts.push(Part::words(rest, 1.0));
    }
}

/// A number and a closing bracket, and how long they are.
fn weight(text: &str) -> Option<(f64, usize)> {
    let end = text.find(')')?;
    let number = text[..end].trim();
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return None;
    }
    number.parse().ok().map(|weight| (weight, end + 1))
}

/// Neighbours of one weight are one part.
fn merged(parts: Vec<Part>) -> Vec<Part> {
    let mut merged: Vec<Part> = Vec::with_capacity(parts.len());
    for part in parts {
        match merged.last_mut() {
            Some(last) if !last.is_break && !part.is_break && last.weight == part.weight => {
                last.words.push_str(&part.words);
            }
            _ => merged.push(part),
        }
    }
    if merged.is_empty() {
        merged.push(Part::words("", 1.0));
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn brackets_weigh_as_they_do_elsewhere() {
        let house = 1.1 * 1.3 * 1.1;
        let cases: &[(&str, &[(&str, f64)])] = &[
            ("normal text", &[("normal text", 1.0)]),
            ("an (important) word", &[("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
            ("(unbalanced", &[("unbalanced", 1.1)]),
            (r"\(literal\]", &[("(literal]", 1.0)]),
            ("(unnecessary)(parens)", &[("unnecessaryparens", 1.1)]),
            (
                "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
                &[
                    ("a ", 1.0),
                    ("house", house),
                    (" ", 1.1),
                    ("on", 1.0),
                    (" a ", 1.1),
                    ("hill", 0.55),
                    (", sun, ", 1.1),
                    ("sky", 1.1f64.powi(4)),
                    (".", 1.1),
                ],
            ),
            ("", &[("", 1.0)]),
            ("3:4 and a:1.5) b", &[("3:4 and a:1.5) b", 1.0)]),
            ("[low] é(ö:-1)", &[("low", 1.0 / 1.1), (" é", 1.0), ("ö", -1.0)]),
            ("(a:1.2.3)", &[("a:1.2.3", 1.1)]),
        ];
        for (prompt, want) in cases {
            let got = parts(prompt);
            let words: Vec<&str> = got.iter().map(|part| part.words.as_str()).collect();
            assert_eq!(words, want.iter().map(|(words, _)| *words).collect::<Vec<_>>(), "{prompt}");
            for (part, (_, weight)) in got.iter().zip(*want) {
                assert!((part.weight - weight).abs() < 1e-12, "{prompt}: {part:?}");
            }
        }
    }

    #[test]
    fn a_break_stands_by_itself() {
        let parts = parts("one  BREAK two BREAKFAST (three BREAK four)");
        let got: Vec<_> = parts.iter().map(|part| (part.words.as_str(), part.is_break)).collect();
        let want =
            [("one", false), ("", true), ("two BREAKFAST ", false), ("three", false), ("", true), ("four", false)];
        assert_eq!(got, want);
    }
}
