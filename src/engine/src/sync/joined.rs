//! What is told of a room that the user is joined to.

use std::{collections::HashSet, sync::Arc};

use parley_storage::user_streams::AccountDataRow;
use ruma::{OwnedUserId, UserId, events::room::member::MembershipState, uint};

use super::{
    Stretch, Summary, Sync, Timeline,
    filter::{keep_newest, section_has_room, sender_fits, type_fits},
    rooms::Candidate,
    state::Wanted,
};
use crate::{
    Result,
    receipts::Receipt,
    rooms::{room::Room, state::RoomState, timeline::TimelineEvent, visibility::Access},
    unread::Counts,
};

/// What is told of a joined room.
#[derive(Clone, Debug)]
pub struct JoinedRoom {
    /// The room.
    pub room: Arc<Room>,
    /// Its new events.
    pub timeline: Timeline,
    /// The state before them, or after them if the client wants it so.
    pub state: Vec<Arc<TimelineEvent>>,
    /// Its members in brief, if they changed.
    pub summary: Option<Summary>,
    /// New receipts.
    pub receipts: Vec<Arc<Receipt>>,
    /// Who types, if that changed.
    pub typing: Option<Vec<OwnedUserId>>,
    /// The user's new account data of it.
    pub account_data: Vec<AccountDataRow>,
    /// What is unread.
    pub unread: Counts,
    /// Whether the client wants to be told of each thread on its own.
    pub threads_apart: bool,
    /// To tell the user's membership at each event; `None` if they were joined at all of them.
    pub access: Option<Access>,
}

impl JoinedRoom {
    fn is_empty(&self) -> bool {
        self.timeline.events.is_empty()
            && !self.timeline.limited
            && self.state.is_empty()
            && self.receipts.is_empty()
            && self.typing.is_none()
            && self.account_data.is_empty()
    }
}

/// A joined room in the making.
struct Telling<'a> {
    stretch: &'a Stretch<'a>,
    candidate: &'a Candidate,
    state: Arc<RoomState>,
    /// Up to where the client knows the room; 0 if it has only now come to know it.
    after: i64,
}

impl Telling<'_> {
    /// Whether the client is to have everything, as if it knew nothing.
    fn whole(&self) -> bool {
        self.after == 0 || self.stretch.full_state
    }

    fn ephemeral_wanted(&self, event_type: &str) -> bool {
        let filter = &self.stretch.filter.room.ephemeral;
        section_has_room(filter, self.candidate.room.id())
            && type_fits(event_type, filter.types.as_deref(), &filter.not_types)
    }

    fn wants_ephemeral_of(&self, user_id: &UserId) -> bool {
        let filter = &self.stretch.filter.room.ephemeral;
        sender_fits(user_id, filter.senders.as_deref(), &filter.not_senders)
    }

    /// Says that nobody types where it isn't known what the client was told. Leaves out who types where the client wants
    /// but one fleeting event and there are receipts: those it can't learn otherwise.
    fn settle_typing(&self, told: &mut JoinedRoom) {
        let limit = self.stretch.filter.room.ephemeral.limit;
        if limit == Some(uint!(1)) && !told.receipts.is_empty() {
            told.typing = None;
        } else if self.stretch.since.is_some()
            && self.stretch.fleeting.is_none()
            && told.typing.is_none()
        {
            // What the client was told by another node, or before a restart, isn't known. Not in every room, or who asks
            // two nodes in turn would always be answered at once.
            told.typing = self.ephemeral_wanted("m.typing").then(Vec::new);
        }
    }

    /// Whether the client learns in this stretch that all members of the room are known now.
    fn members_come(&self) -> bool {
        self.stretch.completes(&self.candidate.room, self.after)
    }

    /// The users whose member events explain what is told.
    fn needed_members(
        &self,
        timeline: &Timeline,
        summary: Option<&Summary>,
    ) -> HashSet<OwnedUserId> {
        let senders = timeline.events.iter().map(|event| &event.sender);
        let heroes = summary
            .into_iter()
            .flat_map(|summary| summary.heroes.iter().flatten());
        let own = self.whole().then_some(self.stretch.user_id());
        senders.chain(heroes).chain(own).cloned().collect()
    }

    fn summary_if_changed(&self, timeline: &Timeline) -> Option<Summary> {
        let mut events = timeline.events.iter();
        let concerned = events.any(|event| concerns_summary(event));
        let settled = timeline.settled != Some(false);
        let changed = concerned || settled || self.members_come();
        (self.whole() || timeline.limited || !timeline.is_whole || changed)
            .then(|| Summary::new(&self.state, self.stretch.user_id()))
    }
}

