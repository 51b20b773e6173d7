//! What is missing behind what stands in a room's timeline.

use std::collections::HashSet;

use parley_protocol::Pdu;
use parley_storage::commit::Standing;
use ruma::OwnedEventId;

use super::receive::Known;
use crate::{
    Result,
    rooms::{Rooms, room::Room},
};

/// Events that are looked at. Behind more that were refused one after the other, nothing is found to be missing.
const MAX_LOOKED_AT: usize = 200;

impl Rooms {
    /// Whether some of what an event is built on isn't in the timeline, though it could be: no more is known of it than the
    /// state there. `known` has what is known of the events that it is built on.
    pub(super) async fn is_behind_gap(
        &self,
        room: &Room,
        pdu: &Pdu,
        known: &Known,
    ) -> Result<bool> {
        let standing = |id| known.get(id).map(|event| event.standing);
        let prev = pdu.fields.prev_events.iter();
        if prev
            .clone()
            .any(|id| matches!(standing(id), None | Some(Standing::Known)))
        {
            return Ok(true);
        }
        // What was refused stays out for good, and is no gap; but there may be one behind it.
        let refused = prev.filter(|id| standing(id) != Some(Standing::Accepted));
        let refused: Vec<OwnedEventId> = refused.cloned().collect();
        Ok(!refused.is_empty() && !self.missing_among(room, refused).await?.is_empty())
    }

    /// Those of some events of a room that aren't in the timeline, though they could be. Of those that were refused, the same of
    /// what they are built on.
    pub(super) async fn missing_among(
        &self,
        room: &Room,
        ids: Vec<OwnedEventId>,
    ) -> Result<Vec<OwnedEventId>> {
        let mut missing = Vec::new();
        let mut seen: HashSet<OwnedEventId> = HashSet::new();
        let mut pending = ids;
        while !pending.is_empty() && seen.len() < MAX_LOOKED_AT {
            pending.retain(|id| seen.insert(id.clone()));
            let known = self.known_of(room, &pending).await?;
            let mut behind = Vec::new();
            for id in pending {
                match known.get(&id).map(|event| (event.standing, &event.json)) {
                    None | Some((Standing::Known, _)) => missing.push(id),
                    Some((Standing::Accepted, _)) => {}
                    Some((Standing::SoftFailed | Standing::Rejected, json)) => {
                        let pdu = Pdu::parse(id, json);
                        behind.extend(pdu.map(|pdu| pdu.fields.prev_events).unwrap_or_default());
                    }
                }
            }
            pending = behind;
        }
        Ok(missing)
    }
}
