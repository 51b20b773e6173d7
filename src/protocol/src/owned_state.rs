//! Owned state: a state key that begins with the id of a user, its owner, is theirs. Others may set what stands there if
//! they have a higher power level than the owner.
//!
//! The owner's id ends with the key, or at the first `_` after its first `:`; what follows is free. So somebody may have
//! several events of one type. The rule takes the place of the one by which a state key with `@` has to be the sender's
//! id, in room versions that [have owned state](RoomVersion::has_owned_state); the events that are allowed or refused
//! before that rule, as those of members are, don't come to it.
//!
//! The proposal lets such keys be longer than others. Servers that know the version don't, so this one keeps to
//! [`MAX_FIELD_BYTES`](crate::MAX_FIELD_BYTES): what some servers drop would tear the room apart.
//!
//! [MSC3757](https://github.com/matrix-org/matrix-spec-proposals/pull/3757)

use std::borrow::Cow;

use ruma::{
    Int, UserId,
    events::{StateEventType, TimelineEventType},
    state_res::{
        Event,
        events::{RoomCreateEvent, RoomPowerLevelsEvent},
    },
};

use crate::{Pdu, RoomVersion};

/// What a masked state key begins with.
const MASK: char = '%';

/// The power level of who made a room, as long as it has no power levels.
const LEVEL_OF_CREATOR: i32 = 100;

/// A state key begins with `@`, but not with a user id that it could belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a state key with `@` has to be a user id, or to begin with one and `_`")]
pub struct MalformedOwner;

/// Whom a state key belongs to; `None` if to nobody in particular.
///
/// # Errors
/// If it begins with `@` and names no user.
pub fn owner(state_key: &str) -> Result<Option<&UserId>, MalformedOwner> {
    if !state_key.starts_with('@') {
        return Ok(None);
    }
    let (localpart, rest) = state_key.split_once(':').ok_or(MalformedOwner)?;
    let server_name = rest.split('_').next().unwrap_or(rest);
    let end = localpart.len() + 1 + server_name.len();
    let user_id = state_key.get(..end).ok_or(MalformedOwner)?;
    let user_id = <&UserId>::try_from(user_id).map_err(|_| MalformedOwner)?;
    Ok(Some(user_id))
}

/// Whether the rule is for events of a type.
pub(crate) fn governs(event_type: &TimelineEventType) -> bool {
    !matches!(
        event_type,
        TimelineEventType::RoomCreate
            | TimelineEventType::RoomMember
            | TimelineEventType::RoomThirdPartyInvite
    )
}

/// Whether it takes the room's state to say if the rule allows an event: it stands where the state isn't the sender's, nor
/// nobody's; or where that can't be said.
pub(crate) fn is_doubtful(event: &Pdu) -> bool {
    let fields = &event.fields;
    let state_key = fields.state_key.as_deref().unwrap_or_default();
    let is_senders = |owner: Option<&UserId>| owner.is_none_or(|owner| *owner == fields.sender);
    governs(&fields.event_type) && !owner(state_key).is_ok_and(is_senders)
}

/// Whether the sender of an event may write to its place, by the state that `fetch` gives: the place is nobody's or
/// their own, or they stand above its owner.
///
/// # Errors
/// The reason why not.
pub(crate) fn check<E: Event>(
    event: &Pdu,
    version: &RoomVersion,
    fetch: impl Fn(&StateEventType, &str) -> Option<E>,
) -> Result<(), String> {
    let fields = &event.fields;
    let Some(state_key) = fields.state_key.as_deref() else {
        return Ok(());
    };
    if !governs(&fields.event_type) {
        return Ok(());
    }
    let owner = owner(state_key).map_err(|error| error.to_string())?;
    let Some(owner) = owner.filter(|owner| *owner != fields.sender) else {
        return Ok(());
    };
    let level = |user_id| level_of(user_id, version, &fetch);
    if level(&fields.sender)? > level(owner)? {
        return Ok(());
    }
    Err(format!(
        "the state there belongs to {owner}, whose power level isn't lower than the sender's"
    ))
}

/// The power level of a user. No version that has owned state puts creators above all levels.
fn level_of<E: Event>(
    user_id: &UserId,
    version: &RoomVersion,
    fetch: impl Fn(&StateEventType, &str) -> Option<E>,
) -> Result<Int, String> {
    let rules = &version.rules().authorization;
    if let Some(levels) = fetch(&StateEventType::RoomPowerLevels, "") {
        return RoomPowerLevelsEvent::new(levels).user_power_level(user_id, rules);
    }
    let create = fetch(&StateEventType::RoomCreate, "").ok_or("the room has no create event")?;
    let creators = RoomCreateEvent::new(create).creators(rules)?;
    Ok(match creators.contains(user_id) {
        true => LEVEL_OF_CREATOR.into(),
        false => Int::default(),
    })
}

