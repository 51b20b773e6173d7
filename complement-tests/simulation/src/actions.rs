//! What users do.

use std::sync::{Arc, Mutex, PoisonError};

use parley_engine::{
    EngineError,
    rooms::{
        Rooms,
        create::{Preset, RoomPlan},
        membership::MembershipDetails,
        send::Message,
        state::RoomState,
    },
    sessions::Session,
};
use rand::{RngExt, rngs::StdRng};
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId,
    events::room::member::MembershipState,
};
use serde_json::{Value, json, value::to_raw_value};
use tokio::task::AbortHandle;

use crate::{
    trace::Trace,
    world::{Failure, World},
};

/// The versions that rooms have.
const VERSIONS: [RoomVersionId; 5] = [
    RoomVersionId::V2,
    RoomVersionId::V6,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// An event that a server has said to have taken from its user.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    /// Which of the servers.
    pub(crate) server: usize,
    pub(crate) room_id: OwnedRoomId,
    pub(crate) event_id: OwnedEventId,
    /// When the user began.
    pub(crate) at: u64,
}

/// What users do, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    acknowledged: Mutex<Vec<Acknowledged>>,
    /// Which users of which server wait for an answer.
    under_way: Mutex<Vec<(usize, AbortHandle)>>,
}

impl Log {
    /// All events that were acknowledged.
    pub(crate) fn acknowledged(&self) -> Vec<Acknowledged> {
        lock(&self.acknowledged).clone()
    }

    /// A server is about to stop: those who wait for an answer get none.
    pub(crate) fn cut(&self, server: usize) {
        let under_way = lock(&self.under_way);
        let own = under_way.iter().filter(|(of, _)| *of == server);
        own.for_each(|(_, task)| task.abort());
    }

    /// How many users wait for an answer.
    pub(crate) fn under_way(&self) -> usize {
        let mut under_way = lock(&self.under_way);
        under_way.retain(|(_, task)| !task.is_finished());
        under_way.len()
    }
}

/// One thing that a user does.
#[derive(Clone, Debug)]
enum Action {
    Say(String),
    Set(&'static str, String, Value),
    Join(OwnedServerName),
    Leave,
    Invite(OwnedUserId),
    Kick(OwnedUserId),
    Ban(OwnedUserId),
    Unban(OwnedUserId),
    Redact(OwnedEventId),
}

/// Who does something where.
struct Scene {
    server: usize,
    rooms: Arc<Rooms>,
    session: Arc<Session>,
    room_id: OwnedRoomId,
}

/// Users, who do what they like.
#[derive(Debug)]
pub(crate) struct Users {
    pub(crate) log: Arc<Log>,
    trace: Arc<Trace>,
    chance: StdRng,
    count: u64,
}

impl Users {
    pub(crate) fn new(chance: StdRng, trace: &Arc<Trace>) -> Self {
        Self {
            log: Arc::default(),
            trace: Arc::clone(trace),
            chance,
            count: 0,
        }
    }

    /// Makes a room on one of the servers.
    pub(crate) async fn make_room(&mut self, world: &mut World) -> Result<(), Failure> {
        let server = &world.servers[self.chance.random_range(0..world.servers.len())];
        let version = VERSIONS[self.chance.random_range(0..VERSIONS.len())].clone();
        self.trace.note(format!("a room of version {version}"));
        // Some let everyone do almost everything, so that servers contradict each other often.
        let levels = match self.chance.random_bool(0.5) {
            true => json!({ "state_default": 0, "events": { "m.room.power_levels": 50 } }),
            false => {
                json!({ "state_default": 50, "users_default": self.chance.random_range(0..2) * 50 })
            }
        };
        let plan = RoomPlan {
            version: Some(version),
            preset: Preset::PublicChat,
            power_levels: serde_json::from_value(levels)?,
            ..RoomPlan::new()
        };
        let room_id = server
            .engine_rooms()
            .create(&server.users[0], &plan)
            .await?;
        world.rooms.push(room_id);
        Ok(())
    }

