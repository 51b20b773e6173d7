//! What is told of a room that the user has left.

use std::sync::Arc;

use parley_storage::user_streams::AccountDataRow;
use ruma::events::room::member::MembershipState;

use super::{Stretch, Sync, Timeline, filter::section_has_room, rooms::Candidate, state::Wanted};
use crate::{
    Result,
    rooms::{room::Room, timeline::TimelineEvent, visibility::Access},
};

/// What is told of a room that was left.
#[derive(Clone, Debug)]
pub struct LeftRoom {
    /// The room.
    pub room: Arc<Room>,
    /// What happened until the user was gone.
    pub timeline: Timeline,
    /// The state before that, or after it if the client wants it so.
    pub state: Vec<Arc<TimelineEvent>>,
    /// The user's new account data of it.
    pub account_data: Vec<AccountDataRow>,
    /// To tell the user's membership at each event.
    pub access: Access,
}

impl Sync {
    pub(super) async fn tell_left(
        &self,
        stretch: &Stretch<'_>,
        candidate: &Candidate,
    ) -> Result<Option<LeftRoom>> {
        let membership = &candidate.membership;
        let is_news = stretch.since.is_some() && membership.position > stretch.after();
        let from_the_start = stretch.since.is_none() || stretch.full_state;
        let is_wanted =
            from_the_start && stretch.filter.room.include_leave && !membership.forgotten;
        // A room that was left and forgotten at once is news all the same: how else would the user's other clients know?
        if !(is_news || is_wanted) {
            return Ok(None);
        }
        let room = &candidate.room;
        if room.is_outside() {
            return self.tell_left_outside(stretch, candidate).await;
        }
        let now = self.parts.rooms.registry().load(room).await?;
        let access = self
            .parts
            .rooms
            .access(room, &now, stretch.user_id())
            .await?;
        let to = membership.position.min(stretch.to);
        let after = self.left_known_until(stretch, room).await?;
        let sees = |event: &TimelineEvent| {
            !stretch.ignored.hide(event) && access.sees(event, stretch.user_id())
        };
        let filter = &stretch.filter.room.timeline;
        let mut timeline = match section_has_room(filter, room.id()) {
            true => self.timeline(room, after, to, filter, sees).await?,
            false => Timeline::without_events(after, to, true),
        };
        access.veil(&mut timeline.events, stretch.user_id(), room);
        // Who only declined an invitation never knew the state.
        let mut state = Vec::new();
        if access.state_limit().is_some() {
            state = self.left_state(stretch, room, after, to, &timeline).await?;
        }
        Ok(Some(LeftRoom {
            room: room.clone(),
            timeline,
            state,
            account_data: self.room_account_data(stretch, candidate, after).await?,
            access,
        }))
    }

    /// A room that this server isn't in: all there is to tell is that the user has left.
    async fn tell_left_outside(
        &self,
        stretch: &Stretch<'_>,
        candidate: &Candidate,
    ) -> Result<Option<LeftRoom>> {
        let position = candidate.membership.position;
        let events = self.parts.rooms.events_at(&[position]).await?;
        let mut timeline = Timeline::without_events(stretch.after(), stretch.to, true);
        timeline.events = events;
        Ok(Some(LeftRoom {
            room: candidate.room.clone(),
            timeline,
            state: Vec::new(),
            account_data: self
                .room_account_data(stretch, candidate, stretch.after())
                .await?,
            access: Access::outside(position, candidate.membership.membership.clone()),
        }))
    }

    /// Up to where the client knows the room: 0 if the user was not joined to it then, or the room was kept from the client
    /// as not all its members were known.
    async fn left_known_until(&self, stretch: &Stretch<'_>, room: &Room) -> Result<i64> {
        let Some(since) = stretch.since.filter(|_| !stretch.full_state) else {
            return Ok(0);
        };
        if !stretch.is_lazy() && room.lacked_members_at(since) {
            return Ok(0);
        }
        let before = self
            .parts
            .rooms
            .membership_at(room, stretch.user_id(), since)
            .await?;
        Ok(if before == MembershipState::Join {
            since
        } else {
            0
        })
    }

    async fn left_state(
        &self,
        stretch: &Stretch<'_>,
        room: &Room,
        after: i64,
        to: i64,
        timeline: &Timeline,
    ) -> Result<Vec<Arc<TimelineEvent>>> {
        let Some(at_leaving) = self.parts.rooms.state_if_any_at(room, to).await? else {
            // This server came into the room after they had declined to.
            return Ok(Vec::new());
        };
        let senders = timeline.events.iter().map(|event| &event.sender);
        let own = (after == 0).then_some(stretch.user_id());
        let wanted = Wanted {
            room,
            end: &at_leaving,
            timeline,
            after,
            needed: senders.chain(own).cloned().collect(),
        };
        self.new_state(stretch, &wanted).await
    }
}
