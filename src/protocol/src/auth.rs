//! Whether a room allows an event, by ruma's implementation of the authorisation rules.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#authorization-rules>

use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
    state_res::{Event, auth_types_for_event, check_state_dependent_auth_rules},
};
use serde_json::value::RawValue;

use crate::{Pdu, RoomVersion};

/// The places of the room's state that decide on an event; their events become its `auth_events`.
///
/// # Errors
/// Says what is wrong with the event's content, where that names further places.
pub fn deciding_state(
    event_type: &TimelineEventType,
    sender: &UserId,
    state_key: Option<&str>,
    content: &RawValue,
    version: &RoomVersion,
) -> Result<Vec<(StateEventType, String)>, String> {
    auth_types_for_event(
        event_type,
        sender,
        state_key,
        content,
        &version.rules().authorization,
    )
}

/// Whether the room, whose current state `fetch` gives, allows `event`.
///
/// # Errors
/// The reason why not, fit for the person who sent it.
pub fn check<'a>(
    event: &Pdu,
    version: &RoomVersion,
    fetch: impl Fn(&StateEventType, &str) -> Option<AuthEvent<'a>>,
) -> Result<(), String> {
    check_state_dependent_auth_rules(&version.rules().authorization, event, fetch)
}

/// A state event in the eyes of the authorisation rules: whole, or just a membership, as most are.
#[derive(Clone, Debug)]
pub enum AuthEvent<'a> {
    /// The whole event.
    Whole(&'a Pdu),
    /// A membership, of which no more needs to be known than what it is.
    Membership(AuthMembership<'a>),
}

/// A membership event, reduced to what the rules ask of it.
#[derive(Clone, Debug)]
pub struct AuthMembership<'a> {
    /// Its event id.
    pub event_id: &'a OwnedEventId,
    /// Whose membership.
    pub user_id: &'a UserId,
    /// What it is.
    pub membership: &'a MembershipState,
}

impl AuthMembership<'_> {
    fn content(&self) -> &'static RawValue {
        let json = match self.membership {
            MembershipState::Join => r#"{"membership":"join"}"#,
            MembershipState::Invite => r#"{"membership":"invite"}"#,
            MembershipState::Ban => r#"{"membership":"ban"}"#,
            MembershipState::Knock => r#"{"membership":"knock"}"#,
            _ => r#"{"membership":"leave"}"#,
        };
        // A literal of valid JSON parses; `null` would make the rules refuse.
        serde_json::from_str(json).unwrap_or(RawValue::NULL)
    }
}

impl Event for AuthEvent<'_> {
    type Id = OwnedEventId;

    fn event_id(&self) -> &Self::Id {
        match self {
            Self::Whole(pdu) => &pdu.event_id,
            Self::Membership(member) => member.event_id,
        }
    }

    fn room_id(&self) -> Option<&RoomId> {
        match self {
            Self::Whole(pdu) => pdu.room_id(),
            Self::Membership(_) => None,
        }
    }

    fn sender(&self) -> &UserId {
        match self {
            Self::Whole(pdu) => pdu.sender(),
            Self::Membership(member) => member.user_id,
        }
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        match self {
            Self::Whole(pdu) => pdu.origin_server_ts(),
            Self::Membership(_) => MilliSecondsSinceUnixEpoch(0_u32.into()),
        }
    }

    fn event_type(&self) -> &TimelineEventType {
        match self {
            Self::Whole(pdu) => pdu.event_type(),
            Self::Membership(_) => &TimelineEventType::RoomMember,
        }
    }

    fn content(&self) -> &RawValue {
        match self {
            Self::Whole(pdu) => pdu.content(),
            Self::Membership(member) => member.content(),
        }
    }

    fn state_key(&self) -> Option<&str> {
        match self {
            Self::Whole(pdu) => pdu.state_key(),
            Self::Membership(member) => Some(member.user_id.as_str()),
        }
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Self::Id> + '_> {
        match self {
            Self::Whole(pdu) => pdu.prev_events(),
            Self::Membership(_) => Box::new(std::iter::empty()),
        }
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Self::Id> + '_> {
        match self {
            Self::Whole(pdu) => pdu.auth_events(),
            Self::Membership(_) => Box::new(std::iter::empty()),
        }
    }

    fn redacts(&self) -> Option<&Self::Id> {
        None
    }

    fn rejected(&self) -> bool {
        false
    }
}

/// Whether a domain stands behind an event id or a sender that is to be redacted: before room version 3 it decides.
pub fn same_domain(event_id: &EventId, sender: &UserId) -> bool {
    event_id
        .server_name()
        .is_some_and(|server| server == sender.server_name())
}