/// Whether an event may change the summary of its room. What a redaction takes away, be it the room's name, it doesn't
/// say itself.
fn concerns_summary(event: &TimelineEvent) -> bool {
    matches!(
        event.event_type.as_ref(),
        "m.room.member" | "m.room.name" | "m.room.canonical_alias" | "m.room.redaction"
    )
}

impl Sync {
    pub(super) async fn tell_joined(
        &self,
        stretch: &Stretch<'_>,
        candidate: &Candidate,
    ) -> Result<Option<JoinedRoom>> {
        let room = &candidate.room;
        let telling = Telling {
            stretch,
            candidate,
            state: self.parts.rooms.state_at(room, stretch.to).await?,
            after: self.known_until(stretch, candidate).await?,
        };
        let access = match telling.after {
            // Who was joined at all of it sees all of it.
            after if after > 0 && candidate.membership.position <= after => None,
            _ => Some(
                self.parts
                    .rooms
                    .access(room, &telling.state, stretch.user_id())
                    .await?,
            ),
        };
        let timeline = self.joined_timeline(&telling, access.as_ref()).await?;
        let summary = telling.summary_if_changed(&timeline);
        let (receipts, has_read) = self.new_receipts(&telling).await?;
        let mut told = JoinedRoom {
            room: room.clone(),
            state: self
                .joined_state(&telling, &timeline, summary.as_ref())
                .await?,
            summary,
            receipts,
            typing: self.new_typing(&telling),
            account_data: self
                .room_account_data(stretch, candidate, telling.after)
                .await?,
            unread: self
                .parts
                .unread
                .counts(
                    room,
                    &telling.state,
                    &stretch.session.user_id,
                    stretch.session.user_nid,
                    stretch.ignored,
                    stretch.to,
                )
                .await?,
            threads_apart: stretch.filter.room.timeline.unread_thread_notifications,
            timeline,
            access,
        };
        let whole = stretch.since.is_none() || stretch.full_state;
        // A count has to be told when it changes, also where a filter keeps back what changed it.
        let is_counted = !told.timeline.is_whole && told.unread.total.notifications > 0;
        let is_news = has_read || is_counted || telling.members_come();
        if !whole && !is_news && told.is_empty() {
            return Ok(None);
        }
        telling.settle_typing(&mut told);
        Ok(Some(told))
    }

    /// The user's account data of a room that is new to a client who knows the room up to `after`, as far as the filter lets
    /// it through.
    pub(super) async fn room_account_data(
        &self,
        stretch: &Stretch<'_>,
        candidate: &Candidate,
        after: i64,
    ) -> Result<Vec<AccountDataRow>> {
        let filter = &stretch.filter.room.account_data;
        if !section_has_room(filter, candidate.room.id()) {
            return Ok(Vec::new());
        }
        // What changed before the client came to know the room, it wasn't told.
        let is_anew = after == 0 && stretch.since.is_some();
        let mut rows = match is_anew {
            true => {
                let user_nid = stretch.session.user_nid;
                let account_data = &self.parts.account_data;
                account_data
                    .all_of_room(user_nid, &candidate.room, stretch.to)
                    .await?
            }
            false => candidate.account_data.clone(),
        };
        rows.retain(|row| type_fits(&row.event_type, filter.types.as_deref(), &filter.not_types));
        keep_newest(&mut rows, filter.limit);
        Ok(rows)
    }

