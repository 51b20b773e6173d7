//! Taking over what another node wrote.

use std::sync::Arc;

use parley_protocol::StateEvent;
use parley_storage::{Database, events::EventRow};

use super::{
    Stream,
    feeds::{Feeds, Noted},
    observer::Observers,
};
use crate::{
    Result,
    rooms::{
        registry::{Registry, redacted_event},
        state::membership_of,
        timeline::Events,
    },
};

/// Rows that are read at once.
const STRETCH: i64 = 5_000;

/// What following works with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) database: &'a Database,
    pub(crate) stream: &'a Arc<Stream>,
    pub(crate) feeds: &'a Arc<Feeds>,
    pub(crate) registry: &'a Arc<Registry>,
    pub(crate) events: &'a Arc<Events>,
    pub(crate) observers: &'a Observers,
}

/// Publishes what is stored but was not written by this node, up to `to`. Only the committer calls this, so that
/// everything is published in order.
pub(crate) async fn publish_stored(parts: &Parts<'_>, to: i64) {
    while parts.stream.position() < to {
        let after = parts.stream.position();
        match stretch(parts, after, to.min(after + STRETCH)).await {
            Ok(noted) => {
                let reached = to.min(after + STRETCH);
                parts.feeds.note(&noted, reached);
                parts.stream.advance(reached);
                parts.feeds.wake(&noted);
            }
            Err(error) => {
                // Clients of this node wait a little longer; the next notification tries again.
                tracing::error!(%error, "what another node wrote can't be read");
                return;
            }
        }
    }
}

async fn stretch(parts: &Parts<'_>, after: i64, to: i64) -> Result<Noted> {
    let mut noted = Noted::default();
    let rows = parts.database.events_between(after, to, STRETCH).await?;
    let mut rooms: Vec<i64> = rows.iter().map(|row| row.room_nid).collect();
    rooms.sort_unstable();
    rooms.dedup();
    for room_nid in rooms {
        if let Some(room) = parts.registry.in_memory(room_nid) {
            room.invalidate();
            if let Some(last_position) = room.last_position() {
                parts.registry.catch_up(&room, last_position, to).await?;
            }
        }
    }
    note_members(parts, after, to, &mut noted).await?;
    for row in &rows {
        noted.add_event(row.room_nid, row.position);
        match row.current_snapshot {
            None => note_member(parts, row, &mut noted).await?,
            Some(_) => note_settled(parts, row, &mut noted).await?,
        }
        if let Some(target) = redacted_event(row) {
            redact(parts, &target).await?;
        }
    }
    redact_by_past(parts, after, to).await?;
    note_invites(parts, after, to, &mut noted).await?;
    for data in parts.database.account_data_between(after, to).await? {
        parts
            .observers
            .account_data(data.user_nid, data.room_nid, &data.event_type);
        noted.add_account_data(data.user_nid, data.room_nid, data.position);
    }
    for receipt in parts.database.receipts_between(after, to).await? {
        noted.add_receipt(&receipt);
        parts.observers.receipt(receipt);
    }
    observe(parts, rows).await?;
    Ok(noted)
}

/// Notes of which rooms it is no longer, or not yet, known who is in them.
async fn note_members(parts: &Parts<'_>, after: i64, to: i64, noted: &mut Noted) -> Result<()> {
    for (room_nid, completed) in parts.database.partial_rooms_between(after, to).await? {
        if let Some(room) = parts.registry.in_memory(room_nid) {
            parts.registry.renew_members(&room).await?;
        }
        let Some(position) = completed.filter(|position| *position <= to) else {
            continue;
        };
        noted.add_event(room_nid, position);
        let room = parts.registry.by_nid(room_nid).await?;
        let changed = parts
            .database
            .members_changed_at(room_nid, position)
            .await?;
        for (user_id, membership) in changed {
            let room_id = room.id().to_owned();
            noted.add_member(user_id, room_nid, room_id, &membership, position);
        }
    }
    Ok(())
}

async fn observe(parts: &Parts<'_>, rows: Vec<EventRow>) -> Result<()> {
    for event in parts.events.keep(rows)? {
        let room = parts.registry.by_nid(event.room_nid).await?;
        parts.observers.event(&room, &event);
    }
    Ok(())
}

async fn note_member(parts: &Parts<'_>, row: &EventRow, noted: &mut Noted) -> Result<()> {
    if !row.json.contains("\"m.room.member\"") {
        return Ok(());
    }
    let Some(event) = StateEvent::parse(row.event_id.clone(), &row.json) else {
        return Ok(());
    };
    if event.event_type.to_string() != "m.room.member" {
        return Ok(());
    }
    let Ok(user_id) = event.state_key.as_ref().try_into() else {
        return Ok(());
    };
    let room = parts.registry.by_nid(row.room_nid).await?;
    let membership = membership_of(&event).to_string();
    noted.add_member(
        user_id,
        row.room_nid,
        room.id().to_owned(),
        &membership,
        row.position,
    );
    Ok(())
}

/// Notes the memberships that changed by an event which brought forks of its room together.
async fn note_settled(parts: &Parts<'_>, row: &EventRow, noted: &mut Noted) -> Result<()> {
    let room = parts.registry.by_nid(row.room_nid).await?;
    let changed = parts
        .database
        .members_changed_at(row.room_nid, row.position)
        .await?;
    for (user_id, membership) in changed {
        let room_id = room.id().to_owned();
        noted.add_member(user_id, row.room_nid, room_id, &membership, row.position);
    }
    Ok(())
}

/// Notes the invitations to rooms that this server is not in.
async fn note_invites(parts: &Parts<'_>, after: i64, to: i64, noted: &mut Noted) -> Result<()> {
    let changed = parts.database.remote_memberships_between(after, to).await?;
    for (room_nid, user_id, membership, position) in changed {
        let room = parts.registry.by_nid(room_nid).await?;
        noted.add_member(
            user_id,
            room_nid,
            room.id().to_owned(),
            &membership,
            position,
        );
    }
    Ok(())
}

/// Has the memory forget what an event said that another has redacted.
async fn redact(parts: &Parts<'_>, target: &ruma::EventId) -> Result<()> {
    let row = parts.database.event(target).await?;
    let outlier = parts.database.outlier_number(target).await?;
    let numbers = row.map(|row| row.position).into_iter().chain(outlier);
    forget(parts, numbers.collect()).await?;
    Ok(())
}

/// The same for what was redacted by events of the past, which are in no stretch of the stream. What of it stands in a room's
/// state is taken out of that, too: no event of the timeline does.
async fn redact_by_past(parts: &Parts<'_>, after: i64, to: i64) -> Result<()> {
    let numbers = parts.database.redacted_by_past_between(after, to).await?;
    for row in forget(parts, numbers).await? {
        if let Some(room) = parts.registry.in_memory(row.room_nid) {
            parts.registry.redact_in_view(&room, &row);
        }
    }
    Ok(())
}

/// Has the memory forget what some events said, by their numbers; gives what is left of them.
async fn forget(parts: &Parts<'_>, numbers: Vec<i64>) -> Result<Vec<EventRow>> {
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    for number in &numbers {
        parts.events.forget(*number);
    }
    let rows = parts.database.events_at(numbers).await?;
    for event in parts.events.keep(rows.clone())? {
        parts.events.forget_replacing(&event);
        if let Some(room) = parts.registry.in_memory(event.room_nid) {
            room.replace_recent(&event);
        }
    }
    Ok(rows)
}
