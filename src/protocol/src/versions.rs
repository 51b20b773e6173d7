//! The room versions that this server knows, with their rules.
//!
//! <https://spec.matrix.org/v1.19/rooms/>

use std::sync::LazyLock;

use ruma::{
    RoomVersionId,
    room_version_rules::{EventIdFormatVersion, RoomVersionDisposition, RoomVersionRules},
};

/// The versions that are specified.
const STABLE: [RoomVersionId; 12] = [
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

/// Versions 10 and 11 with [owned state](crate::owned_state).
const OWNED_STATE: [(&str, RoomVersionRules); 2] = [
    ("org.matrix.msc3757.10", RoomVersionRules::V10),
    ("org.matrix.msc3757.11", RoomVersionRules::V11),
];

static OFFERED: LazyLock<Vec<RoomVersion>> = LazyLock::new(|| {
    let stable = STABLE.into_iter().filter_map(RoomVersion::stable);
    let owned = OWNED_STATE.into_iter().filter_map(RoomVersion::owned_state);
    stable.chain(owned).collect()
});

/// The versions that rooms can be made in, and that this server can be in rooms of.
pub fn offered() -> &'static [RoomVersion] {
    &OFFERED
}

/// A room version with its rules.
#[derive(Clone, Debug)]
pub struct RoomVersion {
    id: RoomVersionId,
    rules: RoomVersionRules,
    has_owned_state: bool,
}

impl RoomVersion {
    /// The version, or `None` if this server can't make or keep rooms of it.
    pub fn new(id: &RoomVersionId) -> Option<Self> {
        offered().iter().find(|version| version.id == *id).cloned()
    }

    fn stable(id: RoomVersionId) -> Option<Self> {
        Some(Self {
            rules: id.rules()?,
            id,
            has_owned_state: false,
        })
    }

    fn owned_state((id, mut rules): (&str, RoomVersionRules)) -> Option<Self> {
        rules.disposition = RoomVersionDisposition::Unstable;
        Some(Self {
            id: RoomVersionId::try_from(id).ok()?,
            rules,
            has_owned_state: true,
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

    /// Whether it is specified. Rooms of one that isn't are made for those only who ask for it.
    pub fn is_stable(&self) -> bool {
        matches!(self.rules.disposition, RoomVersionDisposition::Stable)
    }

    /// Whether state keys begin with the id of their owner, and who stands above the owner may overwrite what is there
    /// ([`owned_state`](crate::owned_state)).
    pub fn has_owned_state(&self) -> bool {
        self.has_owned_state
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_offered_with_its_rules() {
        assert_eq!(offered().len(), STABLE.len() + OWNED_STATE.len());
        for version in offered() {
            let found = RoomVersion::new(version.id()).unwrap();
            assert_eq!(found.id(), version.id());
        }
        assert!(RoomVersion::new(&RoomVersionId::try_from("99").unwrap()).is_none());
    }

    #[test]
    fn only_the_versions_with_owned_state_are_not_stable() {
        for version in offered() {
            let is_owned = version.id().as_str().starts_with("org.matrix.msc3757.");
            assert_eq!(version.has_owned_state(), is_owned);
            assert_eq!(version.is_stable(), !is_owned);
        }
    }
}