    /// Up to where the client knows the room.
    async fn known_until(&self, stretch: &Stretch<'_>, candidate: &Candidate) -> Result<i64> {
        let after = stretch.after();
        if !stretch.is_lazy() && stretch.completes(&candidate.room, after) {
            // It wasn't told of until now.
            return Ok(0);
        }
        if after == 0 || candidate.membership.position <= after {
            return Ok(after);
        }
        // The membership changed meanwhile: was it a join before, too?
        let before = self
            .parts
            .rooms
            .membership_at(&candidate.room, stretch.user_id(), after)
            .await?;
        Ok(if before == MembershipState::Join {
            after
        } else {
            0
        })
    }

    async fn joined_timeline(
        &self,
        telling: &Telling<'_>,
        access: Option<&Access>,
    ) -> Result<Timeline> {
        let Telling {
            stretch,
            candidate,
            after,
            ..
        } = telling;
        let user_id = stretch.user_id();
        let sees = |event: &TimelineEvent| {
            !stretch.ignored.hide(event) && access.is_none_or(|access| access.sees(event, user_id))
        };
        let has_events = *after == 0 || candidate.marks.events > *after;
        let filter = &stretch.filter.room.timeline;
        if !section_has_room(filter, candidate.room.id()) {
            return Ok(Timeline::without_events(*after, stretch.to, has_events));
        }
        let from = if has_events { *after } else { stretch.to };
        let mut timeline = self
            .timeline(&candidate.room, from, stretch.to, filter, sees)
            .await?;
        if let Some(access) = access {
            access.veil(&mut timeline.events, user_id, &candidate.room);
        }
        if *after == 0 && stretch.since.is_some() {
            // New to the client, who can read on backward whatever is there.
            timeline.limited = true;
        }
        Ok(timeline)
    }

    async fn joined_state(
        &self,
        telling: &Telling<'_>,
        timeline: &Timeline,
        summary: Option<&Summary>,
    ) -> Result<Vec<Arc<TimelineEvent>>> {
        let wanted = Wanted {
            room: &telling.candidate.room,
            end: &telling.state,
            timeline,
            after: match telling.whole() {
                true => 0,
                false => telling.after,
            },
            needed: telling.needed_members(timeline, summary),
        };
        self.new_state(telling.stretch, &wanted).await
    }

    /// The receipts that are told, and whether the user has read something.
    async fn new_receipts(&self, telling: &Telling<'_>) -> Result<(Vec<Arc<Receipt>>, bool)> {
        let Telling {
            stretch,
            candidate,
            after,
            ..
        } = telling;
        if *after > 0 && candidate.marks.receipts <= *after {
            return Ok((Vec::new(), false));
        }
        let room_nid = candidate.room.nid();
        let mut receipts = self
            .parts
            .receipts
            .changed(room_nid, *after, stretch.to, stretch.user_id())
            .await?;
        let has_read = receipts
            .iter()
            .any(|receipt| receipt.user_id == *stretch.user_id());
        match telling.ephemeral_wanted("m.receipt") {
            true => receipts.retain(|receipt| telling.wants_ephemeral_of(&receipt.user_id)),
            false => receipts.clear(),
        }
        Ok((receipts, has_read))
    }

    fn new_typing(&self, telling: &Telling<'_>) -> Option<Vec<OwnedUserId>> {
        if !telling.ephemeral_wanted("m.typing") {
            return None;
        }
        let users = || {
            let mut users = self.parts.typing.users(telling.candidate.room.nid());
            users.retain(|user_id| telling.wants_ephemeral_of(user_id));
            users
        };
        match telling.stretch.fleeting.filter(|_| telling.after > 0) {
            Some(seen) => (telling.candidate.marks.typing > seen).then(users),
            None => Some(users()).filter(|users| !users.is_empty()),
        }
    }
}