/// An event as ruma gets to see it, whose rule for state keys with `@` would refuse what [`check`] is there to judge: with
/// another state key, if that rule is for it. No other rule looks at such a key.
pub(crate) fn masked(event: &Pdu) -> Cow<'_, Pdu> {
    let fields = &event.fields;
    let state_key = fields.state_key.as_deref();
    match state_key.and_then(|state_key| masked_key(&fields.event_type, state_key)) {
        Some(state_key) => {
            let mut event = event.clone();
            event.fields.state_key = Some(state_key);
            Cow::Owned(event)
        }
        None => Cow::Borrowed(event),
    }
}

/// The state key that stands for one of an event of a type, if another does: for each its own.
pub(crate) fn masked_key(event_type: &TimelineEventType, state_key: &str) -> Option<String> {
    let is_masked = state_key.starts_with(['@', MASK]) && governs(event_type);
    is_masked.then(|| format!("{MASK}{state_key}"))
}

/// The state key that one of an event of a type stands for, if it stands for another.
pub(crate) fn unmasked_key(event_type: &TimelineEventType, state_key: &str) -> Option<String> {
    let unmasked = state_key.strip_prefix(MASK)?;
    governs(event_type).then(|| unmasked.to_owned())
}

#[cfg(test)]
mod tests {
    use ruma::{RoomVersionId, owned_event_id, user_id};
    use serde_json::{Value, json};

    use super::*;
    use crate::auth;

    const ALICE: &str = "@alice:a";
    const BOB: &str = "@bob:b.example:8448";

    fn event(sender: &str, event_type: &str, state_key: &str, content: Value) -> Pdu {
        let json = json!({
            "room_id": "!room:a", "sender": sender, "type": event_type, "state_key": state_key,
            "content": content, "depth": 1, "origin_server_ts": 1,
            "prev_events": [], "auth_events": [],
        });
        Pdu::parse(owned_event_id!("$event"), &json.to_string()).unwrap()
    }

    /// Whether a room allows somebody to write to a place, where these power levels hold.
    fn allows(
        version: &str,
        levels: Option<Value>,
        sender: &str,
        event_type: &str,
        state_key: &str,
    ) -> bool {
        let version = RoomVersion::new(&RoomVersionId::try_from(version).unwrap()).unwrap();
        let create = event(ALICE, "m.room.create", "", json!({ "creator": ALICE }));
        let levels = levels.map(|levels| event(ALICE, "m.room.power_levels", "", levels));
        let member = event(
            sender,
            "m.room.member",
            sender,
            json!({ "membership": "join" }),
        );
        let written = event(sender, event_type, state_key, json!({}));
        let fetch = |event_type: &StateEventType, state_key: &str| match event_type {
            StateEventType::RoomCreate => Some(&create),
            StateEventType::RoomPowerLevels => levels.as_ref(),
            StateEventType::RoomMember if state_key == sender => Some(&member),
            _ => None,
        };
        auth::check_state_dependent(&written, &version, fetch).is_ok()
    }

    const VERSIONS: [&str; 2] = ["org.matrix.msc3757.10", "org.matrix.msc3757.11"];

    /// The same in all versions.
    fn writes(sender: &str, state_key: &str) -> bool {
        let levels = json!({ "users": { ALICE: 50, BOB: 50, "@low:a": 10 }, "state_default": 0 });
        let [one, other] = VERSIONS
            .map(|version| allows(version, Some(levels.clone()), sender, "test", state_key));
        assert_eq!(one, other);
        one
    }

    #[test]
    fn a_state_key_belongs_to_the_user_it_begins_with() {
        let of_bob = Ok(Some(user_id!("@bob:b.example:8448")));
        for key in [
            "@bob:b.example:8448",
            "@bob:b.example:8448_",
            "@bob:b.example:8448_device",
            "@bob:b.example:8448_@alice:a_:!#$",
        ] {
            assert_eq!(owner(key), of_bob, "{key}");
        }
        let underscored = owner("@a_b_@c:[::1]:80_d_e");
        assert_eq!(underscored, Ok(Some(user_id!("@a_b_@c:[::1]:80"))));
        for nobodys in ["", "bob", "_@bob:b", " @bob:b", "%@bob:b"] {
            assert_eq!(owner(nobodys), Ok(None), "{nobodys}");
        }
    }

