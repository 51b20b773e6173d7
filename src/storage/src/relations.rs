//! How events relate to others.

use parley_protocol::{EventKey, relation::Relation};
use ruma::{EventId, OwnedEventId};

use crate::{
    Database, Result, Transaction,
    commit::NewEvent,
    events::{EventRow, SELECT, Span, read_event_id, rows},
    insert::{Column, insert},
    names::Interned,
    statement::statement,
};

/// New rows, gathered for one statement.
#[derive(Debug, Default)]
pub(crate) struct RelationRows {
    position: Vec<i64>,
    room: Vec<i64>,
    target: Vec<Vec<u8>>,
    rel_type: Vec<String>,
    sender: Vec<i64>,
    event_type: Vec<i64>,
    annotation: Vec<Option<String>>,
}

impl RelationRows {
    pub(crate) fn add(
        &mut self,
        room_nid: i64,
        event: &NewEvent,
        relation: &Relation,
        interned: &Interned,
    ) -> Result<()> {
        self.position.push(event.position.get());
        self.room.push(room_nid);
        self.target
            .push(EventKey::new(&relation.target).into_bytes());
        self.rel_type.push(relation.rel_type.clone());
        self.sender.push(interned.user(event.sender.as_str())?);
        self.event_type
            .push(interned.event_type(&event.event_type)?);
        self.annotation.push(relation.key.clone());
        Ok(())
    }

    pub(crate) async fn store(self, transaction: &mut Transaction) -> Result<()> {
        insert(
            transaction,
            "relations (position, room_nid, target, rel_type, sender_nid, type_nid, annotation)",
            vec![
                Column::Int(self.position),
                Column::Int(self.room),
                Column::Bytes(self.target),
                Column::Text(self.rel_type),
                Column::Int(self.sender),
                Column::Int(self.event_type),
                Column::OptionalText(self.annotation),
            ],
            "",
        )
        .await
    }
}

/// The event at a position was redacted and relates to nothing any more.
pub(crate) async fn forget(transaction: &mut Transaction, position: i64) -> Result<()> {
    statement("DELETE FROM relations WHERE position = $1")
        .bind(position)
        .run(transaction)
        .await?;
    Ok(())
}

/// Which events that relate to another are wanted.
#[derive(Clone, Copy, Debug)]
pub struct RelatedQuery<'a> {
    /// The event that they relate to.
    pub target: &'a EventId,
    /// Only those that relate in this way.
    pub rel_type: Option<&'a str>,
    /// Only those of this type.
    pub event_type: Option<&'a str>,
    /// Over how many events they may relate to it: 1 for directly.
    pub depth: i64,
    /// In which room and part of the stream.
    pub span: Span,
    /// Whether the oldest come first.
    pub oldest_first: bool,
    /// The most rows.
    pub limit: i64,
}

/// Which threads of a room are wanted.
#[derive(Clone, Copy, Debug)]
pub struct ThreadQuery {
    /// The room.
    pub room_nid: i64,
    /// Those only in which nothing was said after this position.
    pub up_to: i64,
    /// Those only in which this user said something.
    pub participant: Option<i64>,
    /// The most.
    pub limit: i64,
}

/// What one sender said in a thread.
#[derive(Clone, Debug)]
pub struct ThreadPart {
    /// The thread's root.
    pub root: OwnedEventId,
    /// The sender.
    pub sender: String,
    /// How many events.
    pub count: i64,
    /// The position of the newest.
    pub newest: i64,
}

/// Up to where events are told that relate to others.
#[derive(Clone, Copy, Debug)]
pub struct Extent<'a> {
    /// Up to this position.
    pub up_to: i64,
    /// In the rooms of the events at these positions, by which somebody left them, up to those.
    pub ends: &'a [i64],
}

impl Extent<'_> {
    /// All of them.
    pub const ALL: Self = Self {
        up_to: i64::MAX,
        ends: &[],
    };
}

