//! Making an event of this server: size checks, hash, signature, id.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#signing-events>

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId,
    OwnedUserId, RoomId, UInt,
    events::TimelineEventType,
    signatures::{JsonError, content_hash, hash_and_sign_event, reference_hash},
};
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    Pdu, RoomVersion, ServerKey,
    owned_state::{self, MalformedOwner},
    pdu::PduFields,
};

/// Bytes that an event may have in all, its signatures included.
pub const MAX_EVENT_BYTES: usize = 65_536;
/// Bytes that `sender`, `room_id`, `type` and `state_key` may have each.
pub const MAX_FIELD_BYTES: usize = 255;

/// What a user wants to put into a room.
#[derive(Clone, Debug)]
pub struct EventDraft {
    /// Who.
    pub sender: OwnedUserId,
    /// What kind of event.
    pub event_type: TimelineEventType,
    /// Where in the state of the room, if it is a state event.
    pub state_key: Option<String>,
    /// What it says.
    pub content: CanonicalJsonObject,
    /// The event that a redaction is for; put where the room version wants it.
    pub redacts: Option<OwnedEventId>,
    /// When.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
}

/// Where in a room's graph an event goes.
#[derive(Clone, Debug)]
pub struct Placement<'a> {
    /// The room; `None` for the create event of a room that is named after it.
    pub room_id: Option<&'a RoomId>,
    /// The room's version.
    pub version: &'a RoomVersion,
    /// The room's forward extremities.
    pub prev_events: Vec<OwnedEventId>,
    /// The events that allow this one.
    pub auth_events: Vec<OwnedEventId>,
    /// One more than the greatest of the prev events.
    pub depth: u64,
}

/// An event that is ready to be stored and sent.
#[derive(Clone, Debug)]
pub struct BuiltEvent {
    /// What authorisation looks at.
    pub pdu: Pdu,
    /// Canonical JSON of the whole, signed.
    pub json: String,
}

/// Why an event can't be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The event is larger than [`MAX_EVENT_BYTES`].
    #[error("the event is larger than {MAX_EVENT_BYTES} bytes")]
    TooLarge,
    /// A field is longer than [`MAX_FIELD_BYTES`].
    #[error("`{0}` is longer than {MAX_FIELD_BYTES} bytes")]
    FieldTooLong(&'static str),
    /// A field holds a null character, which not every database can store there.
    #[error("`{0}` holds a null character")]
    NullCharacter(&'static str),
    /// The state can't be anybody's, in a room where state is owned.
    #[error(transparent)]
    MalformedOwner(#[from] MalformedOwner),
    /// It can't be hashed and signed.
    #[error("the event can't be signed: {0}")]
    Signing(String),
}

impl From<JsonError> for BuildError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::PduTooLarge => Self::TooLarge,
            error => Self::Signing(error.to_string()),
        }
    }
}

/// Makes the event: checks the sizes, hashes, signs, and gives it its id.
///
/// # Errors
/// If a size limit of the spec is passed, <https://spec.matrix.org/v1.19/client-server-api/#size-limits>, or no room of
/// the version allows such a state key.
pub fn build(
    draft: EventDraft,
    placement: Placement<'_>,
    key: &ServerKey,
) -> Result<BuiltEvent, BuildError> {
    check_fields(&draft, &placement)?;
    let rules = placement.version.rules();
    let mut content = draft.content;
    let mut redacts = draft.redacts;
    if placement.version.redacts_in_content()
        && let Some(target) = redacts.take()
    {
        content.insert(
            "redacts".to_owned(),
            CanonicalJsonValue::String(target.into()),
        );
    }
    let raw_content = raw(&content)?;
    let fields = PduFields {
        room_id: placement.room_id.map(ToOwned::to_owned),
        sender: draft.sender,
        origin_server_ts: draft.origin_server_ts,
        event_type: draft.event_type,
        content: raw_content,
        state_key: draft.state_key,
        prev_events: placement.prev_events,
        auth_events: placement.auth_events,
        depth: UInt::new_saturating(placement.depth),
        redacts,
    };
    let mut object = to_object(&fields, content, placement.version);
    let given = match placement.version.events_carry_ids() {
        true => Some(give_id(&mut object, key)?),
        false => None,
    };
    hash_and_sign_event(
        key.server_name().as_str(),
        key,
        &mut object,
        &rules.redaction,
    )?;
    let hash = reference_hash(&object, rules)?;
    let json =
        serde_json::to_string(&object).map_err(|error| BuildError::Signing(error.to_string()))?;
    if json.len() > MAX_EVENT_BYTES {
        return Err(BuildError::TooLarge);
    }
    let event_id = match given {
        Some(event_id) => event_id,
        None => OwnedEventId::try_from(format!("${hash}"))
            .map_err(|error| BuildError::Signing(error.to_string()))?,
    };
    Ok(BuiltEvent {
        pdu: Pdu {
            event_id,
            fields,
            rejected: false,
        },
        json,
    })
}