    /// Has the first user of each server but some join each room.
    pub(crate) async fn gather(&mut self, world: &World) -> Result<(), Failure> {
        for room_id in &world.rooms {
            for server in 0..world.servers.len() {
                if self.chance.random_bool(0.8) {
                    let via = self.via(world, room_id).await?;
                    let session = Arc::clone(&world.servers[server].users[0]);
                    self.begin(world, server, session, room_id, Action::Join(via), 0);
                }
            }
        }
        Ok(())
    }

    /// Has a user do something.
    pub(crate) async fn act(&mut self, world: &World, now: u64) -> Result<(), Failure> {
        let room_id = world.rooms[self.chance.random_range(0..world.rooms.len())].clone();
        let server = self.chance.random_range(0..world.servers.len());
        let users = &world.servers[server].users;
        let session = Arc::clone(&users[self.chance.random_range(0..users.len())]);
        let state = world.servers[server].state(&room_id).await?;
        let is_joined = |state: &Arc<RoomState>| state.is_joined(&session.user_id);
        let action = match state.filter(is_joined) {
            None => Action::Join(self.via(world, &room_id).await?),
            Some(state) => self.choose(&state, &session.user_id, world, &room_id),
        };
        self.begin(world, server, session, &room_id, action, now);
        Ok(())
    }

    /// Has somebody of each server that is in a room say something there.
    pub(crate) async fn speak(
        &mut self,
        world: &World,
        server: usize,
        now: u64,
    ) -> Result<(), Failure> {
        for room_id in &world.rooms {
            let Some(state) = world.servers[server].state(room_id).await? else {
                continue;
            };
            let users = &world.servers[server].users;
            let speaker = users.iter().find(|user| state.is_joined(&user.user_id));
            if let Some(session) = speaker.cloned() {
                let action = Action::Say(format!("last words of {}", session.user_id));
                self.begin(world, server, session, room_id, action, now);
            }
        }
        Ok(())
    }

    /// A server by which a room can be joined.
    async fn via(
        &mut self,
        world: &World,
        room_id: &OwnedRoomId,
    ) -> Result<OwnedServerName, Failure> {
        let mut inside = Vec::new();
        for server in &world.servers {
            if server.state(room_id).await?.is_some() {
                inside.push(server.name.clone());
            }
        }
        Ok(match inside.is_empty() {
            true => world.servers[0].name.clone(),
            false => inside.swap_remove(self.chance.random_range(0..inside.len())),
        })
    }

    fn choose(
        &mut self,
        state: &RoomState,
        user_id: &OwnedUserId,
        world: &World,
        room_id: &OwnedRoomId,
    ) -> Action {
        self.count += 1;
        let count = self.count;
        let everyone: Vec<OwnedUserId> = world
            .servers
            .iter()
            .flat_map(|server| server.users.iter().map(|user| user.user_id.clone()))
            .collect();
        let other = everyone[self.chance.random_range(0..everyone.len())].clone();
        match self.chance.random_range(0..100) {
            0..40 => Action::Say(format!("text {count}")),
            40..52 => {
                let (place, field) = [("m.room.topic", "topic"), ("m.room.name", "name")]
                    [self.chance.random_range(0..2)];
                Action::Set(
                    place,
                    String::new(),
                    json!({ field: format!("{field} {count}") }),
                )
            }
            52..60 => {
                let key = format!("key {}", self.chance.random_range(0..3));
                Action::Set("test.parley.state", key, json!({ "count": count }))
            }
            60..72 => self.change_power(state, &other),
            // Nobody changes join rules: who joined by the old ones on the other side of a fork is judged by the new ones,
            // put out, a whole server with them, and that server isn't told, as the algorithm would have it.
            72..80 => Action::Leave,
            80..84 => Action::Invite(other),
            84..92 => match state.membership(&other) {
                MembershipState::Ban => Action::Unban(other),
                MembershipState::Join if self.chance.random_bool(0.3) => Action::Kick(other),
                _ => Action::Ban(other),
            },
            92..96 => {
                let said = self.log.acknowledged();
                let said: Vec<_> = said
                    .iter()
                    .filter(|event| event.room_id == *room_id)
                    .collect();
                match said.is_empty() {
                    true => Action::Say(format!("text {count}")),
                    false => {
                        let target = said[self.chance.random_range(0..said.len())];
                        Action::Redact(target.event_id.clone())
                    }
                }
            }
            _ => Action::Join(user_id.server_name().to_owned()),
        }
    }

