//! The shape of events that the specification defines and that a server wouldn't take from its own users otherwise:
//! what clients can't read would do harm in the room for good.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-events>

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, ServerName, UserId,
    events::room::server_acl::RoomServerAclEventContent,
};

use crate::RoomVersion;

/// Says what is wrong with the content of a state event of a type that is known. Other types are free.
///
/// # Errors
/// A sentence that names the field.
pub fn check_state(
    event_type: &str,
    content: &CanonicalJsonObject,
    version: &RoomVersion,
    server: &ServerName,
) -> Result<(), String> {
    match event_type {
        "m.room.create" => check_create(content),
        "m.room.power_levels" => check_power_levels(content, version),
        "m.room.server_acl" => check_access_list(content, server),
        // What is no condition in `allow` lets nobody in, and does no harm.
        "m.room.join_rules" => required_text(content, "join_rule"),
        "m.room.guest_access" => required_text(content, "guest_access"),
        "m.room.encryption" => required_text(content, "algorithm"),
        "m.room.name" => text(content, "name"),
        "m.room.topic" => text(content, "topic"),
        "m.room.tombstone" => text(content, "replacement_room"),
        _ => Ok(()),
    }
}

/// Says what is wrong with the content of an event that is no state event.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#mroommessage>
///
/// # Errors
/// A sentence that names the field.
pub fn check_message(event_type: &str, content: &CanonicalJsonObject) -> Result<(), String> {
    match event_type {
        "m.room.create" => Err("a room is created once".to_owned()),
        "m.room.message" => {
            required_text(content, "msgtype")?;
            required_text(content, "body")
        }
        _ => Ok(()),
    }
}

fn check_create(content: &CanonicalJsonObject) -> Result<(), String> {
    if let Some(federate) = content.get("m.federate")
        && federate.as_bool().is_none()
    {
        return Err("`m.federate` is true or false".to_owned());
    }
    text(content, "type")
}

/// <https://spec.matrix.org/v1.19/client-server-api/#mroompower_levels>
fn check_power_levels(content: &CanonicalJsonObject, version: &RoomVersion) -> Result<(), String> {
    // Before version 10 a level may be a text that holds a number.
    let strict = version.rules().authorization.integer_power_levels;
    let is_level = |value: &CanonicalJsonValue| match value {
        CanonicalJsonValue::Integer(_) => true,
        CanonicalJsonValue::String(text) => !strict && text.trim().parse::<i64>().is_ok(),
        _ => false,
    };
    for field in [
        "ban",
        "events_default",
        "invite",
        "kick",
        "redact",
        "state_default",
        "users_default",
    ] {
        if content.get(field).is_some_and(|level| !is_level(level)) {
            return Err(format!("`{field}` is an integer"));
        }
    }
    for field in ["events", "notifications", "users"] {
        let Some(levels) = content.get(field) else {
            continue;
        };
        let levels = levels
            .as_object()
            .ok_or_else(|| format!("`{field}` is an object"))?;
        if let Some((key, _)) = levels.iter().find(|(_, level)| !is_level(level)) {
            return Err(format!("the level of {key} in `{field}` is an integer"));
        }
        if field == "users"
            && let Some(key) = levels
                .keys()
                .find(|key| <&UserId>::try_from(key.as_str()).is_err())
        {
            return Err(format!("{key:?} in `users` is no user id"));
        }
    }
    Ok(())
}

/// A list that shuts out the server itself could be taken back by nobody on it.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#mroomserver_acl>
fn check_access_list(content: &CanonicalJsonObject, server: &ServerName) -> Result<(), String> {
    let list: RoomServerAclEventContent = serde_json::to_value(content)
        .and_then(serde_json::from_value)
        .map_err(|_| "`allow` and `deny` are lists of texts".to_owned())?;
    match list.is_allowed(server) {
        true => Ok(()),
        false => Err(format!("the list would shut out {server}, your own server")),
    }
}

fn required_text(content: &CanonicalJsonObject, field: &str) -> Result<(), String> {
    match content.get(field) {
        Some(CanonicalJsonValue::String(_)) => Ok(()),
        _ => Err(format!("`{field}` is required, a text")),
    }
}

/// A text, nothing, or null, which says as much as nothing.
fn text(content: &CanonicalJsonObject, field: &str) -> Result<(), String> {
    match content.get(field) {
        None | Some(CanonicalJsonValue::Null | CanonicalJsonValue::String(_)) => Ok(()),
        Some(_) => Err(format!("`{field}` is a text")),
    }
}

#[cfg(test)]
mod tests {
    use ruma::{RoomVersionId, server_name};
    use serde_json::{Value, json};

    use super::*;

    fn check(event_type: &str, content: Value, version: RoomVersionId) -> Result<(), String> {
        let content = serde_json::from_value(content).unwrap();
        let version = RoomVersion::new(&version).unwrap();
        check_state(event_type, &content, &version, server_name!("parley.test"))
    }

    #[test]
    fn a_level_is_a_text_in_old_versions_only() {
        for (content, old, new) in [
            (json!({ "ban": 50, "users": { "@a:b": 1 } }), true, true),
            (json!({ "ban": " 50 " }), true, false),
            (json!({ "users": { "@a:b": "1" } }), true, false),
            (json!({ "ban": "many" }), false, false),
            (json!({ "ban": null }), false, false),
            (json!({ "ban": true }), false, false),
            (json!({ "events": [] }), false, false),
            (json!({ "users": { "a": 1 } }), false, false),
        ] {
            let fits = |version| check("m.room.power_levels", content.clone(), version).is_ok();
            assert_eq!(fits(RoomVersionId::V9), old, "{content}");
            assert_eq!(fits(RoomVersionId::V10), new, "{content}");
        }
    }

    #[test]
    fn nobody_shuts_out_their_own_server() {
        let fits = |content| check("m.room.server_acl", content, RoomVersionId::V11).is_ok();
        assert!(fits(json!({ "allow": ["*"], "deny": ["evil.test"] })));
        assert!(!fits(json!({ "allow": ["*"], "deny": ["*.test"] })));
        assert!(!fits(json!({ "allow": [] })));
        assert!(!fits(json!({ "allow": "*" })));
    }
}
