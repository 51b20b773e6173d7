//! The program `parley` as a library: configuration, listeners and wiring.
//!
//! [`Server::start`] is everything that `parley serve` does, except for logging and signals,
//! which belong to the process. Tests use it too.

pub mod config;
pub mod control;

mod http;
mod listeners;
mod server;
mod wiring;

pub use self::{
    http::tls::TlsError,
    server::{Server, StartError},
    wiring::{WiringError, check_files},
};
