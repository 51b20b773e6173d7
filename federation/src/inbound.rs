//! What this server is asked, a file for each endpoint.

pub(crate) mod openid;
pub(crate) mod version;
