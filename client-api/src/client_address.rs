//! Where a request came from.

use std::net::IpAddr;

/// The address of the client, put into a request's extensions by whoever accepts connections: that of the connection,
/// or where a trusted proxy forwards, what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);
