//! The program `parley` as a library: configuration, listeners and wiring.

pub mod config;
