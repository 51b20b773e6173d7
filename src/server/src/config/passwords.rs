//! `[passwords]`

use serde::{Deserialize, Serialize};

use super::{
    error::Invalid,
    size,
    size::{KIB, MIB},
};

/// How passwords are hashed, by argon2id, and what is demanded of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Passwords {
    /// Memory that one hash takes, in bytes.
    #[serde(with = "size")]
    pub memory: u64,
    /// Passes over that memory.
    pub iterations: u32,
    /// Lanes of that memory.
    pub parallelism: u32,
    /// The fewest characters that a new password may have.
    pub minimum_length: u32,
}

impl Default for Passwords {
    /// Memory, iterations and parallelism are what OWASP recommends for argon2id.
    fn default() -> Self {
        Self {
            memory: 19 * MIB,
            iterations: 2,
            parallelism: 1,
            minimum_length: 8,
        }
    }
}

impl Passwords {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if !(1..=64).contains(&self.parallelism) {
            return Err(Invalid::new(
                "passwords.parallelism",
                "must be between 1 and 64",
            ));
        }
        // Argon2 needs eight blocks of 1 KiB a lane; 1 MiB for one hash is weak, but right for tests.
        let lanes = 8 * KIB * u64::from(self.parallelism);
        if !(lanes.max(MIB)..=4096 * MIB).contains(&self.memory) {
            return Err(Invalid::new(
                "passwords.memory",
                "must be between 1 MiB and 4 GiB",
            ));
        }
        if !(1..=100).contains(&self.iterations) {
            return Err(Invalid::new(
                "passwords.iterations",
                "must be between 1 and 100",
            ));
        }
        if !(1..=512).contains(&self.minimum_length) {
            return Err(Invalid::new(
                "passwords.minimum_length",
                "must be between 1 and 512",
            ));
        }
        Ok(())
    }
}
