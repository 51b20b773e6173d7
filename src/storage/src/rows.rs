//! The rows of a group commit, gathered by table, so that each table takes one statement.

mod rewrites;
mod snapshots;

use std::collections::BTreeMap;

use self::{
    rewrites::{Completed, Rewrites},
    snapshots::{Outliers, Snapshots},
};

use crate::{
    Result, Transaction,
    commit::{
        AccountDataWrite, Assigned, NewEvent, NewRedaction, ReceiptWrite, Rewrite, RoomEffect,
        RoomWrite, Settled, Write, event_key, positions_json,
    },
    delayed_events,
    inbox::InboxRows,
    insert::{Column, insert},
    names::Interned,
    partial,
    relations::{self, RelationRows},
    statement::statement,
    summaries::ShownRows,
};

/// The rows of all writes of a group.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    events: Events,
    outliers: Outliers,
    heads: BTreeMap<i64, Head>,
    snapshots: Snapshots,
    /// `None`: none any more.
    memberships: BTreeMap<(i64, i64), (Option<String>, i64)>,
    redactions: Vec<(i64, NewRedaction)>,
    /// Room, target and position of redactions whose target isn't there.
    early_redactions: (Vec<i64>, Vec<Vec<u8>>, Vec<i64>),
    /// Events behind which something is missing.
    after_gaps: Vec<i64>,
    relations: RelationRows,
    shown: ShownRows,
    /// Where it is told what events of the past redact, and the numbers of that.
    redacted_by_past: (Vec<i64>, Vec<i64>),
    /// Room, time and position of events of the past, which no indexer comes by.
    past_times: (Vec<i64>, Vec<i64>, Vec<i64>),
    effects: Vec<(i64, Effect)>,
    rewrites: Rewrites,
    account_data: BTreeMap<(i64, i64, String), (String, i64)>,
    receipts: BTreeMap<(i64, i64, String, String), Receipt>,
    inbox: InboxRows,
}

#[derive(Debug, Default)]
struct Events {
    position: Vec<i64>,
    room: Vec<i64>,
    event_id: Vec<Vec<u8>>,
    event_type: Vec<i64>,
    slot: Vec<Option<i64>>,
    sender: Vec<i64>,
    time: Vec<i64>,
    depth: Vec<i64>,
    snapshot: Vec<i64>,
    current_snapshot: Vec<Option<i64>>,
    replaces: Vec<Option<i64>>,
    redacted_by: Vec<Option<i64>>,
    device: Vec<Option<i64>>,
    transaction: Vec<Option<String>>,
    json: Vec<String>,
}

#[derive(Debug)]
struct Head {
    revision: i64,
    last_position: i64,
    extremities: String,
    joined: i64,
}

#[derive(Clone, Debug)]
struct Receipt {
    event_id: String,
    event_position: i64,
    received_at: i64,
    position: i64,
}

/// A [`RoomEffect`] with its names interned.
#[derive(Debug)]
enum Effect {
    Alias {
        alias: String,
        creator: i64,
        created_at: i64,
    },
    NoAlias {
        alias: String,
    },
    Publish,
    Succeed {
        room_nid: i64,
    },
    Open(bool),
    Invite {
        user: i64,
        event: i64,
        room_state: String,
        via: String,
    },
    NoInvite {
        user: i64,
    },
    PassOn {
        event: i64,
        origin: String,
    },
    Members {
        join: i64,
        snapshot: i64,
        servers: Option<String>,
    },
    DirectChat {
        low: i64,
        high: i64,
    },
    NoDirectChat {
        low: i64,
        high: i64,
    },
    NoticeRoom {
        user_nid: i64,
    },
    SendsDelayed {
        nid: i64,
        event_id: String,
        sent_at: i64,
    },
}

impl Rows {
    /// Takes in what one write makes.
    pub(crate) fn add(&mut self, write: &Write, interned: &Interned) -> Result<()> {
        for room in &write.rooms {
            self.add_room(room, interned)?;
        }
        for data in &write.account_data {
            self.add_account_data(data);
        }
        for receipt in &write.receipts {
            self.add_receipt(receipt);
        }
        self.inbox.add(&write.received, &write.worked_through);
        Ok(())
    }

