//! Rooms that have a policy server: nothing is said in them that it didn't sign, as far as this server can help it.
//!
//! What this server's users send is signed before anybody sees it, or refused. What comes from other servers without that
//! signature is shown to the policy server; if it doesn't sign it, or isn't reached, the event fails softly.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>

use std::{collections::HashMap, sync::Arc, time::Duration};

use parley_protocol::{
    BuiltEvent, EventDraft, Incoming, StateEvent, auth,
    policy::{EVENT_TYPE, PolicyServer, is_looked_at},
};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, RoomId, UserId,
    events::TimelineEventType,
};

use super::{
    Rooms,
    federation::join::{is_join, raw},
    room::Room,
    state::RoomState,
};
use crate::{EngineError, Result, remote::RemoteError};

/// How often an event is shown anew because the room has moved on meanwhile.
const MAX_ASKED: usize = 10;
/// How long is waited for the others who write to the room, and show what they write.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Events that are being built, with the policy server's signature as soon as there is one.
#[derive(Debug)]
pub(super) struct Vouched {
    /// When building began: an event that is built again is the same only if its time is.
    began: MilliSecondsSinceUnixEpoch,
    signed: HashMap<OwnedEventId, String>,
    asked: usize,
}

/// An event that the policy server has to sign.
#[derive(Debug)]
pub(super) struct Unsigned {
    server: PolicyServer,
    event_id: OwnedEventId,
    json: String,
}

impl Vouched {
    pub(super) fn new(began: MilliSecondsSinceUnixEpoch) -> Self {
        Self {
            began,
            signed: HashMap::new(),
            asked: 0,
        }
    }

    /// Has an event be the same whenever it is built.
    pub(super) fn fix(&self, draft: &mut EventDraft) {
        draft.origin_server_ts = draft.origin_server_ts.min(self.began);
    }

    /// Puts the signature on an event. Gives what is to be signed if there is none yet.
    pub(super) fn sign(&self, built: &mut BuiltEvent, server: PolicyServer) -> Option<Unsigned> {
        if let Some(json) = self.signed.get(&built.pdu.event_id) {
            built.json.clone_from(json);
            return None;
        }
        Some(Unsigned {
            server,
            event_id: built.pdu.event_id.clone(),
            json: built.json.clone(),
        })
    }
}

/// Who has a say in an event that is sent with a state of the room: the policy server that it names, if that has a user in it.
pub(super) fn looks_at(
    room: &Room,
    state: &RoomState,
    event_type: &TimelineEventType,
    state_key: Option<&str>,
) -> Option<PolicyServer> {
    let entry = state.get(EVENT_TYPE, "")?;
    let server = PolicyServer::of_event(&entry.event)?;
    let is_there = room.has_server(state, server.name());
    (is_there && is_looked_at(&event_type.to_string(), state_key)).then_some(server)
}

impl Rooms {
    /// Shows events to the policy server, and keeps what it signed.
    ///
    /// # Errors
    /// What the policy server said if it refuses one; `M_UNKNOWN` if it isn't reached, `M_LIMIT_EXCEEDED` if the room is
    /// faster than it.
    pub(super) async fn have_signed(
        &self,
        room: &Room,
        events: Vec<Unsigned>,
        vouched: &mut Vouched,
    ) -> Result<()> {
        vouched.asked += 1;
        if vouched.asked > MAX_ASKED {
            return Err(EngineError::limit_exceeded(Duration::from_secs(1)));
        }
        for event in events {
            let signed = self.ask(room, &event.server, &event.json, true).await?;
            vouched.signed.insert(event.event_id, signed);
        }
        Ok(())
    }

    /// Waits for those who write to the room and show what they write: one after the other, since what one writes makes
    /// the others' events others.
    pub(super) async fn turn_to_ask(
        &self,
        room: &Arc<Room>,
    ) -> Result<tokio::sync::OwnedMutexGuard<()>> {
        let turn = Arc::clone(&room.asking).lock_owned();
        let turn = tokio::time::timeout(MAX_WAIT, turn).await;
        turn.map_err(|_| EngineError::limit_exceeded(Duration::from_secs(5)))
    }

