//! Sending delayed events when they are due.

use std::time::Duration;

use parley_storage::Engine as DatabaseEngine;
use tokio_util::sync::CancellationToken;

use super::{DelayedEvent, DelayedEvents, KEPT_FOR};
use crate::{EngineError, Result, background::Background};

/// How long a node has to send what it took up, before another does, in milliseconds.
const PATIENCE: i64 = 30_000;
/// How long it's waited at least before what a limit held back is tried again.
const LEAST_WAIT: Duration = Duration::from_millis(100);
/// Events that are taken up at once.
const BATCH: i64 = 100;
/// How often it is looked for what another node scheduled that is gone, and for what to do where the database failed.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often old outcomes are removed.
const CLEAN_EVERY: Duration = Duration::from_secs(60 * 60);

/// Starts the task that sends. What a process before this one took up and didn't send is due again, where this is the only
/// process.
pub(super) async fn start(events: &DelayedEvents, background: &Background) -> Result<()> {
    let database = &events.parts.database;
    if database.engine() == DatabaseEngine::Sqlite {
        database.give_back_due_events().await?;
    }
    let scheduler = Scheduler {
        events: events.clone(),
        look_every: match database.engine() {
            DatabaseEngine::Sqlite => CLEAN_EVERY,
            DatabaseEngine::Postgres => LOOK_EVERY,
        },
    };
    background.spawn(scheduler.clone().run(background.stopping().clone()));
    background.every(CLEAN_EVERY, move || {
        let scheduler = scheduler.clone();
        async move { scheduler.clean().await }
    });
    Ok(())
}

#[derive(Clone)]
struct Scheduler {
    events: DelayedEvents,
    look_every: Duration,
}

impl Scheduler {
    async fn run(self, stopping: CancellationToken) {
        loop {
            let wait = match self.send_due(&stopping).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(%error, "delayed events can't be sent");
                    LOOK_EVERY
                }
            };
            tokio::select! {
                () = stopping.cancelled() => return,
                () = self.events.parts.changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Sends what is due; the time until more is.
    async fn send_due(&self, stopping: &CancellationToken) -> Result<Duration> {
        let parts = &self.events.parts;
        loop {
            let now = parts.clock.now_ms();
            let next = parts.database.next_delayed_event().await?;
            let Some(next) = next.filter(|next| *next <= now) else {
                let wait = next.and_then(|next| u64::try_from(next - now).ok());
                let wait = wait.map_or(self.look_every, Duration::from_millis);
                return Ok(wait.min(self.look_every));
            };
            tracing::debug!(late = now - next, "delayed events are due");
            let until = now.saturating_add(PATIENCE);
            for event in parts.database.take_due_events(now, until, BATCH).await? {
                if stopping.is_cancelled() {
                    return Ok(Duration::ZERO);
                }
                if let Err(error) = self.send(&event).await {
                    // It is due again when the patience with this node is over.
                    tracing::error!(%error, "a delayed event can't be sent");
                }
            }
        }
    }

    async fn send(&self, event: &DelayedEvent) -> Result<()> {
        if event.superseded {
            return self.events.finalise(event, None).await.map(|_| ());
        }
        match self.events.send(event).await {
            Err(error) if let Some(wait) = error.retry_after() => self.put_off(event, wait).await,
            Err(error @ (EngineError::Refused { .. } | EngineError::OtherServer(_))) => {
                tracing::info!(%error, room = %event.room_id, "a delayed event is refused");
                self.events.finalise(event, Some(&error)).await.map(|_| ())
            }
            sent => sent,
        }
    }

    /// Has an event be due again when a limit lets it through: it says that somebody has left a call, perhaps, while others write
    /// as much as the room takes.
    async fn put_off(&self, event: &DelayedEvent, wait: Duration) -> Result<()> {
        let parts = &self.events.parts;
        let wait = i64::try_from(wait.max(LEAST_WAIT).as_millis()).unwrap_or(PATIENCE);
        let until = parts.clock.now_ms().saturating_add(wait);
        Ok(parts
            .database
            .put_off_delayed_event(event.nid, until)
            .await?)
    }

    async fn clean(&self) {
        let parts = &self.events.parts;
        let before = parts.clock.now_ms().saturating_sub(KEPT_FOR);
        if let Err(error) = parts.database.forget_finalised_events(before).await {
            tracing::warn!(%error, "old outcomes of delayed events can't be removed");
        }
    }
}
