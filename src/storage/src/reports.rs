//! What users have reported.

use ruma::{OwnedEventId, UserId};

use crate::{Database, Result, events::read_event_id, statement::statement};

/// A report that is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewReport<'a> {
    /// Who reports.
    pub reporter_nid: i64,
    /// The room; 0 for a user.
    pub room_nid: i64,
    /// The event, if it is one.
    pub event_position: Option<i64>,
    /// The user, if it is one.
    pub reported_user_nid: Option<i64>,
    /// Why.
    pub reason: Option<&'a str>,
    /// Milliseconds since the epoch.
    pub received_at: i64,
}

/// A report of an event.
#[derive(Clone, Debug)]
pub struct EventReport {
    /// Its number.
    pub nid: i64,
    /// Who reports.
    pub reporter: String,
    /// The room.
    pub room_id: String,
    /// The event.
    pub event_id: OwnedEventId,
    /// Who sent the event.
    pub sender: String,
    /// Why.
    pub reason: Option<String>,
    /// Milliseconds since the epoch.
    pub received_at: i64,
}

/// Which reports of events are wanted.
#[derive(Clone, Copy, Debug)]
pub struct ReportQuery<'a> {
    /// Those of this user only.
    pub reporter: Option<&'a UserId>,
    /// Those of this room only.
    pub room_id: Option<&'a str>,
    /// Whether the oldest come first.
    pub oldest_first: bool,
    /// How many to pass over.
    pub skip: i64,
    /// The most.
    pub limit: i64,
}

/// What both queries look at.
const FROM: &str = "FROM reports p JOIN users u ON u.nid = p.reporter_nid JOIN rooms r ON r.nid = p.room_nid \
     JOIN events e ON e.position = p.event_position JOIN users s ON s.nid = e.sender_nid \
     WHERE ($1 = '' OR u.user_id = $1) AND ($2 = '' OR r.room_id = $2)";

impl Database {
    /// Stores a report.
    pub async fn add_report(&self, report: NewReport<'_>) -> Result<()> {
        let mut transaction = self.write().await?;
        statement(
            "INSERT INTO reports (reporter_nid, room_nid, event_position, reported_user_nid, reason, received_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(report.reporter_nid)
        .bind(report.room_nid)
        .bind(report.event_position)
        .bind(report.reported_user_nid)
        .bind(report.reason)
        .bind(report.received_at)
        .run(&mut transaction)
        .await?;
        transaction.commit().await
    }

    /// Reports of events.
    pub async fn event_reports(&self, query: ReportQuery<'_>) -> Result<Vec<EventReport>> {
        type Columns = (i64, String, String, Vec<u8>, String, Option<String>, i64);
        let order = if query.oldest_first { "ASC" } else { "DESC" };
        let rows: Vec<Columns> = statement(format!(
            "SELECT p.nid, u.user_id, r.room_id, e.event_id, s.user_id, p.reason, p.received_at {FROM} \
             ORDER BY p.nid {order} LIMIT $3 OFFSET $4"
        ))
        .bind(query.reporter.map_or("", UserId::as_str))
        .bind(query.room_id.unwrap_or_default())
        .bind(query.limit)
        .bind(query.skip)
        .all(self)
        .await?;
        rows.into_iter()
            .map(
                |(nid, reporter, room_id, event_id, sender, reason, received_at)| {
                    Ok(EventReport {
                        nid,
                        reporter,
                        room_id,
                        event_id: read_event_id(&event_id)?,
                        sender,
                        reason,
                        received_at,
                    })
                },
            )
            .collect()
    }

    /// How many reports of events there are, of all pages.
    pub async fn event_report_count(&self, query: ReportQuery<'_>) -> Result<i64> {
        let (count,): (i64,) = statement(format!("SELECT COUNT(*) {FROM}"))
            .bind(query.reporter.map_or("", UserId::as_str))
            .bind(query.room_id.unwrap_or_default())
            .one(self)
            .await?;
        Ok(count)
    }
}
