//! What carries requests to other servers, where that isn't the network.

use std::fmt;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use parley_engine::remote::RemoteError;
use ruma::ServerName;

/// The answer as it came, or why there is none.
pub type Carried<'a> = BoxFuture<'a, Result<Response<Bytes>, RemoteError>>;

/// Carries requests in place of HTTP over TLS: what drives several servers within one process has one. Names aren't
/// resolved then, and addresses not filtered; signatures, limits of time, and what is remembered of servers stay the same.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Takes a signed request to a server and brings its answer. May never return: whoever asks waits for a limited time.
    fn carry<'a>(&'a self, destination: &'a ServerName, request: Request<Vec<u8>>) -> Carried<'a>;
}
