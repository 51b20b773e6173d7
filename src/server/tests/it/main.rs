//! The program and its library as a whole, over real sockets and processes.

#![expect(
    clippy::unwrap_used,
    reason = "helpers outside of test functions are tests too"
)]

mod command_line;
mod listeners;
#[cfg(unix)]
mod users;