    /// An event of this server with what the policy server signed, where the room has one.
    pub(super) async fn vouched_for(
        &self,
        room: &Room,
        mut built: BuiltEvent,
    ) -> Result<BuiltEvent> {
        let state = self.registry.load(room).await?;
        let fields = &built.pdu.fields;
        let state_key = fields.state_key.as_deref();
        let server = looks_at(room, &state, &fields.event_type, state_key);
        if let Some(server) = server {
            built.json = self.ask(room, &server, &built.json, true).await?;
        }
        Ok(built)
    }

    /// The same for one that another server is given to tell the room: of a room that this server isn't in, it doesn't know
    /// whether there is a policy server, and the other asks.
    pub(super) async fn vouched_for_if_here(
        &self,
        room_id: &RoomId,
        built: BuiltEvent,
    ) -> Result<BuiltEvent> {
        match self.registry.get(room_id).await? {
            Some(room) if self.is_here(&room).await? => self.vouched_for(&room, built).await,
            _ => Ok(built),
        }
    }

    /// A join of this server's user as another server has taken it, with what the policy server of the room signed, which the
    /// other may not have asked. The state is what the other gave; `others` are servers that it says are in the room, if it leaves
    /// out who is.
    ///
    /// # Errors
    /// What the policy server said if it refuses the join; `M_UNKNOWN` if it isn't reached.
    pub(super) async fn vouched_on_entry(
        &self,
        room: &Room,
        mut join: Incoming,
        state: &[(Arc<StateEvent>, i64)],
        others: Option<&[OwnedServerName]>,
    ) -> Result<Incoming> {
        let mut events = state.iter().map(|(event, _)| event);
        let named = events
            .clone()
            .find(|event| event.event_type == EVENT_TYPE.into() && event.state_key.is_empty());
        let Some(server) = named.and_then(|event| PolicyServer::of_event(event)) else {
            return Ok(join);
        };
        let is_of_server = |event: &Arc<StateEvent>| {
            let user_id = <&UserId>::try_from(event.state_key.as_ref());
            is_join(event) && user_id.is_ok_and(|user_id| user_id.server_name() == server.name())
        };
        let is_told =
            others.is_some_and(|others| others.iter().any(|other| other == server.name()));
        let is_there = is_told || events.any(is_of_server);
        if is_there && !server.has_signed(&join.json, room.version()) {
            join.json = self.ask(room, &server, &join.json, true).await?;
        }
        Ok(join)
    }

    /// An event of another server with what the room's policy server signed, or why it isn't to be shown.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn judged_by_policy(
        &self,
        room: &Room,
        incoming: &mut Incoming,
    ) -> Result<Option<String>> {
        let state = self.registry.load(room).await?;
        let fields = &incoming.pdu.fields;
        let state_key = fields.state_key.as_deref();
        let server = looks_at(room, &state, &fields.event_type, state_key);
        let Some(server) = server else {
            return Ok(None);
        };
        if server.has_signed(&incoming.json, room.version()) {
            return Ok(None);
        }
        let allowed = auth::check(&incoming.pdu, room.version(), |event_type, state_key| {
            state.event(event_type, state_key)
        });
        if allowed.is_err() {
            // It won't be shown anyway.
            return Ok(None);
        }
        match self.ask(room, &server, &incoming.json, false).await {
            Ok(signed) => {
                incoming.json = signed;
                Ok(None)
            }
            Err(error) => Ok(Some(format!("the policy server: {error}"))),
        }
    }

    /// Asks a policy server to sign an event; gives the event with its signature. With `insist`, although it failed
    /// lately.
    async fn ask(
        &self,
        room: &Room,
        server: &PolicyServer,
        json: &str,
        insist: bool,
    ) -> Result<String> {
        let remote = self.outside.remote()?;
        let answer = remote
            .sign_by_policy(server.name(), raw(json)?, insist)
            .await;
        let outcome = match &answer {
            Ok(_) => "signed",
            Err(RemoteError::Refused { .. }) => "refused",
            Err(_) => "unreachable",
        };
        metrics::counter!("parley_policy_checks_total", "outcome" => outcome).increment(1);
        let name = server.name();
        match answer {
            Ok(signature) => server
                .signed(json, &signature, room.version())
                .ok_or_else(|| {
                    EngineError::unknown(format!(
                        "{name}, the room's policy server, signs with another key than the room names"
                    ))
                }),
            // Its words are for the user.
            Err(error @ RemoteError::Refused { .. }) => Err(error.into()),
            Err(error) => Err(EngineError::unknown(format!(
                "{name}, the room's policy server, can't be asked: {error}"
            ))),
        }
    }
}
