//! Who may do what in a room.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#mroompower_levels>

use ruma::{
    OwnedUserId,
    events::room::power_levels::{
        RoomPowerLevels, RoomPowerLevelsEventContent, RoomPowerLevelsSource,
    },
};
use serde::Deserialize;

use crate::{RoomVersion, StateEvent};

/// Those who made the room: the sender of the create event, and since version 12 those it names as well.
pub fn creators(create: &StateEvent, version: &RoomVersion) -> Vec<OwnedUserId> {
    #[derive(Deserialize)]
    struct Content {
        creator: Option<OwnedUserId>,
        #[serde(default)]
        additional_creators: Vec<OwnedUserId>,
    }
    let rules = &version.rules().authorization;
    let content = create.content_as::<Content>().unwrap_or(Content {
        creator: None,
        additional_creators: Vec::new(),
    });
    let first = match content.creator {
        Some(creator) if !rules.use_room_create_sender => creator,
        _ => create.sender.clone(),
    };
    let mut creators = vec![first];
    if rules.additional_room_creators {
        creators.extend(content.additional_creators);
    }
    creators
}

/// The power levels of a room of which nothing is known: the defaults of the spec, and nobody who made it.
pub fn default_power_levels(version: &RoomVersion) -> RoomPowerLevels {
    let nobody: [OwnedUserId; 0] = [];
    RoomPowerLevels::new(
        RoomPowerLevelsSource::None,
        &version.rules().authorization,
        nobody,
    )
}

/// The power levels that hold in a room, with the defaults of the spec where there is no event, or where it can't be
/// read.
pub fn power_levels(
    event: Option<&StateEvent>,
    create: &StateEvent,
    version: &RoomVersion,
) -> RoomPowerLevels {
    let source = event
        .and_then(StateEvent::content_as::<RoomPowerLevelsEventContent>)
        .map_or(RoomPowerLevelsSource::None, RoomPowerLevelsSource::Original);
    RoomPowerLevels::new(
        source,
        &version.rules().authorization,
        creators(create, version),
    )
}