    fn add_room(&mut self, room: &RoomWrite, interned: &Interned) -> Result<()> {
        let room_nid = room.room_nid.get();
        for outlier in &room.outliers {
            self.outliers
                .add(&mut self.snapshots, room_nid, outlier, interned)?;
        }
        for event in room.past.iter().chain(&room.events) {
            self.add_event(room_nid, event, interned)?;
        }
        for event in &room.past {
            self.past_times.0.push(room_nid);
            self.past_times.1.push(event.origin_server_ts);
            self.past_times.2.push(event.position.get());
            let redaction = event.redaction.iter();
            let redacted = redaction.flat_map(|redaction| {
                let told = redaction.told.get();
                let second = redaction
                    .outlier
                    .filter(|number| *number != redaction.target);
                let numbers = std::iter::once(redaction.target).chain(second);
                numbers.map(move |number| (told, number))
            });
            self.redacted_by_past.extend(redacted);
        }
        if let Some(rewrite) = &room.rewrite {
            self.add_rewrite(room_nid, rewrite, interned)?;
        }
        let rewritten = room.rewrite.as_ref().map(|rewrite| &rewrite.newest);
        let newest = room.events.last().map(|event| &event.position);
        if let Some(last) = newest.or(rewritten) {
            let head = Head {
                revision: room.base_revision + 1,
                last_position: last.get(),
                extremities: positions_json(&room.extremities)?,
                joined: room.joined,
            };
            self.heads.insert(room_nid, head);
        }
        for effect in &room.effects {
            self.add_invite(room, effect, interned)?;
            self.effects.push((room_nid, to_effect(effect, interned)?));
        }
        Ok(())
    }

    /// Takes in the membership that an invitation from outside gives or takes.
    fn add_invite(
        &mut self,
        room: &RoomWrite,
        effect: &RoomEffect,
        interned: &Interned,
    ) -> Result<()> {
        let (user_id, membership, event) = match effect {
            RoomEffect::Invite {
                user_id,
                membership,
                event,
                ..
            } => (user_id, membership.as_str(), event),
            // Where an event is written, it says what becomes of the membership.
            RoomEffect::NoInvite { user_id, event } if room.events.is_empty() => {
                (user_id, "leave", event)
            }
            _ => return Ok(()),
        };
        let key = (interned.user(user_id.as_str())?, room.room_nid.get());
        self.memberships
            .insert(key, (Some(membership.to_owned()), event.get()));
        Ok(())
    }

    fn add_event(&mut self, room_nid: i64, event: &NewEvent, interned: &Interned) -> Result<()> {
        let position = event.position.get();
        let slot = match &event.state_key {
            Some(state_key) => Some(interned.slot(&event.event_type, state_key)?),
            None => None,
        };
        self.events.position.push(position);
        self.events.room.push(room_nid);
        self.events.event_id.push(event_key(&event.event_id));
        self.events
            .event_type
            .push(interned.event_type(&event.event_type)?);
        self.events.slot.push(slot);
        self.events
            .sender
            .push(interned.user(event.sender.as_str())?);
        self.events.time.push(event.origin_server_ts);
        self.events.depth.push(event.depth);
        self.events
            .replaces
            .push(event.replaces.as_ref().map(Assigned::get));
        self.events
            .redacted_by
            .push(event.redacted_by.as_ref().map(Assigned::get));
        self.events
            .device
            .push(event.origin.as_ref().map(|(device, _)| *device));
        self.events
            .transaction
            .push(event.origin.as_ref().and_then(|(_, id)| id.clone()));
        self.events.json.push(event.json.clone());
        let snapshot = self
            .snapshots
            .add(&event.snapshot, position, slot, interned)?;
        self.events.snapshot.push(snapshot);
        match &event.settled {
            Some(settled) => self.add_settled(room_nid, position, settled, interned)?,
            None => {
                self.events.current_snapshot.push(None);
                if let Some((user_id, membership)) = &event.membership {
                    let key = (interned.user(user_id.as_str())?, room_nid);
                    self.memberships
                        .insert(key, (Some(membership.clone()), position));
                }
                self.shown.add(room_nid, event);
            }
        }
        if event.after_gap {
            self.after_gaps.push(position);
        }
        if let Some(redaction) = &event.redaction {
            self.redactions.push((position, redaction.clone()));
        }
        if let Some(target) = &event.redacts_later {
            self.early_redactions.0.push(room_nid);
            self.early_redactions.1.push(event_key(target));
            self.early_redactions.2.push(position);
        }
        if let Some(relation) = &event.relation {
            self.relations.add(room_nid, event, relation, interned)?;
        }
        Ok(())
    }

