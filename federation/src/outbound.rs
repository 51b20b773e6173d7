//! What this server asks of others: one way out for everything.
//!
//! A request goes through [`Client::send`]: the server's name is resolved ([`discovery`]), the addresses are filtered
//! ([`addresses`]), the request is signed, sent within limits on time and size ([`http`]), and how it went is remembered of
//! the destination ([`destinations`]).

pub(crate) mod addresses;
pub(crate) mod client;
pub(crate) mod destinations;
pub(crate) mod discovery;
pub(crate) mod http;
pub(crate) mod identity;
pub(crate) mod names;
pub(crate) mod remote;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod transport;
pub(crate) mod well_known;

pub(crate) use self::client::Client;
