//! Events that are sent later, and what has become of them.

use ruma::OwnedRoomId;

use crate::{Database, Result, Transaction, accounts, rooms::read, statement::statement};

/// An event that is to be sent later.
#[derive(Clone, Copy, Debug)]
pub struct NewDelayedEvent<'a> {
    /// The name by which it can be managed.
    pub delay_id: &'a str,
    /// Whose it is.
    pub user_nid: i64,
    /// The device that asks for it.
    pub device_nid: i64,
    /// The device's transaction id, if it gives one.
    pub transaction_id: Option<&'a str>,
    /// Its room.
    pub room_nid: i64,
    /// Its type.
    pub event_type: &'a str,
    /// Its state key, if it is a state event.
    pub state_key: Option<&'a str>,
    /// JSON.
    pub content: &'a str,
    /// After how many milliseconds.
    pub delay: i64,
    /// The present.
    pub now: i64,
    /// How far the stream has come.
    pub position: i64,
}

/// How much a user may have of this.
#[derive(Clone, Copy, Debug)]
pub struct DelayedEventLimits {
    /// Scheduled at once.
    pub scheduled: i64,
    /// Finalised, and kept to be asked for; older ones go.
    pub finalised: i64,
}

/// What became of the wish to schedule an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheduling {
    /// It is scheduled.
    Scheduled,
    /// It was before, by the same transaction, under this name.
    Repeated(String),
    /// The user has too many. The first of them is due at that time.
    TooMany(i64),
}

/// An event that is, or was, to be sent later.
#[derive(Clone, Debug)]
pub struct DelayedEvent {
    /// Its number.
    pub nid: i64,
    /// The name by which it can be managed.
    pub delay_id: String,
    /// Whose it is.
    pub user_nid: i64,
    /// Its room.
    pub room_id: OwnedRoomId,
    /// Its type.
    pub event_type: String,
    /// Its state key, if it is a state event.
    pub state_key: Option<String>,
    /// JSON.
    pub content: String,
    /// After how many milliseconds.
    pub delay: i64,
    /// When the delay began, or began anew.
    pub started_at: i64,
    /// Whether somebody else has set its place of the state since it was scheduled.
    pub superseded: bool,
    /// What has become of it; `None` while it is scheduled.
    pub outcome: Option<DelayedOutcome>,
}

/// What has become of an event that was to be sent later.
#[derive(Clone, Debug)]
pub struct DelayedOutcome {
    /// When it did.
    pub finalised_at: i64,
    /// The event that was sent.
    pub event_id: Option<String>,
    /// JSON: why it could not be sent. With neither it was cancelled.
    pub error: Option<String>,
}

/// The columns of [`DelayedEvent`].
type Columns = (
    i64,
    String,
    i64,
    String,
    String,
    Option<String>,
    String,
    i64,
    i64,
    bool,
    Option<i64>,
    Option<String>,
    Option<String>,
);

const SELECT: &str = "SELECT d.nid, d.delay_id, d.user_nid, r.room_id, d.event_type, d.state_key, d.content, d.delay, \
     d.started_at, \
     d.state_key IS NOT NULL AND EXISTS (SELECT 1 FROM state_slots s \
       JOIN events e ON e.slot_nid = s.nid AND e.room_nid = d.room_nid \
       WHERE s.event_type = d.event_type AND s.state_key = d.state_key \
       AND e.position > d.position AND e.sender_nid <> d.user_nid), \
     o.finalised_at, o.event_id, o.error \
     FROM delayed_events d JOIN rooms r ON r.nid = d.room_nid \
     LEFT JOIN delayed_outcomes o ON o.nid = d.nid";

fn from_columns(row: Columns) -> Result<DelayedEvent> {
    let (event_id, error) = (row.11, row.12);
    Ok(DelayedEvent {
        nid: row.0,
        delay_id: row.1,
        user_nid: row.2,
        room_id: read(row.3)?,
        event_type: row.4,
        state_key: row.5,
        content: row.6,
        delay: row.7,
        started_at: row.8,
        superseded: row.9,
        outcome: row.10.map(|finalised_at| DelayedOutcome {
            finalised_at,
            event_id,
            error,
        }),
    })
}

