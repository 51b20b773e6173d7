//! Each target with the committed inputs, and with many that are made from them, the same at every run.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use parley_fuzz_targets::TARGETS;
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// How many inputs are made of each of the corpus.
const MUTATIONS: usize = 2_000;
/// What inputs are made of, beside single bytes.
const PIECES: &[&str] = &[
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "*",
    "null",
    "-",
    "9007199254740992",
    "1e999",
    "\u{0}",
    "\u{fffd}",
    "\\ud800",
    "_",
    "s",
    "ä",
    "\n",
    ".",
    "true",
    "@:",
    "!:x",
];

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../corpus")
        .join(name);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// The input with a few things changed.
fn mutated(input: &[u8], others: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut input = input.to_vec();
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..=input.len());
        let to = random.random_range(at..=input.len()).min(at + 20);
        match random.random_range(0..5) {
            0 => {
                input.drain(at..to);
            }
            1 => {
                let piece = PIECES[random.random_range(0..PIECES.len())];
                input.splice(at..at, piece.bytes());
            }
            2 => {
                let copy = input[at..to].to_vec();
                input.splice(at..at, copy);
            }
            3 => {
                let other = &others[random.random_range(0..others.len())];
                let start = random.random_range(0..=other.len());
                input.splice(at..to, other[start..].iter().take(40).copied());
            }
            _ if at < input.len() => input[at] = random.random(),
            _ => {}
        }
    }
    input
}

#[test]
fn no_target_fails_on_the_corpus_or_what_is_made_of_it() {
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name} has no corpus");
        let mut random = StdRng::seed_from_u64(1);
        for input in &corpus {
            target(input);
            for _ in 0..MUTATIONS {
                let input = mutated(input, &corpus, &mut random);
                // Printed only if the target fails.
                println!("{name}: {:?}", String::from_utf8_lossy(&input));
                target(&input);
            }
        }
    }
}
