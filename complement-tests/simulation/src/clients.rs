//! A client of each user, which asks for what is new, and keeps the state of its rooms by what it is told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parley_engine::{
    rooms::timeline::TimelineEvent, sessions::Session, stream::token::Token, sync::SyncRequest,
};
use ruma::{OwnedEventId, OwnedRoomId};
use tokio_util::sync::CancellationToken;

use crate::{
    judge::is_put_out,
    world::{Failure, Server, StateIds, World, ids},
};

/// A client.
#[derive(Debug)]
struct Client {
    server: usize,
    session: Arc<Session>,
    since: Option<Token>,
    rooms: BTreeMap<OwnedRoomId, StateIds>,
}

/// All clients.
#[derive(Debug, Default)]
pub(crate) struct Clients(Vec<Client>);

impl Clients {
    /// A client for each user.
    pub(crate) fn of(world: &World) -> Self {
        let clients = world
            .servers
            .iter()
            .enumerate()
            .flat_map(|(index, server)| {
                server.users.iter().map(move |user| Client {
                    server: index,
                    session: Arc::clone(user),
                    since: None,
                    rooms: BTreeMap::new(),
                })
            });
        Self(clients.collect())
    }

    /// Has the clients of every second user ask what is new; all, with `all`.
    pub(crate) async fn ask(&mut self, world: &World, all: bool) -> Result<(), Failure> {
        for (index, client) in self.0.iter_mut().enumerate() {
            if all || index % 2 == 0 {
                client.ask(&world.servers[client.server]).await?;
            }
        }
        Ok(())
    }

    /// What clients know otherwise than their servers, a line each.
    pub(crate) async fn judge(&self, world: &World) -> Result<Vec<String>, Failure> {
        let mut wrong = Vec::new();
        for client in &self.0 {
            let server = &world.servers[client.server];
            for room_id in &world.rooms {
                let Some(state) = server.state(room_id).await? else {
                    continue;
                };
                let user_id = &client.session.user_id;
                if !state.is_joined(user_id) {
                    continue;
                }
                // Where members are still missing then, nobody tells them any more, and the room stays hidden.
                if is_put_out(world, room_id, client.server).await? {
                    continue;
                }
                let empty = StateIds::new();
                let known = client.rooms.get(room_id).unwrap_or(&empty);
                for (place, event_id) in ids(&state) {
                    // Of a place that is empty again, no client is ever told.
                    if known.get(&place) != Some(&event_id) {
                        let (event_type, state_key) = &place;
                        let knows = known.get(&place).map_or("nothing", |id| id.as_str());
                        wrong.push(format!(
                            "{room_id}: the client of {user_id} knows {event_type} {state_key:?} as {knows}, not {event_id}"
                        ));
                    }
                }
            }
        }
        Ok(wrong)
    }
}

impl Client {
    async fn ask(&mut self, server: &Server) -> Result<(), Failure> {
        let mut request = SyncRequest {
            since: self.since,
            filter: Arc::default(),
            full_state: false,
            use_state_after: true,
            timeout: Duration::ZERO,
        };
        let stopping = CancellationToken::new();
        let sync = server.engine().sync();
        // A restart gives the server's tokens another instance, which it knows how to read.
        let text = self.since.map(|since| since.to_string());
        request.since = sync.token(text.as_deref()).await?;
        let answer = sync.wait(&self.session, &request, &stopping).await?;
        for room in answer.rooms.joined {
            let known = self.rooms.entry(room.room.id().to_owned()).or_default();
            for event in &room.state {
                known.extend(place(event));
            }
        }
        for room in answer.rooms.left {
            self.rooms.remove(room.room.id());
        }
        self.since = Some(answer.next);
        Ok(())
    }
}

fn place(event: &TimelineEvent) -> Option<((String, String), OwnedEventId)> {
    let state_key = event.state_key.as_deref()?;
    let place = (event.event_type.to_string(), state_key.to_owned());
    Some((place, event.event_id.clone()))
}
