//! Writing the answer of /sync: events are there as bytes, and go into it as they are.

use std::{fmt::Write, sync::Arc};

use parley_engine::{
    receipts,
    rooms::timeline::TimelineEvent,
    sessions::Session,
    stream::token::Token,
    sync::{InvitedRoom, JoinedRoom, LeftRoom, Summary, SyncAnswer, Timeline},
    unread::Count,
};
use parley_protocol::client_event::push_string;
use parley_storage::user_streams::AccountDataRow;

use crate::{
    ClientApi, RawJson, Result,
    events::{EventWriter, Shown},
};

/// Writes an answer for the session that asked.
pub(super) async fn write_answer(
    api: &ClientApi,
    session: &Session,
    answer: &SyncAnswer,
) -> Result<RawJson> {
    let events = EventWriter::new(api, session, shown_events(answer)).await?;
    let mut out = String::with_capacity(1024);
    let _ = write!(out, "{{\"next_batch\":\"{}\"", answer.next);
    if !answer.account_data.is_empty() {
        out.push_str(",\"account_data\":");
        write_account_data(&mut out, &answer.account_data);
    }
    if !answer.presence.is_empty() {
        out.push_str(",\"presence\":");
        let presence = answer.presence.iter().map(|event| event.get());
        write_events(&mut out, presence);
    }
    if has_rooms(answer) {
        write_rooms(&mut out, &events, answer);
    }
    out.push('}');
    Ok(RawJson(out.into()))
}

fn has_rooms(answer: &SyncAnswer) -> bool {
    !(answer.joined.is_empty()
        && answer.invited.is_empty()
        && answer.knocked.is_empty()
        && answer.left.is_empty())
}

fn write_rooms(out: &mut String, events: &EventWriter<'_>, answer: &SyncAnswer) {
    out.push_str(",\"rooms\":{\"join\":");
    let joined = answer.joined.iter();
    let joined = joined.map(|room| (room.room.id().as_str(), room));
    write_map(out, joined, |out, room| write_joined(out, events, room));
    out.push_str(",\"invite\":");
    write_outside(out, "invite_state", &answer.invited);
    out.push_str(",\"knock\":");
    write_outside(out, "knock_state", &answer.knocked);
    out.push_str(",\"leave\":");
    let left = answer.left.iter();
    let left = left.map(|room| (room.room.id().as_str(), room));
    write_map(out, left, |out, room| write_left(out, events, room));
    out.push('}');
}

/// All events that an answer shows.
fn shown_events(answer: &SyncAnswer) -> Vec<&Arc<TimelineEvent>> {
    let mut events = Vec::new();
    for room in &answer.joined {
        events.extend(room.timeline.events.iter().chain(&room.state));
    }
    for room in &answer.left {
        events.extend(room.timeline.events.iter().chain(&room.state));
    }
    events
}

/// A JSON object with a value for each key.
fn write_map<'a, T: 'a>(
    out: &mut String,
    entries: impl Iterator<Item = (&'a str, T)>,
    mut write: impl FnMut(&mut String, T),
) {
    out.push('{');
    let start = out.len();
    for (key, value) in entries {
        if out.len() > start {
            out.push(',');
        }
        push_string(out, key);
        out.push(':');
        write(out, value);
    }
    out.push('}');
}

/// `{"events": [...]}` of events that are JSON already.
fn write_events(out: &mut String, events: impl Iterator<Item = impl AsRef<str>>) {
    out.push_str("{\"events\":[");
    for (index, event) in events.enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(event.as_ref());
    }
    out.push_str("]}");
}

fn write_account_data(out: &mut String, rows: &[AccountDataRow]) {
    let events = rows.iter().map(|row| {
        let mut event = String::with_capacity(row.content.len() + 64);
        event.push_str("{\"content\":");
        event.push_str(&row.content);
        event.push_str(",\"type\":");
        push_string(&mut event, &row.event_type);
        event.push('}');
        event
    });
    write_events(out, events);
}

