//! Events that one server drafts and another completes: joins, leaves and knocks of users whose server is not in the
//! room.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, RoomId, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};

use crate::{
    BuildError, BuiltEvent, EventDraft, Pdu, Placement, RoomVersion, ServerKey, build,
    incoming::read_object,
};

/// What a template has to be of, whatever the server says that gave it.
#[derive(Clone, Debug)]
pub struct Membership<'a> {
    /// The room.
    pub room_id: &'a RoomId,
    /// The user, who is also the sender.
    pub user_id: &'a UserId,
    /// What the user becomes.
    pub membership: MembershipState,
    /// What else the content says: the user's names, a reason.
    pub content: CanonicalJsonObject,
    /// When.
    pub at: MilliSecondsSinceUnixEpoch,
}

/// Why a template can't be completed.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It has not the format of one.
    #[error("the template is none: {0}")]
    Format(String),
    /// It is of something else than what was asked for.
    #[error("the template is of something else: its {0} differs")]
    Differs(&'static str),
    /// The event that it makes can't be built.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Completes a template: takes over its place in the graph, and of its content what the room asks for, and signs it.
///
/// # Errors
/// If it is not of the membership that was asked for, which would be putting words into the user's mouth.
pub fn complete(
    template: &str,
    wanted: Membership<'_>,
    version: &RoomVersion,
    key: &ServerKey,
) -> Result<BuiltEvent, TemplateError> {
    let format = |error: &dyn ToString| TemplateError::Format(error.to_string());
    let mut object = read_object(template, version).map_err(|error| format(&error))?;
    // A template needs no time, as the server that completes it puts its own.
    let now = CanonicalJsonValue::Integer(wanted.at.get().into());
    object.insert("origin_server_ts".to_owned(), now);
    let json = serde_json::to_string(&object).map_err(|error| format(&error))?;
    let placeholder = ruma::event_id!("$template").to_owned();
    let pdu = Pdu::parse(placeholder, &json).map_err(|error| format(&error))?;
    let fields = pdu.fields;
    let mut content: CanonicalJsonObject =
        serde_json::from_str(fields.content.get()).map_err(|error| format(&error))?;
    let membership = content.get("membership").and_then(|value| value.as_str());
    for (differs, what) in [
        (fields.room_id.as_deref() != Some(wanted.room_id), "room"),
        (fields.sender != wanted.user_id, "sender"),
        (
            fields.state_key.as_deref() != Some(wanted.user_id.as_str()),
            "state key",
        ),
        (fields.event_type != TimelineEventType::RoomMember, "type"),
        (membership != Some(wanted.membership.as_str()), "membership"),
    ] {
        if differs {
            return Err(TemplateError::Differs(what));
        }
    }
    // Of the content, only who vouches for the join is the other server's to say.
    content.retain(|key, _| key == "membership" || key == "join_authorised_via_users_server");
    let mut said = wanted.content;
    said.remove("join_authorised_via_users_server");
    said.extend(content);
    let draft = EventDraft {
        sender: fields.sender,
        event_type: fields.event_type,
        state_key: fields.state_key,
        content: said,
        redacts: None,
        origin_server_ts: wanted.at,
    };
    let placement = Placement {
        room_id: Some(wanted.room_id),
        version,
        prev_events: fields.prev_events,
        auth_events: fields.auth_events,
        depth: fields.depth.into(),
    };
    Ok(build(draft, placement, key)?)
}

/// The template of a built event: without what its own server has to put there.
pub fn of_event(event: &BuiltEvent) -> Option<String> {
    let mut object: CanonicalJsonObject = serde_json::from_str(&event.json).ok()?;
    for field in ["hashes", "signatures", "event_id"] {
        object.remove(field);
    }
    serde_json::to_string(&object).ok()
}

#[cfg(test)]
mod tests {
    use ruma::{RoomVersionId, room_id, user_id};

    use super::*;

    const TEMPLATE: &str = r#"{"auth_events":["$a"],"content":{"membership":"join","join_authorised_via_users_server":"@v:b","displayname":"Mallory"},"depth":7,"prev_events":["$p"],"room_id":"!r:b","sender":"@me:a","state_key":"@me:a","type":"m.room.member"}"#;

    fn wanted() -> Membership<'static> {
        Membership {
            room_id: room_id!("!r:b"),
            user_id: user_id!("@me:a"),
            membership: MembershipState::Join,
            content: [("displayname".to_owned(), "Me".to_owned().into())].into(),
            at: MilliSecondsSinceUnixEpoch(9_u32.into()),
        }
    }

    fn completed(template: &str, wanted: Membership<'_>) -> Result<BuiltEvent, TemplateError> {
        let version = RoomVersion::new(&RoomVersionId::V11).unwrap();
        let server = ruma::server_name!("a").to_owned();
        let key = ServerKey::from_der(server, &ServerKey::generate(), "1").unwrap();
        complete(template, wanted, &version, &key)
    }

    #[test]
    fn a_completed_template_says_what_the_user_says_in_the_place_that_the_room_gives() {
        let event = completed(TEMPLATE, wanted()).unwrap();
        let content: CanonicalJsonObject =
            serde_json::from_str(event.pdu.fields.content.get()).unwrap();
        assert_eq!(content["displayname"].as_str(), Some("Me"));
        assert_eq!(
            content["join_authorised_via_users_server"].as_str(),
            Some("@v:b")
        );
        assert_eq!(event.pdu.fields.prev_events, ["$p"]);
        assert_eq!(event.pdu.fields.auth_events, ["$a"]);
        assert_eq!(u64::from(event.pdu.fields.depth), 7);
        assert_eq!(event.pdu.fields.origin_server_ts.get(), 9_u32.into());
    }

    #[test]
    fn a_template_of_something_else_is_refused() {
        for (from, to) in [
            ("\"join\"", "\"leave\""),
            ("!r:b", "!other:b"),
            ("\"sender\":\"@me:a\"", "\"sender\":\"@you:a\""),
            ("\"state_key\":\"@me:a\"", "\"state_key\":\"@you:a\""),
            ("m.room.member", "m.room.power_levels"),
        ] {
            let result = completed(&TEMPLATE.replace(from, to), wanted());
            assert!(matches!(result, Err(TemplateError::Differs(_))), "{to}");
        }
        assert!(completed("{}", wanted()).is_err());
    }
}
