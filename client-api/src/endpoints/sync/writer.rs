//! Writing the answer of /sync: events are there as bytes, and go into it as they are.

use std::fmt::Write;

use parley_engine::{
    receipts,
    stream::token::Token,
    sync::{InvitedRoom, JoinedRoom, LeftRoom, Summary, SyncAnswer, Timeline, ToldRooms},
    unread::Count,
};
use parley_protocol::client_event::push_string;
use parley_storage::user_streams::AccountDataRow;

use ruma::RoomId;

use crate::events::{EventWriter, Shown};

/// The sections of `rooms`, in the order in which they are written.
const SECTIONS: [&str; 4] = ["join", "invite", "knock", "leave"];

/// Writes an answer piece by piece.
#[derive(Debug)]
pub(super) struct Writer {
    out: String,
    /// The name of a room's state: `state` or `state_after`.
    state: &'static str,
    /// The section that is open, and whether a room is in it.
    section: Option<(usize, bool)>,
}

impl Writer {
    /// Begins with what belongs to no room.
    pub(super) fn new(answer: &SyncAnswer, state_after: bool) -> Self {
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
        Self {
            out,
            state: if state_after { "state_after" } else { "state" },
            section: None,
        }
    }

    /// Writes rooms. Those of one section must come together, also over several calls.
    pub(super) fn rooms(&mut self, events: &EventWriter<'_>, rooms: &ToldRooms) {
        for room in &rooms.joined {
            self.key(0, room.room.id());
            write_joined(&mut self.out, events, room, self.state);
        }
        for (section, name, outside) in [
            (1, "invite_state", &rooms.invited),
            (2, "knock_state", &rooms.knocked),
        ] {
            for room in outside {
                self.key(section, room.room.id());
                write_outside(&mut self.out, name, room);
            }
        }
        for room in &rooms.left {
            self.key(3, room.room.id());
            write_left(&mut self.out, events, room, self.state);
        }
    }

    /// Ends the answer.
    pub(super) fn end(&mut self) {
        if self.section.is_some() {
            self.open(SECTIONS.len() - 1);
            self.out.push_str("}}");
        }
        self.out.push('}');
    }

    /// What was written since the last time.
    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    /// Begins a room.
    fn key(&mut self, section: usize, room_id: &RoomId) {
        if self.open(section) {
            self.out.push(',');
        }
        push_string(&mut self.out, room_id.as_str());
        self.out.push(':');
        self.section = Some((section, true));
    }

    /// Opens a section and those before it; whether there is a room in it.
    fn open(&mut self, section: usize) -> bool {
        let first = match self.section {
            None => {
                self.out.push_str(",\"rooms\":{");
                0
            }
            Some((open, has_room)) if open == section => return has_room,
            Some((open, _)) => {
                self.out.push_str("},");
                open + 1
            }
        };
        for next in first..=section {
            let name = SECTIONS.get(next).copied().unwrap_or_default();
            let _ = write!(self.out, "\"{name}\":{{");
            if next < section {
                self.out.push_str("},");
            }
        }
        self.section = Some((section, false));
        false
    }
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

fn write_joined(out: &mut String, events: &EventWriter<'_>, room: &JoinedRoom, state: &str) {
    let shown = match &room.access {
        Some(access) => Shown::default().with_access(access),
        None => Shown::default().joined(),
    };
    out.push('{');
    write_timeline(out, events, &room.timeline, shown);
    let _ = write!(out, ",\"{state}\":{{\"events\":");
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

/// A room that the user isn't in yet, with what they are shown of the state.
fn write_outside(out: &mut String, name: &str, room: &InvitedRoom) {
    let _ = write!(out, "{{\"{name}\":");
    write_events(out, room.state.iter().map(|event| event.get()));
    out.push('}');
}

fn write_left(out: &mut String, events: &EventWriter<'_>, room: &LeftRoom, state: &str) {
    out.push('{');
    write_timeline(
        out,
        events,
        &room.timeline,
        Shown::default().with_access(&room.access),
    );
    let _ = write!(out, ",\"{state}\":{{\"events\":");
    events.write_list(out, &room.state, Shown::default());
    out.push_str("},\"account_data\":");
    write_account_data(out, &room.account_data);
    out.push('}');
}
