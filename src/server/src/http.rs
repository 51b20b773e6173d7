//! HTTP as such, below the endpoints: connections, TLS, limits, and what is observed of requests.

pub(crate) mod connections;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod observe;
pub(crate) mod tls;

mod body;
mod forwarded;
mod request_id;

#[cfg(test)]
mod tests;