    #[test]
    fn a_state_key_with_a_sigil_and_no_user_id_is_malformed() {
        for key in [
            "@",
            "@oops",
            "@oops_device",
            "@:",
            "@bob:",
            "@bob:_device",
            "@bob:b@device",
            "@bob:b:port_device",
            "@bob:b\u{e9}_device",
        ] {
            assert_eq!(owner(key), Err(MalformedOwner), "{key}");
        }
        let long = format!("@{}:b_device", "b".repeat(254));
        assert_eq!(owner(&long), Err(MalformedOwner));
    }

    #[test]
    fn somebody_may_write_to_what_is_theirs_or_nobodys() {
        for key in ["", "key", "@low:a", "@low:a_device", "@low:a_@bob:b"] {
            assert!(writes("@low:a", key), "{key}");
        }
    }

    #[test]
    fn what_belongs_to_others_takes_a_higher_level_than_theirs() {
        for key in ["@low:a", "@low:a_device", "@stranger:c_device"] {
            assert!(writes(ALICE, key), "{key}");
        }
        for key in [BOB, &format!("{BOB}_device"), "@alice:a.b_device"] {
            assert_eq!(writes(ALICE, key), key.starts_with(ALICE), "{key}");
        }
        assert!(!writes("@low:a", "@alice:a_device"));
        assert!(!writes("@stranger:c", "@other:c_device"));
    }

    #[test]
    fn nobody_may_write_where_the_owner_is_malformed() {
        for key in ["@oops", "@alice:a@device", "@low:a:_device"] {
            assert!(!writes(ALICE, key), "{key}");
        }
    }

    #[test]
    fn without_power_levels_the_creator_stands_above_others() {
        // Since version 11, it's who sent the create event.
        for (id, content) in VERSIONS
            .into_iter()
            .zip([json!({ "creator": ALICE }), json!({})])
        {
            let id = RoomVersionId::try_from(id).unwrap();
            let version = RoomVersion::new(&id).unwrap();
            let create = event(ALICE, "m.room.create", "", content);
            let writes = |sender, state_key| {
                let written = event(sender, "test", state_key, json!({}));
                let fetch = |event_type: &StateEventType, _: &str| {
                    (*event_type == StateEventType::RoomCreate).then_some(&create)
                };
                check(&written, &version, fetch).is_ok()
            };
            assert!(writes(ALICE, "@low:a_device"), "{id}");
            assert!(!writes(BOB, "@low:a_device"), "{id}");
            assert!(!writes(BOB, "@alice:a_device"), "{id}");
        }
    }

    #[test]
    fn the_level_that_the_type_needs_is_needed_as_well() {
        let levels = json!({ "users": { ALICE: 50 }, "events": { "test": 51 } });
        let writes = |sender, key| {
            allows(
                "org.matrix.msc3757.10",
                Some(levels.clone()),
                sender,
                "test",
                key,
            )
        };
        assert!(!writes(ALICE, "@low:a_device"));
        assert!(!writes(ALICE, "@alice:a_device"));
    }

    #[test]
    fn members_and_invitations_of_third_parties_keep_their_own_rules() {
        let levels = json!({ "users": { ALICE: 100 }, "invite": 100 });
        let writes = |event_type, key| {
            let levels = Some(levels.clone());
            allows("org.matrix.msc3757.10", levels, ALICE, event_type, key)
        };
        assert!(writes("m.room.third_party_invite", "@oops"));
        assert!(!writes("m.room.member", "@low:a_device"));
    }

    #[test]
    fn in_other_versions_a_state_key_with_a_sigil_has_to_be_the_sender() {
        for version in ["1", "10", "11", "12"] {
            let writes = |key: &str| {
                let levels = json!({ "users": { BOB: 50 }, "state_default": 0 });
                allows(version, Some(levels), BOB, "test", key)
            };
            assert!(writes(BOB), "{version}");
            assert!(!writes(&format!("{BOB}_device")), "{version}");
            assert!(!writes("@low:a"), "{version}");
            assert!(!writes("@oops"), "{version}");
        }
    }

    #[test]
    fn a_masked_key_stands_for_one_key_only() {
        let event_type = TimelineEventType::from("test");
        for key in ["@bob:b", "%@bob:b", "%%", "%"] {
            let masked = masked_key(&event_type, key).unwrap();
            assert_eq!(unmasked_key(&event_type, &masked).unwrap(), key);
        }
        for key in ["", "key", "bob@b"] {
            assert_eq!(masked_key(&event_type, key), None);
            assert_eq!(unmasked_key(&event_type, key), None);
        }
        assert_eq!(masked_key(&TimelineEventType::RoomMember, "@bob:b"), None);
        assert_eq!(unmasked_key(&TimelineEventType::RoomMember, "%"), None);
    }
}
