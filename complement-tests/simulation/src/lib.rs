//! Several homeservers in one process, on a network that delays, loses, duplicates and parts them, until it is whole again
//! and they have to agree. `README.md` says how to run it and what is the same in each run of a seed.
//!
//! Engine, storage and federation are those of the program. Only the network is another ([`network`]), the clocks, the source
//! of randomness, and who moves time on ([`time`]). What users do is drawn from the seed ([`actions`]); what has to hold in
//! the end is in [`judge`], and for clients in [`clients`].

mod actions;
mod chance;
mod clients;
mod hashing;
mod judge;
mod network;
mod news;
mod parting;
mod run;
mod time;
mod trace;
mod world;

pub use self::run::{Outcome, Plan, run};