    fn add_settled(
        &mut self,
        room_nid: i64,
        position: i64,
        settled: &Settled,
        interned: &Interned,
    ) -> Result<()> {
        let current = self.settle(room_nid, position, settled, interned)?;
        self.events.current_snapshot.push(Some(current));
        Ok(())
    }

    fn add_rewrite(&mut self, room_nid: i64, rewrite: &Rewrite, interned: &Interned) -> Result<()> {
        for rejected in &rewrite.rejected {
            let snapshot = rejected.snapshot.get();
            self.rewrites.reject(rejected.position, snapshot);
        }
        for restated in &rewrite.restated {
            let position = restated.position;
            let snapshot = self
                .snapshots
                .add(&restated.snapshot, position, None, interned)?;
            self.rewrites.restate(position, snapshot);
        }
        if let Some(completion) = &rewrite.completion {
            let position = completion.position.get();
            let current = self.settle(room_nid, position, &completion.settled, interned)?;
            self.rewrites.complete(Completed {
                room_nid,
                position,
                newest: rewrite.newest.get(),
                current_snapshot: current,
                is_apart: completion.is_apart,
            });
        }
        Ok(())
    }

    /// Takes in what becomes of a room's current state at a position; gives its snapshot.
    fn settle(
        &mut self,
        room_nid: i64,
        position: i64,
        settled: &Settled,
        interned: &Interned,
    ) -> Result<i64> {
        let current = self
            .snapshots
            .add(&settled.snapshot, position, None, interned)?;
        for (user_id, membership) in &settled.members {
            let key = (interned.user(user_id.as_str())?, room_nid);
            self.memberships.insert(key, (membership.clone(), position));
        }
        for (event_type, event) in &settled.shown {
            let event = event.as_ref().map(Assigned::get);
            self.shown.set(room_nid, event_type, event);
        }
        Ok(current)
    }

    fn add_account_data(&mut self, data: &AccountDataWrite) {
        let key = (data.user_nid, data.room_nid, data.event_type.clone());
        self.account_data
            .insert(key, (data.content.clone(), data.position.get()));
    }

    fn add_receipt(&mut self, receipt: &ReceiptWrite) {
        let key = (
            receipt.room_nid,
            receipt.user_nid,
            receipt.receipt_type.clone(),
            receipt.thread.clone(),
        );
        let row = Receipt {
            event_id: receipt.event_id.to_string(),
            event_position: receipt.event_position,
            received_at: receipt.received_at,
            position: receipt.position.get(),
        };
        let newest = self.receipts.entry(key).or_insert_with(|| row.clone());
        if newest.event_position < row.event_position {
            *newest = row;
        }
    }

    /// Writes all rows.
    pub(crate) async fn store(
        self,
        transaction: &mut Transaction,
        forgets_left: bool,
    ) -> Result<()> {
        self.outliers.store(transaction).await?;
        self.events.store(transaction).await?;
        self.snapshots.store(transaction).await?;
        let (rooms, times, positions) = self.past_times;
        insert(
            transaction,
            "event_times (room_nid, origin_server_ts, position)",
            vec![
                Column::Int(rooms),
                Column::Int(times),
                Column::Int(positions),
            ],
            "ON CONFLICT DO NOTHING",
        )
        .await?;
        if !self.after_gaps.is_empty() {
            statement("UPDATE events SET after_gap = TRUE WHERE position IN ({ints $1})")
                .bind(self.after_gaps)
                .run(transaction)
                .await?;
        }
        self.rewrites.store(transaction).await?;
        store_heads(transaction, self.heads).await?;
        store_memberships(transaction, self.memberships, forgets_left).await?;
        self.relations.store(transaction).await?;
        self.shown.store(transaction).await?;
        for (position, redaction) in self.redactions {
            redact(transaction, position, redaction).await?;
        }
        let (positions, targets) = self.redacted_by_past;
        insert(
            transaction,
            "redacted_by_past (position, target)",
            vec![Column::Int(positions), Column::Int(targets)],
            "",
        )
        .await?;
        let (rooms, targets, positions) = self.early_redactions;
        insert(
            transaction,
            "early_redactions (room_nid, event_id, position)",
            vec![
                Column::Int(rooms),
                Column::Bytes(targets),
                Column::Int(positions),
            ],
            "ON CONFLICT DO NOTHING",
        )
        .await?;
        for (room_nid, effect) in self.effects {
            store_effect(transaction, room_nid, effect).await?;
        }
        store_account_data(transaction, self.account_data).await?;
        store_receipts(transaction, self.receipts).await?;
        self.inbox.store(transaction).await
    }
}