/// That the relation `r` is within an extent; the parameters are its position and its ends.
const WITHIN: &str = "r.position <= $2 AND NOT EXISTS ( \
    SELECT l.position FROM events l WHERE l.position IN ({ints $3}) AND l.room_nid = r.room_nid \
      AND l.position < r.position)";

impl Database {
    /// The events that relate to another.
    pub async fn related(&self, query: RelatedQuery<'_>) -> Result<Vec<EventRow>> {
        let order = if query.oldest_first { "ASC" } else { "DESC" };
        let columns = statement(format!(
            "WITH RECURSIVE related (position, rel_type, type_nid, depth) AS ( \
               SELECT position, rel_type, type_nid, 1 FROM relations WHERE room_nid = $1 AND target = $2 \
               UNION ALL \
               SELECT n.position, n.rel_type, n.type_nid, related.depth + 1 FROM related \
               JOIN events p ON p.position = related.position \
               JOIN relations n ON n.target = p.event_id AND n.room_nid = $1 \
               WHERE related.depth < $3) \
             {SELECT} JOIN related ON related.position = e.position \
             JOIN event_types t ON t.nid = related.type_nid \
             WHERE e.position > $4 AND e.position <= $5 \
               AND ($6 = '' OR related.rel_type = $6) AND ($7 = '' OR t.name = $7) \
             ORDER BY e.position {order} LIMIT $8"
        ))
        .bind(query.span.room_nid)
        .bind(EventKey::new(query.target).into_bytes())
        .bind(query.depth)
        .bind(query.span.after)
        .bind(query.span.to)
        .bind(query.rel_type.unwrap_or_default())
        .bind(query.event_type.unwrap_or_default())
        .bind(query.limit)
        .all(self)
        .await?;
        rows(columns)
    }

    /// Whether a user has annotated an event with the same key by an event of the same type.
    pub async fn has_annotation(
        &self,
        room_nid: i64,
        target: &EventId,
        sender_nid: i64,
        event_type: &str,
        key: &str,
    ) -> Result<bool> {
        let row: Option<(i64,)> = statement(
            "SELECT r.position FROM relations r JOIN event_types t ON t.nid = r.type_nid \
             WHERE r.room_nid = $1 AND r.target = $2 AND r.rel_type = 'm.annotation' AND r.sender_nid = $3 \
               AND t.name = $4 AND r.annotation = $5 LIMIT 1",
        )
        .bind(room_nid)
        .bind(EventKey::new(target).into_bytes())
        .bind(sender_nid)
        .bind(event_type)
        .bind(key)
        .optional(self)
        .await?;
        Ok(row.is_some())
    }

    /// The newest valid edits of events within an extent: the position of the event and that of the edit. More than one of
    /// an event where several were made in the same millisecond.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#validity-of-replacement-events>
    pub async fn newest_edits(
        &self,
        targets: &[OwnedEventId],
        extent: Extent<'_>,
    ) -> Result<Vec<(i64, i64)>> {
        statement(format!(
            "SELECT target, edit FROM ( \
               SELECT o.position AS target, e.position AS edit, \
                 RANK() OVER (PARTITION BY o.position ORDER BY e.origin_server_ts DESC) AS place \
               FROM relations r \
               JOIN events e ON e.position = r.position \
               JOIN events o ON o.event_id = r.target AND o.room_nid = r.room_nid \
                 AND o.sender_nid = r.sender_nid AND o.type_nid = r.type_nid AND o.slot_nid IS NULL \
               JOIN event_types t ON t.nid = r.type_nid \
               LEFT JOIN relations own ON own.position = o.position AND own.rel_type = 'm.replace' \
               WHERE r.target IN ({{bytes $1}}) AND r.rel_type = 'm.replace' AND e.slot_nid IS NULL \
                 AND {WITHIN} \
                 AND own.position IS NULL AND o.redacted_by IS NULL \
                 AND (t.name = 'm.room.encrypted' OR e.json LIKE '%\"m.new_content\":%') \
             ) AS edits WHERE place = 1"
        ))
        .bind(keys(targets))
        .bind(extent.up_to)
        .bind(extent.ends.to_vec())
        .all(self)
        .await
    }

