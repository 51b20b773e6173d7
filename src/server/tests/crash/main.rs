//! Nothing that was acknowledged is lost, and nothing is left half-done: not when the program is killed, not when its
//! disk is full, not when clients go away in the middle of a request.
//!
//! `PARLEY_CRASH_KILLS` sets how often it is killed (20 by default), `PARLEY_CRASH_SEED` repeats a run.

#![expect(
    clippy::unwrap_used,
    reason = "helpers outside of test functions are tests too"
)]

mod client;
#[cfg(unix)]
mod full_disk;
mod hang_up;
mod kills;
#[cfg(unix)]
#[path = "../support/namespace.rs"]
mod namespace;
mod program;
mod work;
