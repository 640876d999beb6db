//! Made-up input for property tests: the same on every run, and no dependency. Only tests have it.

use serde_json::{Map, Value};

/// Numbers that look random.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one (SplitMix64).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below this.
    pub(crate) fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }

    /// So many bytes.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// A text with what JSON has to escape in it.
    pub(crate) fn text(&mut self) -> String {
        const LETTERS: [&str; 12] = ["a", "Z", "\"", "\\", "/", "\n", "é", "\u{1F511}", "{", "}", "[", ","];
        (0..self.below(8)).map(|_| LETTERS[self.below(LETTERS.len())]).collect()
    }

    /// A tree of these names, at most so deep.
    pub(crate) fn json(&mut self, names: &[&str], depth: usize) -> Value {
        match if depth == 0 { self.below(4) } else { self.below(9) } {
            0 => Value::Null,
            1 => self.next().is_multiple_of(2).into(),
            2 => (self.next() as i32).into(),
            3 => self.text().into(),
            4 | 5 => (0..self.below(4)).map(|_| self.json(names, depth - 1)).collect(),
            _ => {
                let mut object = Map::new();
                for _ in 0..self.below(5) {
                    object.insert(names[self.below(names.len())].to_owned(), self.json(names, depth - 1));
                }
                Value::Object(object)
            }
        }
    }

    /// The tree as text, written in one way or another.
    pub(crate) fn written(&mut self, tree: &Value) -> String {
        let text = match self.below(2) {
            0 => tree.to_string(),
            _ => serde_json::to_string_pretty(tree).unwrap(),
        };
        match self.below(3) {
            0 => text.chars().map(|letter| if letter == 'é' { "\\u00e9".to_owned() } else { letter.into() }).collect(),
            1 => format!(" \r\n\t{text} "),
            _ => text,
        }
    }
}
