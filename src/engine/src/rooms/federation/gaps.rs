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
        let prev = pdu.fields.prev_events.clone();
        Ok(!self.missing_behind(room, prev, known).await?.is_empty())
    }

    /// Those of some events of a room that aren't in the timeline, though they could be. Of those that were refused, which stay
    /// out for good and are no gap, the same of what they are built on.
    pub(super) async fn missing_among(
        &self,
        room: &Room,
        ids: Vec<OwnedEventId>,
    ) -> Result<Vec<OwnedEventId>> {
        let known = self.known_of(room, &ids).await?;
        self.missing_behind(room, ids, &known).await
    }

    /// The same where it is known how the events stand.
    async fn missing_behind(
        &self,
        room: &Room,
        mut ids: Vec<OwnedEventId>,
        mut known: &Known,
    ) -> Result<Vec<OwnedEventId>> {
        let mut missing = Vec::new();
        let mut seen: HashSet<OwnedEventId> = HashSet::new();
        let mut looked_up: Known;
        loop {
            ids.retain(|id| seen.insert(id.clone()));
            let mut behind = Vec::new();
            for id in ids {
                match known.get(&id).map(|event| (event.standing, &event.json)) {
                    None | Some((Standing::Known, _)) => missing.push(id),
                    Some((Standing::Accepted, _)) => {}
                    Some((Standing::SoftFailed | Standing::Rejected, json)) => {
                        let pdu = Pdu::parse(id, json);
                        behind.extend(pdu.map(|pdu| pdu.fields.prev_events).unwrap_or_default());
                    }
                }
            }
            if behind.is_empty() || seen.len() >= MAX_LOOKED_AT {
                return Ok(missing);
            }
            looked_up = self.known_of(room, &behind).await?;
            known = &looked_up;
            ids = behind;
        }
    }
}