    /// The threads of a room: the position of the root, and of what was said last. That in which something was said last
    /// comes first.
    pub async fn thread_roots(&self, query: ThreadQuery) -> Result<Vec<(i64, i64)>> {
        statement(
            "SELECT o.position, MAX(r.position) AS newest FROM relations r \
             JOIN events o ON o.event_id = r.target AND o.room_nid = r.room_nid \
             LEFT JOIN relations own ON own.position = o.position \
             WHERE r.room_nid = $1 AND r.rel_type = 'm.thread' AND own.position IS NULL \
               AND ($2 = 0 OR o.sender_nid = $2 OR EXISTS ( \
                 SELECT p.position FROM relations p WHERE p.target = r.target AND p.room_nid = r.room_nid \
                   AND p.rel_type = 'm.thread' AND p.sender_nid = $2)) \
             GROUP BY o.position HAVING MAX(r.position) <= $3 ORDER BY newest DESC LIMIT $4",
        )
        .bind(query.room_nid)
        .bind(query.participant.unwrap_or(0))
        .bind(query.up_to)
        .bind(query.limit)
        .all(self)
        .await
    }

    /// The newest events within an extent that refer to these, at most `limit`: the event that is referred to, and the
    /// position of the one that does.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#reference-relations>
    pub async fn references(
        &self,
        targets: &[OwnedEventId],
        extent: Extent<'_>,
        limit: i64,
    ) -> Result<Vec<(OwnedEventId, i64)>> {
        let rows: Vec<(Vec<u8>, i64)> = statement(format!(
            "SELECT r.target, r.position FROM relations r \
             JOIN events o ON o.event_id = r.target AND o.room_nid = r.room_nid \
             WHERE r.target IN ({{bytes $1}}) AND r.rel_type = 'm.reference' \
               AND {WITHIN} ORDER BY r.position DESC LIMIT $4"
        ))
        .bind(keys(targets))
        .bind(extent.up_to)
        .bind(extent.ends.to_vec())
        .bind(limit)
        .all(self)
        .await?;
        rows.into_iter()
            .map(|(target, position)| Ok((read_event_id(&target)?, position)))
            .collect()
    }

    /// What was said within an extent in the threads that begin with these events, by sender. An event that relates to
    /// another itself begins no thread.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#threading>
    pub async fn threads(
        &self,
        roots: &[OwnedEventId],
        extent: Extent<'_>,
    ) -> Result<Vec<ThreadPart>> {
        let parts: Vec<(Vec<u8>, String, i64, i64)> = statement(format!(
            "SELECT r.target, u.user_id, COUNT(*), MAX(r.position) FROM relations r \
             JOIN users u ON u.nid = r.sender_nid \
             JOIN events o ON o.event_id = r.target AND o.room_nid = r.room_nid \
             LEFT JOIN relations own ON own.position = o.position \
             WHERE r.target IN ({{bytes $1}}) AND r.rel_type = 'm.thread' AND own.position IS NULL \
               AND {WITHIN} GROUP BY r.target, u.user_id"
        ))
        .bind(keys(roots))
        .bind(extent.up_to)
        .bind(extent.ends.to_vec())
        .all(self)
        .await?;
        parts
            .into_iter()
            .map(|(root, sender, count, newest)| {
                Ok(ThreadPart {
                    root: read_event_id(&root)?,
                    sender,
                    count,
                    newest,
                })
            })
            .collect()
    }
}

fn keys(events: &[OwnedEventId]) -> Vec<Vec<u8>> {
    let keys = events.iter().map(|event_id| EventKey::new(event_id));
    keys.map(EventKey::into_bytes).collect()
}