impl Events {
    async fn store(self, transaction: &mut Transaction) -> Result<()> {
        insert(
            transaction,
            "events (position, room_nid, event_id, type_nid, slot_nid, sender_nid, origin_server_ts, depth, \
             snapshot, current_snapshot, replaces, redacted_by, device_nid, transaction_id, json)",
            vec![
                Column::Int(self.position),
                Column::Int(self.room),
                Column::Bytes(self.event_id),
                Column::Int(self.event_type),
                Column::OptionalInt(self.slot),
                Column::Int(self.sender),
                Column::Int(self.time),
                Column::Int(self.depth),
                Column::Int(self.snapshot),
                Column::OptionalInt(self.current_snapshot),
                Column::OptionalInt(self.replaces),
                Column::OptionalInt(self.redacted_by),
                Column::OptionalInt(self.device),
                Column::OptionalText(self.transaction),
                Column::Text(self.json),
            ],
            "",
        )
        .await
    }
}

/// Leaves of an event what its redaction leaves, wherever it stands.
async fn redact(
    transaction: &mut Transaction,
    position: i64,
    redaction: NewRedaction,
) -> Result<()> {
    relations::forget(transaction, redaction.target).await?;
    statement("UPDATE events SET json = $2, redacted_by = $3 WHERE position = $1")
        .bind(redaction.target)
        .bind(redaction.json.as_str())
        .bind(position)
        .run(transaction)
        .await?;
    if redaction.outlier.is_some() {
        statement("UPDATE outliers SET json = $2 WHERE position = $1")
            .bind(redaction.outlier)
            .bind(redaction.json)
            .run(transaction)
            .await?;
    }
    Ok(())
}

async fn store_heads(transaction: &mut Transaction, heads: BTreeMap<i64, Head>) -> Result<()> {
    let mut columns = (vec![], vec![], vec![], vec![], vec![]);
    for (room_nid, head) in heads {
        columns.0.push(room_nid);
        columns.1.push(head.revision);
        columns.2.push(head.last_position);
        columns.3.push(head.extremities);
        columns.4.push(head.joined);
    }
    insert(
        transaction,
        "room_heads (room_nid, revision, last_position, extremities, joined)",
        vec![
            Column::Int(columns.0),
            Column::Int(columns.1),
            Column::Int(columns.2),
            Column::Text(columns.3),
            Column::Int(columns.4),
        ],
        "ON CONFLICT (room_nid) DO UPDATE SET revision = excluded.revision, \
         last_position = excluded.last_position, extremities = excluded.extremities, joined = excluded.joined",
    )
    .await
}

async fn store_memberships(
    transaction: &mut Transaction,
    memberships: BTreeMap<(i64, i64), (Option<String>, i64)>,
    forgets_left: bool,
) -> Result<()> {
    let mut columns = (vec![], vec![], vec![], vec![], vec![]);
    for ((user_nid, room_nid), (membership, position)) in memberships {
        let Some(membership) = membership else {
            statement("DELETE FROM memberships WHERE user_nid = $1 AND room_nid = $2")
                .bind(user_nid)
                .bind(room_nid)
                .run(transaction)
                .await?;
            continue;
        };
        columns.0.push(user_nid);
        columns.1.push(room_nid);
        let is_left = matches!(membership.as_str(), "leave" | "ban");
        columns.2.push(membership);
        columns.3.push(position);
        columns.4.push(forgets_left && is_left);
    }
    insert(
        transaction,
        "memberships (user_nid, room_nid, membership, event_position, forgotten)",
        vec![
            Column::Int(columns.0),
            Column::Int(columns.1),
            Column::Text(columns.2),
            Column::Int(columns.3),
            Column::Bool(columns.4),
        ],
        "ON CONFLICT (user_nid, room_nid) DO UPDATE SET membership = excluded.membership, \
         event_position = excluded.event_position, forgotten = excluded.forgotten",
    )
    .await
}