impl Database {
    /// Schedules an event, unless the same transaction did or the user has too many.
    pub async fn schedule_event(
        &self,
        new: NewDelayedEvent<'_>,
        limits: DelayedEventLimits,
    ) -> Result<Scheduling> {
        let mut transaction = self.write().await?;
        if let Some(known) = of_transaction(&mut transaction, new).await? {
            return Ok(Scheduling::Repeated(known));
        }
        accounts::hold(&mut transaction, new.user_nid).await?;
        let (scheduled, first): (i64, Option<i64>) = statement(
            "SELECT COUNT(*), MIN(started_at + delay) FROM delayed_events \
             WHERE user_nid = $1 AND wake_at IS NOT NULL",
        )
        .bind(new.user_nid)
        .one_in(&mut transaction)
        .await?;
        if scheduled >= limits.scheduled {
            return Ok(Scheduling::TooMany(first.unwrap_or(new.now)));
        }
        let made = insert(&mut transaction, new).await?;
        if !made {
            // Another node served the same request at the same moment.
            let known = of_transaction(&mut transaction, new).await?;
            return Ok(known.map_or(Scheduling::Scheduled, Scheduling::Repeated));
        }
        forget_oldest(&mut transaction, new.user_nid, limits.finalised).await?;
        transaction.commit().await?;
        Ok(Scheduling::Scheduled)
    }

    /// The name of the event that a device has scheduled by a transaction.
    pub async fn event_scheduled_by(
        &self,
        device_nid: i64,
        transaction_id: &str,
        room_nid: i64,
        event_type: &str,
    ) -> Result<Option<String>> {
        let row: Option<(String,)> = statement(OF_TRANSACTION)
            .bind(device_nid)
            .bind(transaction_id)
            .bind(room_nid)
            .bind(event_type)
            .optional(self)
            .await?;
        Ok(row.map(|(delay_id,)| delay_id))
    }

    /// An event that is or was scheduled, by its name.
    pub async fn delayed_event(&self, delay_id: &str) -> Result<Option<DelayedEvent>> {
        let row: Option<Columns> = statement(format!("{SELECT} WHERE d.delay_id = $1"))
            .bind(delay_id)
            .optional(self)
            .await?;
        row.map(from_columns).transpose()
    }

    /// The scheduled events of a user, in the order in which they are due.
    pub async fn scheduled_events(&self, user_nid: i64) -> Result<Vec<DelayedEvent>> {
        let rows: Vec<Columns> = statement(format!(
            "{SELECT} WHERE d.user_nid = $1 AND d.wake_at IS NOT NULL \
             ORDER BY d.started_at + d.delay, d.nid"
        ))
        .bind(user_nid)
        .all(self)
        .await?;
        rows.into_iter().map(from_columns).collect()
    }

    /// When the next event is to be sent or looked after, of all users.
    pub async fn next_delayed_event(&self) -> Result<Option<i64>> {
        let (next,): (Option<i64>,) =
            statement("SELECT MIN(wake_at) FROM delayed_events WHERE wake_at IS NOT NULL")
                .one(self)
                .await?;
        Ok(next)
    }

    /// Takes up the events that are due, at most `limit`, in the order in which they are. No other node does until
    /// `until`; if there is no outcome by then, they are due again.
    pub async fn take_due_events(
        &self,
        now: i64,
        until: i64,
        limit: i64,
    ) -> Result<Vec<DelayedEvent>> {
        let mut transaction = self.write().await?;
        // The second comparison is made anew where another node has just taken the row up.
        let taken: Vec<(i64,)> = statement(
            "UPDATE delayed_events SET wake_at = $2 WHERE nid IN ( \
               SELECT nid FROM delayed_events WHERE wake_at <= $1 ORDER BY wake_at, nid LIMIT $3) \
             AND wake_at <= $1 RETURNING nid",
        )
        .bind(now)
        .bind(until)
        .bind(limit)
        .all_in(&mut transaction)
        .await?;
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<Columns> = statement(format!(
            "{SELECT} WHERE d.nid IN ({{ints $1}}) ORDER BY d.started_at + d.delay, d.nid"
        ))
        .bind(taken.into_iter().map(|(nid,)| nid).collect::<Vec<_>>())
        .all_in(&mut transaction)
        .await?;
        transaction.commit().await?;
        rows.into_iter().map(from_columns).collect()
    }

    /// Has events that were taken up be due again. To be called where no other node can be sending them.
    pub async fn give_back_due_events(&self) -> Result<()> {
        let mut transaction = self.write().await?;
        statement(
            "UPDATE delayed_events SET wake_at = started_at + delay WHERE wake_at > started_at + delay",
        )
        .run(&mut transaction)
        .await?;
        transaction.commit().await
    }

    /// Has an event that was taken up be due again at a time, unless it has an outcome.
    pub async fn put_off_delayed_event(&self, nid: i64, until: i64) -> Result<()> {
        let mut transaction = self.write().await?;
        statement("UPDATE delayed_events SET wake_at = $2 WHERE nid = $1 AND wake_at IS NOT NULL")
            .bind(nid)
            .bind(until)
            .run(&mut transaction)
            .await?;
        transaction.commit().await
    }

