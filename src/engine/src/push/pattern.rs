//! Patterns of push rules: texts in which `*` is any text and `?` any character.
//!
//! Users make the patterns and the texts, so a comparison must neither fail nor take long, whatever they are. All ways to
//! fit a pattern are followed at once, each a bit, so a text is read once. Case makes no difference.
//!
//! <https://spec.matrix.org/v1.19/appendices/#glob-style-matching>

/// The longest pattern, in bytes. A longer one fits nothing.
pub const MAX_PATTERN: usize = 512;

/// What a pattern asks of one character.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Any,
    Is(char),
}

/// A pattern.
#[derive(Debug)]
pub struct Pattern {
    /// A part that has to be in each text that fits.
    needle: String,
    /// How many characters a text has at the least.
    steps: usize,
    /// Before which of them any text may stand.
    repeats: Bits,
    /// Which of them are any character.
    any: Bits,
    /// Which of them are, or may be, a certain character; by the characters, in order.
    characters: Vec<(char, Bits)>,
}

/// A bit for each step of a pattern.
type Bits = Box<[u64]>;

impl Pattern {
    /// A pattern with `*` and `?`; `None` if it is too long.
    pub fn glob(pattern: &str) -> Option<Self> {
        if pattern.len() > MAX_PATTERN {
            return None;
        }
        let pattern = pattern.to_lowercase();
        let mut steps = Vec::new();
        let mut repeats = vec![false];
        for character in pattern.chars() {
            match character {
                '*' => {
                    if let Some(last) = repeats.last_mut() {
                        *last = true;
                    }
                    continue;
                }
                '?' => steps.push(Step::Any),
                other => steps.push(Step::Is(other)),
            }
            repeats.push(false);
        }
        let parts = pattern.split(['*', '?']);
        let needle = parts.max_by_key(|part| part.len()).unwrap_or_default();
        Some(Self::new(needle.to_owned(), &steps, &repeats))
    }

    /// A pattern that is a text as it stands; `None` if it is too long.
    pub fn literal(text: &str) -> Option<Self> {
        if text.len() > MAX_PATTERN {
            return None;
        }
        let text = text.to_lowercase();
        let steps: Vec<Step> = text.chars().map(Step::Is).collect();
        let repeats = vec![false; steps.len() + 1];
        Some(Self::new(text, &steps, &repeats))
    }

    fn new(needle: String, steps: &[Step], repeats: &[bool]) -> Self {
        let bits = |is_set: &dyn Fn(usize) -> bool| {
            let mut bits = none(repeats.len());
            for at in (0..repeats.len()).filter(|at| is_set(*at)) {
                set(&mut bits, at);
            }
            bits
        };
        let mut distinct: Vec<char> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Any => None,
                Step::Is(character) => Some(*character),
            })
            .collect();
        distinct.sort_unstable();
        distinct.dedup();
        let fits = |character: char| {
            bits(&|at| {
                let step = steps.get(at);
                step.is_some_and(|step| matches!(*step, Step::Any) || *step == Step::Is(character))
            })
        };
        Self {
            needle,
            steps: steps.len(),
            repeats: bits(&|at| repeats.get(at).copied().unwrap_or_default()),
            any: bits(&|at| steps.get(at) == Some(&Step::Any)),
            characters: distinct
                .into_iter()
                .map(|character| (character, fits(character)))
                .collect(),
        }
    }

    /// Whether a text as a whole fits. It has to be in small letters.
    pub fn fits(&self, text: &str) -> bool {
        if !text.contains(&self.needle) {
            return false;
        }
        let mut reached = none(self.steps + 1);
        set(&mut reached, 0);
        for character in text.chars() {
            self.advance(&mut reached, character);
        }
        is_set(&reached, self.steps)
    }

    /// Whether a part of a text fits that begins and ends with the text or between words. It has to be in small letters.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#conditions-1>
    pub fn fits_words(&self, text: &str) -> bool {
        if text.is_empty() {
            return self.fits(text);
        }
        if !text.contains(&self.needle) {
            return false;
        }
        let mut reached = none(self.steps + 1);
        let mut before = None;
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            if is_boundary(before, Some(character)) {
                set(&mut reached, 0);
            }
            self.advance(&mut reached, character);
            let ends = is_boundary(Some(character), characters.peek().copied());
            if ends && is_set(&reached, self.steps) {
                return true;
            }
            before = Some(character);
        }
        false
    }

    /// Takes a character: those of the steps reached that it fits lead to the next, those before which any text may stand
    /// stay reached.
    fn advance(&self, reached: &mut [u64], character: char) {
        let known = self
            .characters
            .binary_search_by_key(&character, |(known, _)| *known);
        let fits = match known.ok().and_then(|at| self.characters.get(at)) {
            Some((_, fits)) => fits,
            None => &self.any,
        };
        let mut carried = 0;
        for ((word, fits), repeats) in reached.iter_mut().zip(fits).zip(&self.repeats) {
            let moved = *word & fits;
            *word = (moved << 1) | carried | (*word & repeats);
            carried = moved >> 63;
        }
    }
}

