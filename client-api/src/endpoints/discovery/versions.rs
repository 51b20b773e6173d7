//! `GET /_matrix/client/versions`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientversions>

use ruma::api::client::discovery::get_supported_versions::{Request, Response};

use crate::{ClientApi, Incoming, Result};

/// The versions of the specification that a client may rely on. Of those before v1.1, which are there for clients that
/// look for nothing else, the newest of each minor version, as the specification wants it.
///
/// Clients take a version for the promise of what came with it, and find out about nothing else. So a version is added
/// when its operations are there, not before: v1.13 and v1.14 (reports of rooms and users), v1.15 (room summaries), v1.16
/// (`use_state_after`), v1.17 (application services and their devices), v1.18 (locking and suspending), v1.19 (mutual
/// rooms). What is there of those is among the features.
const VERSIONS: &[&str] = &[
    "r0.5.0", "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9",
    "v1.10", "v1.11", "v1.12",
];

/// What clients look for by name, as no version above promises it.
const FEATURES: &[&str] = &[
    // The services of calls, in the well-known file and by an operation.
    "org.matrix.msc4143",
    // Messages by how they relate to others.
    "org.matrix.msc3874",
    // Who may invite, by users and servers.
    "org.matrix.msc4155",
    // Rooms that one shares with somebody, of v1.19.
    "uk.half-shot.msc2666.query_mutual_rooms",
    "uk.half-shot.msc2666.query_mutual_rooms.stable",
    // Locking and suspending, of v1.18.
    "uk.timedout.msc4323",
    // Extended profiles, of v1.16.
    "uk.tcpip.msc4133",
    "uk.tcpip.msc4133.stable",
];

/// Delayed events, which a server may be set not to have.
const DELAYED_EVENTS: &str = "org.matrix.msc4140";

pub(super) async fn handle(api: ClientApi, _: Incoming<Request>) -> Result<Response> {
    let mut response = Response::new(VERSIONS.iter().map(ToString::to_string).collect());
    response.unstable_features = FEATURES
        .iter()
        .map(|feature| ((*feature).to_owned(), true))
        .collect();
    let delayed_events = api.engine.settings().delayed_events.max_scheduled > 0;
    let features = &mut response.unstable_features;
    features.insert(DELAYED_EVENTS.to_owned(), delayed_events);
    Ok(response)
}