    /// Gives somebody another level.
    fn change_power(&mut self, state: &RoomState, other: &OwnedUserId) -> Action {
        let entry = state.get("m.room.power_levels", "");
        let content = entry.and_then(|entry| serde_json::from_str(entry.event.content.get()).ok());
        let mut content: Value = content.unwrap_or_else(|| json!({}));
        let level = [0, 25, 50, 100][self.chance.random_range(0..4)];
        content["users"][other.as_str()] = json!(level);
        Action::Set("m.room.power_levels", String::new(), content)
    }

    fn begin(
        &mut self,
        world: &World,
        server: usize,
        session: Arc<Session>,
        room_id: &OwnedRoomId,
        action: Action,
        now: u64,
    ) {
        self.count += 1;
        let what = format!("{} {action:?} {}", session.user_id, self.count);
        self.trace.note(format!("{what} begins"));
        let scene = Scene {
            server,
            rooms: Arc::clone(world.servers[server].engine_rooms()),
            session,
            room_id: room_id.clone(),
        };
        let (log, trace) = (Arc::clone(&self.log), Arc::clone(&self.trace));
        let transaction = format!("txn{}", self.count);
        let under_way = Arc::clone(&log);
        let task = tokio::spawn(async move {
            let done = scene.perform(action, &transaction).await;
            match done {
                Ok(event_id) => {
                    let said = event_id.as_ref().map_or("", |id| id.as_str());
                    trace.note(format!("{what}: done {said}"));
                    lock(&log.acknowledged).extend(event_id.map(|event_id| Acknowledged {
                        server: scene.server,
                        room_id: scene.room_id.clone(),
                        event_id,
                        at: now,
                    }));
                }
                Err(error) => trace.note(format!("{what}: {error}")),
            }
        });
        lock(&under_way.under_way).push((server, task.abort_handle()));
    }
}

impl Scene {
    async fn perform(
        &self,
        action: Action,
        transaction: &str,
    ) -> Result<Option<OwnedEventId>, EngineError> {
        let (rooms, session, room_id) = (&self.rooms, &self.session, &self.room_id);
        let details = MembershipDetails::default();
        match action {
            Action::Say(text) => {
                let content = json!({ "msgtype": "m.text", "body": text });
                let content = raw(&content)?;
                let message = Message::new("m.room.message", &content, transaction);
                return rooms.send(session, room_id, message).await.map(Some);
            }
            Action::Set(event_type, state_key, content) => {
                let content = raw(&content)?;
                let event_type = event_type.into();
                let set = rooms.set_state(session, room_id, &event_type, &state_key, &content);
                return set.await.map(Some);
            }
            Action::Redact(target) => {
                let redact = rooms.redact(session, room_id, &target, transaction, None);
                return redact.await.map(Some);
            }
            Action::Join(via) => rooms
                .join(session, room_id, &[via], &details)
                .await
                .map(drop)?,
            Action::Leave => rooms.leave(session, room_id, None).await?,
            Action::Invite(user_id) => rooms.invite(session, room_id, &user_id, &details).await?,
            Action::Kick(user_id) => rooms.kick(session, room_id, &user_id, None).await?,
            Action::Ban(user_id) => rooms.ban(session, room_id, &user_id, None).await?,
            Action::Unban(user_id) => rooms.unban(session, room_id, &user_id, None).await?,
        }
        Ok(None)
    }
}

fn raw(content: &Value) -> Result<Box<serde_json::value::RawValue>, EngineError> {
    to_raw_value(content).map_err(|error| EngineError::Internal(error.to_string()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
