//! Behaviour of the whole server, by area. One program, as each would have to be linked.

mod discovery;
mod requests;