    /// Has the delay of a scheduled event begin anew; false if it isn't scheduled any more, or is being sent.
    pub async fn restart_delayed_event(&self, nid: i64, now: i64) -> Result<bool> {
        let mut transaction = self.write().await?;
        let changed = statement(
            "UPDATE delayed_events SET started_at = $2, wake_at = $2 + delay \
             WHERE nid = $1 AND wake_at <= started_at + delay",
        )
        .bind(nid)
        .bind(now)
        .run(&mut transaction)
        .await?;
        transaction.commit().await?;
        Ok(changed == 1)
    }

    /// Has a scheduled event not be sent, for a reason (JSON) or because somebody wants it so; false if it has an outcome
    /// already.
    pub async fn finalise_delayed_event(
        &self,
        nid: i64,
        now: i64,
        error: Option<&str>,
    ) -> Result<bool> {
        let mut transaction = self.write().await?;
        let made = statement(
            "INSERT INTO delayed_outcomes (nid, finalised_at, error) VALUES ($1, $2, $3) \
             ON CONFLICT DO NOTHING",
        )
        .bind(nid)
        .bind(now)
        .bind(error)
        .run(&mut transaction)
        .await?;
        sleep_for_ever(&mut transaction, nid).await?;
        transaction.commit().await?;
        Ok(made == 1)
    }

    /// Forgets the events that were finalised before a time.
    pub async fn forget_finalised_events(&self, before: i64) -> Result<()> {
        let mut transaction = self.write().await?;
        statement(
            "DELETE FROM delayed_events WHERE nid IN ( \
               SELECT nid FROM delayed_outcomes WHERE finalised_at < $1)",
        )
        .bind(before)
        .run(&mut transaction)
        .await?;
        statement("DELETE FROM delayed_outcomes WHERE finalised_at < $1")
            .bind(before)
            .run(&mut transaction)
            .await?;
        transaction.commit().await
    }
}

const OF_TRANSACTION: &str = "SELECT delay_id FROM delayed_events \
     WHERE device_nid = $1 AND transaction_id = $2 AND room_nid = $3 AND event_type = $4";

async fn of_transaction(
    transaction: &mut Transaction,
    new: NewDelayedEvent<'_>,
) -> Result<Option<String>> {
    let Some(transaction_id) = new.transaction_id else {
        return Ok(None);
    };
    let row: Option<(String,)> = statement(OF_TRANSACTION)
        .bind(new.device_nid)
        .bind(transaction_id)
        .bind(new.room_nid)
        .bind(new.event_type)
        .optional_in(transaction)
        .await?;
    Ok(row.map(|(delay_id,)| delay_id))
}

async fn insert(transaction: &mut Transaction, new: NewDelayedEvent<'_>) -> Result<bool> {
    let made = statement(
        "INSERT INTO delayed_events (delay_id, user_nid, device_nid, transaction_id, room_nid, event_type, \
         state_key, content, delay, started_at, position, wake_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
    )
    .bind(new.delay_id)
    .bind(new.user_nid)
    .bind(new.device_nid)
    .bind(new.transaction_id)
    .bind(new.room_nid)
    .bind(new.event_type)
    .bind(new.state_key)
    .bind(new.content)
    .bind(new.delay)
    .bind(new.now)
    .bind(new.position)
    .bind(new.now.saturating_add(new.delay))
    .run(transaction)
    .await?;
    Ok(made == 1)
}

/// Keeps no more finalised events of a user than that.
async fn forget_oldest(transaction: &mut Transaction, user_nid: i64, kept: i64) -> Result<()> {
    // More than there can be.
    const ALL: i64 = 1_000_000_000;
    statement(
        "DELETE FROM delayed_events WHERE nid IN ( \
           SELECT d.nid FROM delayed_events d JOIN delayed_outcomes o ON o.nid = d.nid \
           WHERE d.user_nid = $1 ORDER BY o.finalised_at DESC, d.nid DESC LIMIT $2 OFFSET $3)",
    )
    .bind(user_nid)
    .bind(ALL)
    .bind(kept)
    .run(transaction)
    .await?;
    Ok(())
}

/// Notes the event by which a scheduled one was sent. Fails as a duplicate if that has an outcome already.
pub(crate) async fn sent(
    transaction: &mut Transaction,
    nid: i64,
    event_id: &str,
    now: i64,
) -> Result<()> {
    statement("INSERT INTO delayed_outcomes (nid, finalised_at, event_id) VALUES ($1, $2, $3)")
        .bind(nid)
        .bind(now)
        .bind(event_id)
        .run(transaction)
        .await?;
    sleep_for_ever(transaction, nid).await
}

async fn sleep_for_ever(transaction: &mut Transaction, nid: i64) -> Result<()> {
    statement("UPDATE delayed_events SET wake_at = NULL WHERE nid = $1")
        .bind(nid)
        .run(transaction)
        .await?;
    Ok(())
}
