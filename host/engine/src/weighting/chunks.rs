//! Chunks: a long prompt in pieces that a text encoder can read, each with its weights.
//!
//! Where a piece ends is the syntax's: brackets end it at its length, but not right behind a comma that was near, and at every
//! break; compel ends it behind a full stop, else behind other punctuation, else behind a word.

use super::{Part, Syntax};

/// More chunks than this are not read; the end of the prompt is left out.
pub(crate) const MOST_CHUNKS: usize = 8;

/// A token of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word {
    /// Its id.
    pub(crate) id: u32,
    /// How the vocabulary writes it.
    pub(crate) text: String,
}

/// A piece of a prompt, without start, end and padding.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Chunk {
    /// Its tokens.
    pub(crate) ids: Vec<u32>,
    /// What each counts.
    pub(crate) weights: Vec<f32>,
    /// Which part of the prompt each is of.
    pub(crate) parts: Vec<usize>,
}

/// A token with its weight and part.
#[derive(Clone)]
struct Weighed {
    word: Word,
    weight: f32,
    part: usize,
}

/// Cuts parts, whose tokens are given, into chunks of at most `length` tokens; and counts the tokens that were left out.
pub(crate) fn chunks(syntax: Syntax, parts: &[Part], words: &[Vec<Word>], length: usize) -> (Vec<Chunk>, usize) {
    let length = length.max(1);
    let weighed = |(index, (part, words)): (usize, (&Part, &Vec<Word>))| {
        let weigh = |word: &Word| Weighed { word: word.clone(), weight: part.weight as f32, part: index };
        (part.is_break, words.iter().map(weigh).collect::<Vec<_>>())
    };
    let parts: Vec<(bool, Vec<Weighed>)> = parts.iter().zip(words).enumerate().map(weighed).collect();
    let mut cut = match syntax {
        Syntax::Plain | Syntax::Compel => at_stops(parts.into_iter().flat_map(|(_, words)| words).collect(), length),
        Syntax::Emphasis => at_commas(parts, length),
    };
    let dropped = cut.iter().skip(MOST_CHUNKS).map(Vec::len).sum();
    cut.truncate(MOST_CHUNKS);
    let chunk = |words: Vec<Weighed>| Chunk {
        ids: words.iter().map(|word| word.word.id).collect(),
        weights: words.iter().map(|word| word.weight).collect(),
        parts: words.iter().map(|word| word.part).collect(),
    };
    (cut.into_iter().map(chunk).collect(), dropped)
}

/// Each chunk goes as far as it can, but what stands less than this behind a comma goes with the next.
const BEHIND_COMMA: usize = 20;

fn at_commas(parts: Vec<(bool, Vec<Weighed>)>, length: usize) -> Vec<Vec<Weighed>> {
    let mut chunks = Vec::new();
    let mut chunk: Vec<Weighed> = Vec::new();
    let mut comma = None;
    for (is_break, words) in parts {
        if is_break {
            chunks.push(std::mem::take(&mut chunk));
            comma = None;
            continue;
        }
        for word in words {
            if word.word.text == ",</w>" {
                comma = Some(chunk.len());
            } else if let Some(at) = comma.filter(|at| chunk.len() == length && length - at <= BEHIND_COMMA) {
                let behind = chunk.split_off((at + 1).min(length));
                chunks.push(std::mem::replace(&mut chunk, behind));
                comma = None;
            }
            if chunk.len() == length {
                chunks.push(std::mem::take(&mut chunk));
                comma = None;
            }
            chunk.push(word);
        }
    }
    if !chunk.is_empty() || chunks.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

fn at_stops(mut words: Vec<Weighed>, length: usize) -> Vec<Vec<Weighed>> {
    let mut chunks = Vec::new();
    while words.len() > length {
        let last = |is_end: &dyn Fn(&str) -> bool| words[..length].iter().rposition(|word| is_end(&word.word.text));
        let end = last(&|text| text == ".</w>")
            .or_else(|| last(&|text| [".</w>", ",</w>", ";</w>", ":</w>"].contains(&text)))
            .or_else(|| last(&|text| text.ends_with("</w>")));
        let rest = words.split_off(end.map_or(length, |end| end + 1));
        chunks.push(std::mem::replace(&mut words, rest));
    }
    chunks.push(words);
    chunks
}

#[cfg(test)]
mod tests {
    use super::{MOST_CHUNKS, Word, chunks};
    use crate::weighting::{Part, Syntax};

    fn lengths(syntax: Syntax, text: &str, length: usize) -> (Vec<usize>, usize) {
        let parts = syntax.parts(text).unwrap();
        let words = |part: &Part| {
            part.words.split_whitespace().map(|word| Word { id: 7, text: format!("{word}</w>") }).collect::<Vec<_>>()
        };
        let words: Vec<_> = parts.iter().map(words).collect();
        let (chunks, dropped) = chunks(syntax, &parts, &words, length);
        assert!(
            chunks.iter().all(|chunk| chunk.ids.len() == chunk.weights.len() && chunk.ids.len() == chunk.parts.len())
        );
        (chunks.iter().map(|chunk| chunk.ids.len()).collect(), dropped)
    }

    #[test]
    fn brackets_cut_behind_a_comma_that_is_near_and_at_breaks() {
        assert_eq!(lengths(Syntax::Emphasis, "a a a a a a a", 3), (vec![3, 3, 1], 0));
        assert_eq!(lengths(Syntax::Emphasis, "a , a a a a", 4), (vec![2, 4], 0));
        assert_eq!(lengths(Syntax::Emphasis, "a BREAK BREAK b c", 4), (vec![1, 0, 2], 0));
        let far = format!("a , {}", "a ".repeat(40));
        assert_eq!(lengths(Syntax::Emphasis, &far, 30).0, [30, 12], "a comma far behind does not count");
        assert_eq!(lengths(Syntax::Emphasis, "", 4), (vec![0], 0));
    }

    #[test]
    fn compel_cuts_behind_a_full_stop_then_punctuation_then_a_word() {
        assert_eq!(lengths(Syntax::Compel, "a . a , a a a", 5), (vec![2, 5], 0));
        assert_eq!(lengths(Syntax::Compel, "a , a a a a", 4), (vec![2, 4], 0));
        assert_eq!(lengths(Syntax::Compel, "a a a a a", 4), (vec![4, 1], 0));
    }

    #[test]
    fn a_prompt_without_end_is_cut_off_and_counted() {
        for syntax in [Syntax::Compel, Syntax::Emphasis] {
            let (chunks, dropped) = lengths(syntax, &"a ".repeat(1000), 10);
            assert_eq!((chunks.len(), dropped), (MOST_CHUNKS, 1000 - 10 * MOST_CHUNKS), "{syntax:?}");
        }
    }
}