/// The id of a room that is named after its create event.
pub fn room_id_of_create_event(create: &Pdu) -> Option<OwnedRoomId> {
    OwnedRoomId::try_from(format!("!{}", create.event_id.as_str().strip_prefix('$')?)).ok()
}

/// Puts an id into an event of versions 1 and 2: the hash of what it says, before its server's name.
fn give_id(object: &mut CanonicalJsonObject, key: &ServerKey) -> Result<OwnedEventId, BuildError> {
    let hash = URL_SAFE_NO_PAD.encode(content_hash(object)?.as_bytes());
    let event_id = OwnedEventId::try_from(format!("${hash}:{}", key.server_name()))
        .map_err(|error| BuildError::Signing(error.to_string()))?;
    object.insert(
        "event_id".to_owned(),
        CanonicalJsonValue::String(event_id.to_string()),
    );
    Ok(event_id)
}

fn check_fields(draft: &EventDraft, placement: &Placement<'_>) -> Result<(), BuildError> {
    let event_type = draft.event_type.to_string();
    for (name, value) in [
        ("type", event_type.as_str()),
        ("sender", draft.sender.as_str()),
        ("state_key", draft.state_key.as_deref().unwrap_or_default()),
        (
            "room_id",
            placement.room_id.map_or("", |room_id| room_id.as_str()),
        ),
    ] {
        if value.len() > MAX_FIELD_BYTES {
            return Err(BuildError::FieldTooLong(name));
        }
        if value.contains('\0') {
            return Err(BuildError::NullCharacter(name));
        }
    }
    if let Some(state_key) = &draft.state_key
        && placement.version.has_owned_state()
        && owned_state::governs(&draft.event_type)
    {
        owned_state::owner(state_key)?;
    }
    Ok(())
}

fn raw(content: &CanonicalJsonObject) -> Result<Box<RawValue>, BuildError> {
    let raw = to_raw_value(content).map_err(|error| BuildError::Signing(error.to_string()))?;
    if raw.get().len() > MAX_EVENT_BYTES {
        return Err(BuildError::TooLarge);
    }
    Ok(raw)
}

fn to_object(
    fields: &PduFields,
    content: CanonicalJsonObject,
    version: &RoomVersion,
) -> CanonicalJsonObject {
    let reference = |id: &OwnedEventId| {
        let id = CanonicalJsonValue::String(id.to_string());
        match version.events_carry_ids() {
            // No server looks at the hashes that the format has room for.
            true => CanonicalJsonValue::Array(vec![
                id,
                CanonicalJsonValue::Object(CanonicalJsonObject::new()),
            ]),
            false => id,
        }
    };
    let ids = |ids: &[OwnedEventId]| CanonicalJsonValue::Array(ids.iter().map(reference).collect());
    let mut object = CanonicalJsonObject::new();
    object.insert("auth_events".to_owned(), ids(&fields.auth_events));
    object.insert("content".to_owned(), CanonicalJsonValue::Object(content));
    object.insert(
        "depth".to_owned(),
        CanonicalJsonValue::Integer(fields.depth.into()),
    );
    object.insert(
        "origin_server_ts".to_owned(),
        CanonicalJsonValue::Integer(fields.origin_server_ts.get().into()),
    );
    object.insert("prev_events".to_owned(), ids(&fields.prev_events));
    if let Some(redacts) = &fields.redacts {
        object.insert(
            "redacts".to_owned(),
            CanonicalJsonValue::String(redacts.to_string()),
        );
    }
    if let Some(room_id) = &fields.room_id {
        object.insert(
            "room_id".to_owned(),
            CanonicalJsonValue::String(room_id.to_string()),
        );
    }
    object.insert(
        "sender".to_owned(),
        CanonicalJsonValue::String(fields.sender.to_string()),
    );
    if let Some(state_key) = &fields.state_key {
        object.insert(
            "state_key".to_owned(),
            CanonicalJsonValue::String(state_key.clone()),
        );
    }
    object.insert(
        "type".to_owned(),
        CanonicalJsonValue::String(fields.event_type.to_string()),
    );
    object
}

