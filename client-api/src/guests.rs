//! What guests may do: <https://spec.matrix.org/v1.19/client-server-api/#client-behaviour-20>.

use http::Method;

/// What guests may ask for, behind the version of the API; `*` stands for one part of a path. Beside what the
/// specification lists it is what they can't do those things without: to log out, to know the server, to filter.
const ALLOWED: &[(Method, &str)] = &[
    (Method::GET, "rooms/*/state"),
    (Method::GET, "rooms/*/context/*"),
    (Method::GET, "rooms/*/event/*"),
    (Method::GET, "rooms/*/state/*"),
    (Method::GET, "rooms/*/state/*/*"),
    (Method::GET, "rooms/*/messages"),
    (Method::GET, "rooms/*/members"),
    (Method::GET, "rooms/*/initialSync"),
    (Method::GET, "sync"),
    (Method::GET, "events"),
    // Whether a call of theirs is relayed is decided there.
    (Method::GET, "voip/turnServer"),
    (Method::GET, "media/download/*/*"),
    (Method::GET, "media/download/*/*/*"),
    (Method::GET, "media/thumbnail/*/*"),
    (Method::POST, "rooms/*/join"),
    (Method::POST, "join/*"),
    (Method::POST, "rooms/*/leave"),
    (Method::PUT, "rooms/*/send/*/*"),
    (Method::PUT, "rooms/*/state/*"),
    (Method::PUT, "rooms/*/state/*/*"),
    (Method::PUT, "sendToDevice/*/*"),
    (Method::PUT, "profile/*/displayname"),
    (Method::DELETE, "profile/*/displayname"),
    (Method::GET, "profile/*"),
    (Method::GET, "profile/*/*"),
    (Method::GET, "devices"),
    (Method::GET, "devices/*"),
    (Method::PUT, "devices/*"),
    (Method::GET, "account/whoami"),
    (Method::PUT, "org.matrix.msc4140/rooms/*/delayed_event/*/*"),
    (Method::GET, "org.matrix.msc4140/delayed_events"),
    (Method::GET, "org.matrix.msc4140/delayed_events/*"),
    (Method::POST, "org.matrix.msc4140/delayed_events/*"),
    (Method::POST, "org.matrix.msc4140/delayed_events/*/*"),
    (Method::POST, "keys/upload"),
    (Method::POST, "keys/query"),
    (Method::POST, "keys/claim"),
    (Method::GET, "capabilities"),
    (Method::GET, "versions"),
    (Method::GET, "user/*/filter/*"),
    (Method::POST, "user/*/filter"),
    (Method::POST, "logout"),
    (Method::POST, "logout/all"),
];

/// Whether guests may ask for that.
pub(crate) fn may(method: &Method, path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/_matrix/client/") else {
        return false;
    };
    // `/versions` stands without a version itself.
    let unversioned = (rest == "versions").then_some(rest);
    let Some(operation) = unversioned.or_else(|| rest.split_once('/').map(|(_, rest)| rest)) else {
        return false;
    };
    ALLOWED
        .iter()
        .any(|(allowed, pattern)| allowed == method && fits(pattern, operation))
}

fn fits(pattern: &str, path: &str) -> bool {
    let mut parts = path.trim_end_matches('/').split('/');
    let fits = pattern.split('/').all(|wanted| {
        let part = parts.next();
        part == Some(wanted) || (wanted == "*" && part.is_some_and(|part| !part.is_empty()))
    });
    fits && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_may_do_what_is_listed_in_any_version() {
        assert!(may(&Method::GET, "/_matrix/client/v3/sync"));
        assert!(may(&Method::GET, "/_matrix/client/r0/rooms/!a:b/messages"));
        assert!(may(
            &Method::PUT,
            "/_matrix/client/v3/rooms/!a:b/state/m.room.name/"
        ));
        assert!(may(&Method::GET, "/_matrix/client/versions"));
    }

    #[test]
    fn guests_may_do_nothing_else() {
        assert!(!may(&Method::POST, "/_matrix/client/v3/createRoom"));
        assert!(!may(&Method::POST, "/_matrix/client/v3/sync"));
        assert!(!may(
            &Method::PUT,
            "/_matrix/client/v3/profile/@a:b/avatar_url"
        ));
        assert!(!may(
            &Method::GET,
            "/_matrix/client/v3/rooms/!a:b/messages/x"
        ));
        assert!(!may(&Method::GET, "/_synapse/admin/v1/sync"));
        assert!(!may(&Method::POST, "/_matrix/client/v3/rooms//join"));
    }
}
