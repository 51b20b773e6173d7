//! Delayed events: what a client has sent later, unless it says otherwise in time.
//!
//! They are stored, so that they are sent whatever happens to client and server meanwhile. An event and the note that it
//! was the delayed one are committed together: it is sent once, and not after it was cancelled, also where several nodes
//! see that it is due. When somebody else sets a place of the state that a delayed event would set, that is cancelled.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>

mod scheduler;

use std::{sync::Arc, time::Duration};

use parley_storage::{
    Database, accounts,
    delayed_events::{DelayedEventLimits, DelayedOutcome, NewDelayedEvent, Scheduling},
};
use ruma::{
    OwnedEventId, RoomId, UserId,
    api::error::{ErrorKind, StandardErrorBody},
};
use serde_json::value::RawValue;
use tokio::sync::Notify;

pub use parley_storage::delayed_events::DelayedEvent;

use crate::{
    EngineError, Result,
    background::Background,
    clock::Clock,
    limits::{Action, Limits},
    random::Random,
    rooms::{
        Rooms,
        send::{Message, StateSetting},
    },
    sessions::Session,
    settings::DelayedEventSettings,
    stream::Stream,
};

/// Characters of a delayed event's name: whoever knows it may manage the event, so it can't be guessed.
const ID_LENGTH: usize = 43;
/// The most bytes of an event's content as it is scheduled: no event may have more.
const MAX_CONTENT: usize = 65_536;
/// The most bytes of a type or state key, as for all events.
const MAX_FIELD: usize = 255;
/// Finalised events of a user that are kept.
const KEPT: i64 = 1_000;
/// How long they are kept, in milliseconds.
const KEPT_FOR: i64 = 7 * 24 * 60 * 60 * 1_000;
/// What the transactions begin with by which delayed events are sent.
const TRANSACTION: &str = "delay/";

/// An event that is to be sent later, as its client wants it.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Its type.
    pub event_type: &'a str,
    /// Its state key, if it is a state event.
    pub state_key: Option<&'a str>,
    /// Its content. It may be missing where a transaction is repeated.
    pub content: Option<&'a RawValue>,
    /// After how many milliseconds.
    pub delay: i64,
    /// The client's transaction id, if it gives one.
    pub transaction_id: Option<&'a str>,
}

/// What is done with a scheduled event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Management {
    /// Send it now.
    Send,
    /// Never send it.
    Cancel,
    /// Have its delay begin anew.
    Restart,
}

/// The delayed events of all users.
#[derive(Clone, Debug)]
pub struct DelayedEvents {
    parts: Arc<Parts>,
}

/// What they work with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) database: Database,
    pub(crate) stream: Arc<Stream>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) limits: Limits,
    pub(crate) settings: DelayedEventSettings,
    /// Told when what is due first may have changed.
    pub(crate) changed: Notify,
}

impl DelayedEvents {
    pub(crate) async fn start(parts: Parts, background: &Background) -> Result<Self> {
        let events = Self {
            parts: Arc::new(parts),
        };
        scheduler::start(&events, background).await?;
        Ok(events)
    }

    /// Schedules an event; the name by which it can be managed.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user isn't in the room, the delay is too long, or nobody schedules events here;
    /// `M_LIMIT_EXCEEDED` if they have too many scheduled; `M_INVALID_PARAM`, `M_NOT_JSON`, `M_BAD_JSON` and `M_TOO_LARGE`
    /// for what can't be an event.
    pub async fn schedule(
        &self,
        session: &Session,
        room_id: &RoomId,
        wish: Wish<'_>,
    ) -> Result<String> {
        let parts = &self.parts;
        let (room, _) = parts.rooms.joined_room(session, room_id).await?;
        if let Some(transaction_id) = wish.transaction_id.filter(|id| !id.contains('\0')) {
            let known = parts.database.event_scheduled_by(
                session.device_nid,
                transaction_id,
                room.nid(),
                wish.event_type,
            );
            if let Some(delay_id) = known.await? {
                return Ok(delay_id);
            }
        }
        let content = self.check(wish)?;
        let delay_id = parts.random.alphanumeric(ID_LENGTH);
        let new = NewDelayedEvent {
            delay_id: &delay_id,
            user_nid: session.user_nid,
            device_nid: session.device_nid,
            transaction_id: wish.transaction_id,
            room_nid: room.nid(),
            event_type: wish.event_type,
            state_key: wish.state_key,
            content: content.get(),
            delay: wish.delay,
            now: parts.clock.now_ms(),
            position: parts.stream.position(),
        };
        match self.store(session.user_nid, new).await? {
            Scheduling::Scheduled => Ok(delay_id),
            Scheduling::Repeated(known) => Ok(known),
            Scheduling::TooMany(first) => {
                let wait = u64::try_from(first.saturating_sub(new.now)).unwrap_or_default();
                Err(EngineError::limit_exceeded(Duration::from_millis(wait)))
            }
        }
    }