async fn store_account_data(
    transaction: &mut Transaction,
    data: BTreeMap<(i64, i64, String), (String, i64)>,
) -> Result<()> {
    let mut columns = (vec![], vec![], vec![], vec![], vec![]);
    for ((user_nid, room_nid, event_type), (content, position)) in data {
        columns.0.push(user_nid);
        columns.1.push(room_nid);
        columns.2.push(event_type);
        columns.3.push(content);
        columns.4.push(position);
    }
    insert(
        transaction,
        "account_data (user_nid, room_nid, event_type, content, position)",
        vec![
            Column::Int(columns.0),
            Column::Int(columns.1),
            Column::Text(columns.2),
            Column::Text(columns.3),
            Column::Int(columns.4),
        ],
        "ON CONFLICT (user_nid, room_nid, event_type) DO UPDATE SET content = excluded.content, \
         position = excluded.position",
    )
    .await
}

async fn store_receipts(
    transaction: &mut Transaction,
    receipts: BTreeMap<(i64, i64, String, String), Receipt>,
) -> Result<()> {
    let mut keys = (vec![], vec![], vec![], vec![]);
    let mut values = (vec![], vec![], vec![], vec![]);
    for ((room_nid, user_nid, receipt_type, thread), receipt) in receipts {
        keys.0.push(room_nid);
        keys.1.push(user_nid);
        keys.2.push(receipt_type);
        keys.3.push(thread);
        values.0.push(receipt.event_id);
        values.1.push(receipt.event_position);
        values.2.push(receipt.received_at);
        values.3.push(receipt.position);
    }
    insert(
        transaction,
        "receipts (room_nid, user_nid, receipt_type, thread, event_id, event_position, received_at, position)",
        vec![
            Column::Int(keys.0),
            Column::Int(keys.1),
            Column::Text(keys.2),
            Column::Text(keys.3),
            Column::Text(values.0),
            Column::Int(values.1),
            Column::Int(values.2),
            Column::Int(values.3),
        ],
        "ON CONFLICT (room_nid, user_nid, receipt_type, thread) DO UPDATE SET event_id = excluded.event_id, \
         event_position = excluded.event_position, received_at = excluded.received_at, \
         position = excluded.position WHERE receipts.event_position < excluded.event_position",
    )
    .await
}

fn to_effect(effect: &RoomEffect, interned: &Interned) -> Result<Effect> {
    Ok(match effect {
        RoomEffect::Alias {
            alias,
            creator,
            created_at,
        } => Effect::Alias {
            alias: alias.clone(),
            creator: interned.user(creator.as_str())?,
            created_at: *created_at,
        },
        RoomEffect::NoAlias { alias } => Effect::NoAlias {
            alias: alias.clone(),
        },
        RoomEffect::Publish => Effect::Publish,
        RoomEffect::Succeed { room_nid } => Effect::Succeed {
            room_nid: *room_nid,
        },
        RoomEffect::Open(open) => Effect::Open(*open),
        RoomEffect::Invite {
            user_id,
            event,
            room_state,
            via,
            ..
        } => Effect::Invite {
            user: interned.user(user_id.as_str())?,
            event: event.get(),
            room_state: room_state.clone(),
            via: via.clone(),
        },
        RoomEffect::NoInvite { user_id, .. } => Effect::NoInvite {
            user: interned.user(user_id.as_str())?,
        },
        RoomEffect::PassOn { event, origin } => Effect::PassOn {
            event: event.get(),
            origin: origin.to_string(),
        },
        RoomEffect::Members {
            join,
            snapshot,
            servers,
        } => Effect::Members {
            join: join.get(),
            snapshot: snapshot.get(),
            servers: servers.clone(),
        },
        RoomEffect::DirectChat { one, other } => Effect::DirectChat {
            low: *one.min(other),
            high: *one.max(other),
        },
        RoomEffect::NoDirectChat { one, other } => Effect::NoDirectChat {
            low: *one.min(other),
            high: *one.max(other),
        },
        RoomEffect::NoticeRoom { user_nid } => Effect::NoticeRoom {
            user_nid: *user_nid,
        },
        RoomEffect::SendsDelayed {
            nid,
            event_id,
            sent_at,
        } => Effect::SendsDelayed {
            nid: *nid,
            event_id: event_id.to_string(),
            sent_at: *sent_at,
        },
    })
}