#[cfg(test)]
mod tests {
    use ruma::{RoomVersionId, room_id, server_name, user_id};

    use super::*;

    fn key() -> ServerKey {
        ServerKey::from_der(
            server_name!("example.org").to_owned(),
            &ServerKey::generate(),
            "1",
        )
        .unwrap()
    }

    fn draft(body: &str) -> EventDraft {
        EventDraft {
            sender: user_id!("@alice:example.org").to_owned(),
            event_type: TimelineEventType::RoomMessage,
            state_key: None,
            content: [(
                "body".to_owned(),
                CanonicalJsonValue::String(body.to_owned()),
            )]
            .into(),
            redacts: None,
            origin_server_ts: MilliSecondsSinceUnixEpoch(1_u32.into()),
        }
    }

    fn placement(version: &RoomVersion) -> Placement<'_> {
        Placement {
            room_id: Some(room_id!("!room:example.org")),
            version,
            prev_events: vec![],
            auth_events: vec![],
            depth: 1,
        }
    }

    #[test]
    fn an_event_is_canonical_and_its_id_is_its_hash() {
        let version = RoomVersion::new(&RoomVersionId::V11).unwrap();
        let event = build(draft("hello"), placement(&version), &key()).unwrap();
        let object: CanonicalJsonObject = serde_json::from_str(&event.json).unwrap();
        assert_eq!(serde_json::to_string(&object).unwrap(), event.json);
        let hash = reference_hash(&object, version.rules()).unwrap();
        assert_eq!(event.pdu.event_id.as_str(), format!("${hash}"));
    }

    #[test]
    fn an_event_of_version_2_carries_its_id_and_names_others_in_pairs() {
        let version = RoomVersion::new(&RoomVersionId::V2).unwrap();
        let mut placement = placement(&version);
        placement.prev_events = vec![ruma::event_id!("$before:example.org").to_owned()];
        let event = build(draft("hello"), placement, &key()).unwrap();
        let id = event.pdu.event_id.as_str();
        assert!(id.ends_with(":example.org"), "{id}");
        assert!(event.json.contains(&format!(r#""event_id":"{id}""#)));
        assert!(
            event
                .json
                .contains(r#""prev_events":[["$before:example.org",{}]]"#)
        );
        let read = Pdu::parse(event.pdu.event_id.clone(), &event.json).unwrap();
        assert_eq!(read.fields.prev_events, event.pdu.fields.prev_events);
    }

    #[test]
    fn an_event_over_the_size_limit_is_refused() {
        let version = RoomVersion::new(&RoomVersionId::V11).unwrap();
        let result = build(
            draft(&"x".repeat(MAX_EVENT_BYTES - 100)),
            placement(&version),
            &key(),
        );
        assert!(matches!(result, Err(BuildError::TooLarge)));
    }

    #[test]
    fn a_state_key_that_can_be_nobodys_is_refused_where_state_is_owned() {
        let key = key();
        for (version, event_type, state_key, is_refused) in [
            ("org.matrix.msc3757.10", "test", "@oops", true),
            ("org.matrix.msc3757.11", "test", "@oops", true),
            ("org.matrix.msc3757.10", "test", "@bob:b_device", false),
            ("org.matrix.msc3757.10", "m.room.member", "@oops", false),
            ("10", "test", "@oops", false),
        ] {
            let version = RoomVersionId::try_from(version).unwrap();
            let version = RoomVersion::new(&version).unwrap();
            let mut draft = draft("");
            draft.event_type = event_type.into();
            draft.state_key = Some(state_key.to_owned());
            let result = build(draft, placement(&version), &key);
            let malformed = matches!(result, Err(BuildError::MalformedOwner(_)));
            assert_eq!(malformed, is_refused, "{state_key} in {}", version.id());
        }
    }

    #[test]
    fn a_redaction_names_its_target_where_the_version_wants_it() {
        for (version, in_content) in [(RoomVersionId::V10, false), (RoomVersionId::V11, true)] {
            let version = RoomVersion::new(&version).unwrap();
            let mut draft = draft("");
            draft.event_type = TimelineEventType::RoomRedaction;
            draft.redacts = Some(ruma::event_id!("$target").to_owned());
            let event = build(draft, placement(&version), &key()).unwrap();
            assert_eq!(event.pdu.redacts(in_content).unwrap(), "$target");
            assert_eq!(event.pdu.redacts(!in_content), None);
        }
    }
}
