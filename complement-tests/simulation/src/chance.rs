//! Chance that is the same for the same seed.

use rand::{SeedableRng, rngs::StdRng};

/// A generator of its own for each purpose, so that what is drawn for one doesn't depend on what is drawn for others.
pub(crate) fn generator(seed: u64, purpose: &str) -> StdRng {
    StdRng::seed_from_u64(mixed(seed, purpose.as_bytes()))
}

/// FNV-1a: the same on each machine and by each compiler.
pub(crate) fn mixed(seed: u64, bytes: &[u8]) -> u64 {
    let start = seed ^ 0xcbf2_9ce4_8422_2325;
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
