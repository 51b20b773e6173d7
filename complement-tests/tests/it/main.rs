//! Behaviour of the whole server, by area. One program, as each would have to be linked.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod accounts;
mod conformance;
mod discovery;
mod federation;
mod limited;
mod mutations;
mod nodes;
mod personal;
mod requests;
mod rooms;
mod sync;
