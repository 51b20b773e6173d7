//! The program and its library as a whole, over real sockets and processes.

#![expect(
    clippy::unwrap_used,
    reason = "helpers outside of test functions are tests too"
)]

mod command_line;
#[cfg(unix)]
mod federation;
mod listeners;
#[cfg(unix)]
#[path = "../support/namespace.rs"]
mod namespace;
#[cfg(unix)]
mod refusals;
#[cfg(unix)]
mod users;