async fn store_effect(transaction: &mut Transaction, room_nid: i64, effect: Effect) -> Result<()> {
    let statement = match effect {
        Effect::Alias { alias, creator, created_at } => statement(
            "INSERT INTO room_aliases (alias, room_nid, creator_nid, created_at) VALUES ($1, $2, $3, $4)",
        )
        .bind(alias)
        .bind(room_nid)
        .bind(creator)
        .bind(created_at),
        Effect::NoAlias { alias } => {
            statement("DELETE FROM room_aliases WHERE alias = $1 AND room_nid = $2")
                .bind(alias)
                .bind(room_nid)
        }
        Effect::Publish => {
            statement("UPDATE rooms SET published = TRUE WHERE nid = $1").bind(room_nid)
        }
        Effect::Succeed { room_nid: old } => return succeed(transaction, room_nid, old).await,
        Effect::SendsDelayed { nid, event_id, sent_at } => {
            return delayed_events::sent(transaction, nid, &event_id, sent_at).await;
        }
        Effect::Open(open) => statement(match open {
            true => "INSERT INTO open_rooms (room_nid) VALUES ($1) ON CONFLICT DO NOTHING",
            false => "DELETE FROM open_rooms WHERE room_nid = $1",
        })
        .bind(room_nid),
        Effect::Invite { user, event, room_state, via } => statement(
            "INSERT INTO remote_invites (room_nid, user_nid, event_position, room_state, via) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (room_nid, user_nid) DO UPDATE SET \
             event_position = excluded.event_position, room_state = excluded.room_state, via = excluded.via",
        )
        .bind(room_nid)
        .bind(user)
        .bind(event)
        .bind(room_state)
        .bind(via),
        Effect::NoInvite { user } => {
            statement("DELETE FROM remote_invites WHERE room_nid = $1 AND user_nid = $2")
                .bind(room_nid)
                .bind(user)
        }
        Effect::PassOn { event, origin } => {
            statement("INSERT INTO passed_on (position, origin) VALUES ($1, $2)")
                .bind(event)
                .bind(origin)
        }
        Effect::Members { join, snapshot, servers } => {
            return partial::begin(transaction, room_nid, join, snapshot, servers).await;
        }
        Effect::DirectChat { low, high } => {
            statement("INSERT INTO direct_chats (low_nid, high_nid, room_nid) VALUES ($1, $2, $3)")
                .bind(low)
                .bind(high)
                .bind(room_nid)
        }
        Effect::NoDirectChat { low, high } => statement(
            "DELETE FROM direct_chats WHERE low_nid = $1 AND high_nid = $2 AND room_nid = $3",
        )
        .bind(low)
        .bind(high)
        .bind(room_nid),
        Effect::NoticeRoom { user_nid } => {
            statement("INSERT INTO notice_rooms (user_nid, room_nid) VALUES ($1, $2)")
                .bind(user_nid)
                .bind(room_nid)
        }
    };
    statement.run(transaction).await?;
    Ok(())
}

/// Hands over what a room was known by to the one that takes its place.
async fn succeed(transaction: &mut Transaction, room_nid: i64, old: i64) -> Result<()> {
    for text in [
        "UPDATE room_aliases SET room_nid = $1 WHERE room_nid = $2",
        "UPDATE direct_chats SET room_nid = $1 WHERE room_nid = $2",
        "UPDATE notice_rooms SET room_nid = $1 WHERE room_nid = $2",
        "UPDATE rooms SET published = TRUE WHERE nid = $1 AND EXISTS ( \
           SELECT nid FROM rooms WHERE nid = $2 AND published)",
    ] {
        let statement = statement(text).bind(room_nid).bind(old);
        statement.run(transaction).await?;
    }
    statement("UPDATE rooms SET published = FALSE WHERE nid = $1")
        .bind(old)
        .run(transaction)
        .await?;
    Ok(())
}