fn none(bits: usize) -> Bits {
    vec![0; bits.div_ceil(64)].into()
}

fn set(bits: &mut [u64], at: usize) {
    if let Some(word) = bits.get_mut(at / 64) {
        *word |= 1 << (at % 64);
    }
}

fn is_set(bits: &[u64], at: usize) -> bool {
    bits.get(at / 64)
        .is_some_and(|word| word >> (at % 64) & 1 == 1)
}

/// Whether a word may begin or end between two characters, or at an end of the text.
fn is_boundary(before: Option<char>, after: Option<char>) -> bool {
    let in_word = |character: Option<char>| {
        character.is_some_and(|character| character.is_ascii_alphanumeric() || character == '_')
    };
    !(in_word(before) && in_word(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(pattern: &str, text: &str) -> bool {
        Pattern::glob(pattern).unwrap().fits(&text.to_lowercase())
    }

    fn words(pattern: &str, text: &str) -> bool {
        Pattern::glob(pattern)
            .unwrap()
            .fits_words(&text.to_lowercase())
    }

    #[test]
    fn a_star_is_any_text_and_a_question_mark_any_character() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "a\nb"),
            ("a*b*c", "aXbXbXc"),
            ("a?c", "aÄc"),
            ("?*?", "ab"),
            ("*?*?*", "ab"),
            ("LUNCH", "lunch"),
            ("ÄÖ", "äö"),
            ("m.room.*", "m.room.message"),
        ] {
            assert!(whole(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("?", ""),
            ("a?c", "ac"),
            ("a*b", "abc"),
            ("?*?", "a"),
            ("a.c", "abc"),
        ] {
            assert!(!whole(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn words_begin_and_end_where_the_text_does_or_beside_other_characters() {
        for (pattern, text) in [
            ("cake", "cake"),
            ("cake", "a cake!"),
            ("cake", "pancakes, cake"),
            ("ex*ple", "An exciting triple-whammy"),
            ("*", ""),
            ("a a", "xa a a"),
            ("!", "a!b"),
            ("?ake", "no cakes, but a lake"),
            ("@room", "hi @room"),
            ("ä", "läuft"),
        ] {
            assert!(words(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("cake", "pancakes"),
            ("cake", "cake_"),
            ("cake", "1cake"),
            ("", "a"),
            ("ca?", "cakes"),
            ("a", "läuft"),
        ] {
            assert!(!words(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_literal_has_no_wildcards() {
        let literal = Pattern::literal("A*?").unwrap();
        assert!(literal.fits_words("is a*? here"));
        assert!(!literal.fits_words("is abc here"));
    }

    #[test]
    fn patterns_longer_than_a_word_of_the_machine_fit_too() {
        let text = "ab".repeat(100);
        assert!(whole(&"?b".repeat(100), &text));
        assert!(whole(&format!("{}*", "ab".repeat(99)), &text));
        assert!(!whole(&"?b".repeat(101), &text));
        assert!(words(&"?".repeat(130), &"-".repeat(200)));
    }

    #[test]
    fn a_pattern_that_is_too_long_is_none() {
        assert!(Pattern::glob(&"?".repeat(MAX_PATTERN)).is_some());
        assert!(Pattern::glob(&"?".repeat(MAX_PATTERN + 1)).is_none());
        assert!(Pattern::literal(&"a".repeat(MAX_PATTERN + 1)).is_none());
    }
}