fn write_timeline(
    out: &mut String,
    events: &EventWriter<'_>,
    timeline: &Timeline,
    shown: Shown<'_>,
) {
    out.push_str("\"timeline\":{\"events\":");
    events.write_list(out, &timeline.events, shown);
    let prev_batch = Token::at(timeline.prev_batch);
    let _ = write!(
        out,
        ",\"limited\":{},\"prev_batch\":\"{prev_batch}\"}}",
        timeline.limited
    );
}

fn write_joined(out: &mut String, events: &EventWriter<'_>, room: &JoinedRoom) {
    let shown = match &room.access {
        Some(access) => Shown::default().with_access(access),
        None => Shown::default().joined(),
    };
    out.push('{');
    write_timeline(out, events, &room.timeline, shown);
    out.push_str(",\"state\":{\"events\":");
    events.write_list(out, &room.state, Shown::default());
    out.push_str("},\"account_data\":");
    write_account_data(out, &room.account_data);
    out.push_str(",\"ephemeral\":");
    write_ephemeral(out, room);
    write_unread(out, room);
    out.push_str(",\"summary\":");
    write_summary(out, room.summary.as_ref());
    out.push('}');
}

/// <https://spec.matrix.org/v1.19/client-server-api/#receiving-notifications>
fn write_unread(out: &mut String, room: &JoinedRoom) {
    out.push_str(",\"unread_notifications\":");
    if !room.threads_apart {
        return write_count(out, room.unread.total);
    }
    write_count(out, room.unread.main);
    if !room.unread.threads.is_empty() {
        out.push_str(",\"unread_thread_notifications\":");
        let threads = room.unread.threads.iter();
        let threads = threads.map(|(root, count)| (root.as_str(), *count));
        write_map(out, threads, write_count);
    }
}

fn write_count(out: &mut String, count: Count) {
    let _ = write!(
        out,
        "{{\"highlight_count\":{},\"notification_count\":{}}}",
        count.highlights, count.notifications
    );
}

fn write_ephemeral(out: &mut String, room: &JoinedRoom) {
    let typing = room.typing.as_ref().map(|users| {
        serde_json::json!({ "content": { "user_ids": users }, "type": "m.typing" }).to_string()
    });
    let receipts = (!room.receipts.is_empty()).then(|| {
        let content = receipts::content(&room.receipts);
        serde_json::json!({ "content": content, "type": "m.receipt" }).to_string()
    });
    write_events(out, typing.into_iter().chain(receipts));
}

fn write_summary(out: &mut String, summary: Option<&Summary>) {
    out.push('{');
    if let Some(summary) = summary {
        let _ = write!(
            out,
            "\"m.invited_member_count\":{},\"m.joined_member_count\":{}",
            summary.invited, summary.joined
        );
        if let Some(heroes) = &summary.heroes {
            out.push_str(",\"m.heroes\":[");
            for (index, hero) in heroes.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_string(out, hero.as_str());
            }
            out.push(']');
        }
    }
    out.push('}');
}

/// Rooms that the user isn't in yet, with what they are shown of the state.
fn write_outside(out: &mut String, name: &str, rooms: &[InvitedRoom]) {
    let rooms = rooms.iter().map(|room| (room.room.id().as_str(), room));
    write_map(out, rooms, |out, room| {
        let _ = write!(out, "{{\"{name}\":");
        write_events(out, room.state.iter().map(|event| event.get()));
        out.push('}');
    });
}

fn write_left(out: &mut String, events: &EventWriter<'_>, room: &LeftRoom) {
    out.push('{');
    write_timeline(
        out,
        events,
        &room.timeline,
        Shown::default().with_access(&room.access),
    );
    out.push_str(",\"state\":{\"events\":");
    events.write_list(out, &room.state, Shown::default());
    out.push_str("},\"account_data\":");
    write_account_data(out, &room.account_data);
    out.push('}');
}