    async fn store(&self, user_nid: i64, new: NewDelayedEvent<'_>) -> Result<Scheduling> {
        let limits = DelayedEventLimits {
            scheduled: self.parts.settings.max_scheduled.into(),
            finalised: KEPT,
        };
        let mut made = self.parts.database.schedule_event(new, limits).await?;
        if matches!(made, Scheduling::TooMany(_)) {
            // Those that others have made pointless don't count.
            self.scheduled(user_nid).await?;
            made = self.parts.database.schedule_event(new, limits).await?;
        }
        self.parts.changed.notify_one();
        Ok(made)
    }

    fn check<'a>(&self, wish: Wish<'a>) -> Result<&'a RawValue> {
        let settings = &self.parts.settings;
        if settings.max_scheduled == 0 {
            return Err(EngineError::forbidden(
                "this server doesn't send events later",
            ));
        }
        if wish.delay <= 0 {
            return Err(EngineError::invalid_param(
                "a delay is a number of milliseconds, more than 0",
            ));
        }
        let longest = i64::try_from(settings.max_delay.as_millis()).unwrap_or(i64::MAX);
        if wish.delay > longest {
            return Err(EngineError::forbidden(format!(
                "a delay of {} ms is longer than this server allows, {longest} ms",
                wish.delay
            )));
        }
        let texts = [
            Some(wish.event_type),
            wish.state_key,
            wish.transaction_id,
            wish.content.map(RawValue::get),
        ];
        if texts.into_iter().flatten().any(|text| text.contains('\0')) {
            return Err(EngineError::invalid_param(
                "an event holds no null character",
            ));
        }
        let lengths = [wish.event_type, wish.state_key.unwrap_or_default()];
        if lengths.iter().any(|text| text.len() > MAX_FIELD) {
            return Err(EngineError::too_large(format!(
                "type and state key have at most {MAX_FIELD} bytes"
            )));
        }
        let content = wish
            .content
            .ok_or_else(|| EngineError::bad_json("the content of the event is required"))?;
        if content.get().len() > MAX_CONTENT {
            return Err(EngineError::too_large(format!(
                "the content of an event has at most {MAX_CONTENT} bytes"
            )));
        }
        parley_protocol::content::parse(content)
            .map_err(|error| EngineError::bad_json(error.to_string()))?;
        Ok(content)
    }

    /// The events that a user has scheduled, in the order in which they are due.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn scheduled(&self, user_nid: i64) -> Result<Vec<DelayedEvent>> {
        let mut events = self.parts.database.scheduled_events(user_nid).await?;
        for event in events.iter().filter(|event| event.superseded) {
            self.finalise(event, None).await?;
        }
        events.retain(|event| !event.superseded);
        Ok(events)
    }

    /// One that a user has or had scheduled.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if they haven't, or it was too long ago.
    pub async fn get(&self, session: &Session, delay_id: &str) -> Result<DelayedEvent> {
        let event = self.find(delay_id).await?;
        if event.user_nid != session.user_nid {
            return Err(unknown());
        }
        Ok(event)
    }

    /// Does something with a scheduled event; whoever knows its name may. Doing what is done already is no error.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such event; [`EngineError::Conflict`] if it was finalised otherwise; where it is to be
    /// sent and can't be, why: then it stays scheduled.
    pub async fn manage(&self, delay_id: &str, management: Management) -> Result<()> {
        let event = self.find(delay_id).await?;
        if let Some(outcome) = &event.outcome {
            return agree(outcome, management);
        }
        let done = match management {
            Management::Send => {
                self.send(&event).await?;
                true
            }
            Management::Cancel => self.finalise(&event, None).await?,
            Management::Restart => {
                let now = self.parts.clock.now_ms();
                self.parts
                    .database
                    .restart_delayed_event(event.nid, now)
                    .await?
            }
        };
        self.parts.changed.notify_one();
        if done {
            return Ok(());
        }
        // Something else was done with it at the same moment.
        match self.find(delay_id).await?.outcome {
            Some(outcome) => agree(&outcome, management),
            None => Err(EngineError::Conflict("the event is being sent")),
        }
    }

    /// An event by its name. If somebody else has made it pointless, it is cancelled by now.
    async fn find(&self, delay_id: &str) -> Result<DelayedEvent> {
        if delay_id.contains('\0') {
            return Err(unknown());
        }
        let read = async || {
            let found = self.parts.database.delayed_event(delay_id).await?;
            found.ok_or_else(unknown)
        };
        let event = read().await?;
        if event.superseded && event.outcome.is_none() {
            self.finalise(&event, None).await?;
            return read().await;
        }
        Ok(event)
    }

    /// Sends an event now, unless it has an outcome already.
    async fn send(&self, event: &DelayedEvent) -> Result<()> {
        match self.try_send(event).await {
            // Another node sent it, or somebody cancelled it, at the same moment.
            Ok(_) | Err(EngineError::Duplicate) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn try_send(&self, event: &DelayedEvent) -> Result<OwnedEventId> {
        let parts = &self.parts;
        let user_id = parts.database.user_id(event.user_nid).await?;
        let session = self.session_of(event.user_nid, &user_id).await?;
        parts.limits.check(Action::Message, event.user_nid)?;
        let content = RawValue::from_string(event.content.clone())
            .map_err(|error| EngineError::Internal(format!("a delayed event: {error}")))?;
        let transaction_id = format!("{TRANSACTION}{}", event.delay_id);
        match &event.state_key {
            Some(state_key) => {
                let event_type = event.event_type.as_str().into();
                let setting = StateSetting {
                    delayed: Some((event.nid, &transaction_id)),
                    ..StateSetting::new(&event_type, state_key, &content)
                };
                let rooms = &parts.rooms;
                rooms
                    .set_state_place(&session, &event.room_id, setting)
                    .await
            }
            None => {
                let message = Message {
                    delayed: Some(event.nid),
                    ..Message::new(&event.event_type, &content, &transaction_id)
                };
                parts.rooms.send(&session, &event.room_id, message).await
            }
        }
    }

    async fn session_of(&self, user_nid: i64, user_id: &UserId) -> Result<Session> {
        let account = accounts::get(&self.parts.database, user_nid).await?;
        let account = account.ok_or_else(|| EngineError::not_found("there is no such account"))?;
        Session::of_absent(user_id, &account)
    }

    /// Has an event never be sent, for a reason or because somebody wants it so; false if it has an outcome already.
    async fn finalise(&self, event: &DelayedEvent, error: Option<&EngineError>) -> Result<bool> {
        let body = match error {
            Some(EngineError::Refused { kind, message }) => {
                Some(StandardErrorBody::new(kind.clone(), message.to_string()))
            }
            Some(error @ EngineError::OtherServer(_)) => Some(StandardErrorBody::new(
                ErrorKind::Unknown,
                error.to_string(),
            )),
            _ => None,
        };
        let error = body
            .map(|body| serde_json::to_string(&body))
            .transpose()
            .map_err(|error| EngineError::Internal(error.to_string()))?;
        let now = self.parts.clock.now_ms();
        let finalised = self
            .parts
            .database
            .finalise_delayed_event(event.nid, now, error.as_deref())
            .await?;
        Ok(finalised)
    }
}

/// The name of the delayed event that an event was, by what is known of its origin.
pub fn delay_id_of(origin: &(i64, Box<str>)) -> Option<&str> {
    let (device_nid, transaction_id) = origin;
    // The server sends them, and so without a device.
    let by_server = *device_nid < 0;
    by_server.then(|| transaction_id.strip_prefix(TRANSACTION))?
}

/// Whether an outcome is what was wanted.
fn agree(outcome: &DelayedOutcome, management: Management) -> Result<()> {
    let sent = outcome.event_id.is_some();
    match management {
        Management::Send if sent => Ok(()),
        Management::Cancel if !sent => Ok(()),
        _ if sent => Err(EngineError::Conflict("the event was sent already")),
        _ => Err(EngineError::Conflict("the event was cancelled already")),
    }
}

fn unknown() -> EngineError {
    EngineError::not_found("there is no such delayed event")
}
