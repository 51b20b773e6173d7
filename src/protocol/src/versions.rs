//! The room versions that this server knows, with their rules.
//!
//! <https://spec.matrix.org/v1.19/rooms/>

use ruma::{
    RoomVersionId,
    room_version_rules::{EventIdFormatVersion, RoomVersionRules},
};

/// The versions that rooms can be made in, and that this server can be in rooms of.
pub const CREATABLE: &[RoomVersionId] = &[
    RoomVersionId::V1,
    RoomVersionId::V2,
    RoomVersionId::V3,
    RoomVersionId::V4,
    RoomVersionId::V5,
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// A room version with its rules.
#[derive(Clone, Debug)]
pub struct RoomVersion {
    id: RoomVersionId,
    rules: RoomVersionRules,
}

impl RoomVersion {
    /// The version, or `None` if this server can't make or keep rooms of it.
    pub fn new(id: &RoomVersionId) -> Option<Self> {
        if !CREATABLE.contains(id) {
            return None;
        }
        Some(Self {
            id: id.clone(),
            rules: id.rules()?,
        })
    }

    /// Its name.
    pub fn id(&self) -> &RoomVersionId {
        &self.id
    }

    /// Its rules.
    pub fn rules(&self) -> &RoomVersionRules {
        &self.rules
    }

    /// Whether events are given ids, which they carry, and name others by id and hash (versions 1 and 2); later, an id is
    /// the hash.
    pub fn events_carry_ids(&self) -> bool {
        self.rules.event_id_format == EventIdFormatVersion::V1
    }

    /// Whether the id of a room is the reference hash of its create event (version 12).
    pub fn room_id_is_create_event(&self) -> bool {
        self.rules.authorization.room_create_event_id_as_room_id
    }

    /// Whether the creators of a room stand above all power levels (version 12).
    pub fn creators_are_privileged(&self) -> bool {
        self.rules.authorization.explicitly_privilege_room_creators
    }

    /// Whether the length of names in events is counted in characters. The specification says bytes; but servers have
    /// counted otherwise until version 11, and rooms have such events.
    pub fn counts_characters(&self) -> bool {
        !self.rules.authorization.use_room_create_sender
    }

    /// Whether the redacted event is named in a redaction's `content` (since version 11) or at its top level.
    pub fn redacts_in_content(&self) -> bool {
        self.rules.redaction.content_field_redacts
    }
}
