//! Randomness, as a parameter: unpredictable in production, repeatable in tests.

use std::{fmt, sync::Mutex};

use rand::{Rng, SeedableRng, rngs::StdRng};

/// Where tokens and other secrets come from.
pub trait Random: fmt::Debug + Send + Sync {
    /// Fills `bytes` with random bytes.
    fn fill(&self, bytes: &mut [u8]);
}

const ALPHANUMERIC: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const UPPER_CASE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const DIGITS: &[u8] = b"0123456789";
const LOWER_CASE_AND_DIGITS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

impl dyn Random {
    /// Letters and digits; each carries 5.95 bits, so 43 of them carry 256.
    pub fn alphanumeric(&self, length: usize) -> String {
        self.text(ALPHANUMERIC, length)
    }

    /// Upper-case letters, as device IDs usually are; 4.7 bits each.
    pub fn upper_case(&self, length: usize) -> String {
        self.text(UPPER_CASE, length)
    }

    /// Lower-case letters and digits, fit for a user's name; 5.17 bits each.
    pub fn lower_case(&self, length: usize) -> String {
        self.text(LOWER_CASE_AND_DIGITS, length)
    }

    /// Decimal digits; 3.3 bits each.
    pub fn digits(&self, length: usize) -> String {
        self.text(DIGITS, length)
    }

    /// A number that is hardly ever the same twice, and not 0.
    pub fn number(&self) -> u32 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        u32::from_le_bytes(bytes).max(1)
    }

    fn text(&self, alphabet: &[u8], length: usize) -> String {
        // The largest multiple of the alphabet's size in a byte: what lies above is thrown away, as it would make the
        // first characters of the alphabet likelier than the others.
        let fair = 256 - 256 % alphabet.len();
        let mut text = String::with_capacity(length);
        let mut bytes = [0; 64];
        while text.len() < length {
            self.fill(&mut bytes);
            let fitting = bytes.iter().map(|byte| usize::from(*byte));
            for byte in fitting.filter(|byte| *byte < fair) {
                if text.len() < length {
                    text.push(char::from(alphabet[byte % alphabet.len()]));
                }
            }
        }
        text
    }
}

/// A cryptographic generator that is seeded, and seeded again, by the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}

/// The same sequence for the same seed. For tests only.
#[derive(Debug)]
pub struct SeededRandom {
    generator: Mutex<StdRng>,
}

impl SeededRandom {
    /// Begins the sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            generator: Mutex::new(StdRng::seed_from_u64(seed)),
        }
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        // A panic elsewhere doesn't make the generator unusable.
        let mut generator = self
            .generator
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        generator.fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_tokens_again_and_another_seed_others() {
        let token = |seed| {
            let random: &dyn Random = &SeededRandom::new(seed);
            random.alphanumeric(43)
        };
        assert_eq!(token(1), token(1));
        assert_ne!(token(1), token(2));
    }

    #[test]
    fn a_token_has_the_length_and_the_characters_that_were_asked_for() {
        let random: &dyn Random = &SystemRandom;
        let token = random.upper_case(200);
        assert_eq!(token.len(), 200);
        assert!(token.bytes().all(|byte| byte.is_ascii_uppercase()));
    }
}
