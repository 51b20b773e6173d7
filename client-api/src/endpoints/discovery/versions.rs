//! `GET /_matrix/client/versions`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientversions>

use ruma::api::client::discovery::get_supported_versions::{Request, Response};

use crate::{ClientApi, Incoming, Result};

/// The versions of the specification that a client may rely on. Those before v1.1 are there for clients that look for
/// nothing else.
const VERSIONS: &[&str] = &[
    "r0.5.0", "r0.6.0", "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8",
    "v1.9", "v1.10", "v1.11", "v1.12", "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18",
    "v1.19",
];

/// Features that clients look for by name: in the specification by now, but not in every version above. Extended
/// profiles.
const FEATURES: &[&str] = &["uk.tcpip.msc4133", "uk.tcpip.msc4133.stable"];

pub(super) async fn handle(_: ClientApi, _: Incoming<Request>) -> Result<Response> {
    let mut response = Response::new(VERSIONS.iter().map(ToString::to_string).collect());
    response.unstable_features = FEATURES
        .iter()
        .map(|feature| ((*feature).to_owned(), true))
        .collect();
    Ok(response)
}
