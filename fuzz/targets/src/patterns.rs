//! Patterns of push rules, held against a plain way to match them.

use parley_engine::push::pattern::{MAX_PATTERN, Pattern};

/// Comparing a text with a pattern of a push rule. The first line of the input is the pattern, the rest the text.
pub fn push_pattern(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else {
        return;
    };
    let (pattern, text) = input.split_once('\n').unwrap_or((input, ""));
    let text = text.to_lowercase();
    let Some(glob) = Pattern::glob(pattern) else {
        assert!(pattern.len() > MAX_PATTERN, "a short pattern is taken");
        return;
    };
    let wanted: Vec<char> = pattern.to_lowercase().chars().collect();
    let characters: Vec<char> = text.chars().collect();
    assert_eq!(glob.fits(&text), whole_fits(&wanted, &characters));
    // The plain way takes a time that grows with the square of the text.
    if characters.len() <= 60 {
        assert_eq!(glob.fits_words(&text), words_fit(&wanted, &characters));
    }
    if let Some(literal) = Pattern::literal(&text) {
        assert!(literal.fits(&text), "a text fits itself");
    }
}

/// The ends of the beginnings of a text that fit a pattern.
fn fitting_ends(pattern: &[char], text: &[char]) -> Vec<usize> {
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    let mut ends = Vec::new();
    for end in 0..=text.len() {
        for (at, wanted) in pattern.iter().enumerate() {
            reached[at + 1] |= reached[at] && *wanted == '*';
        }
        if reached[pattern.len()] {
            ends.push(end);
        }
        let Some(character) = text.get(end) else {
            break;
        };
        let mut next = vec![false; pattern.len() + 1];
        for (at, wanted) in pattern.iter().enumerate().filter(|(at, _)| reached[*at]) {
            next[at] |= *wanted == '*';
            next[at + 1] |= *wanted == '?' || wanted == character;
        }
        reached = next;
    }
    ends
}

fn whole_fits(pattern: &[char], text: &[char]) -> bool {
    fitting_ends(pattern, text).contains(&text.len())
}

fn words_fit(pattern: &[char], text: &[char]) -> bool {
    if text.is_empty() {
        return whole_fits(pattern, text);
    }
    let in_word = |at: usize| {
        let character = text.get(at);
        character.is_some_and(|character| character.is_ascii_alphanumeric() || *character == '_')
    };
    let is_boundary = |at: usize| at == 0 || !(in_word(at - 1) && in_word(at));
    (0..text.len())
        .filter(|start| is_boundary(*start))
        .any(|start| {
            fitting_ends(pattern, &text[start..])
                .iter()
                .any(|length| *length > 0 && is_boundary(start + length))
        })
}
