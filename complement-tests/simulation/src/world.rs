//! The servers, their users and the rooms.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use parley_engine::{
    Engine, EngineSettings,
    accounts::NewUser,
    clock::ManualClock,
    random::SeededRandom,
    rooms::{Rooms, state::RoomState},
    sessions::Session,
};
use parley_federation::{Federation, FederationSettings, router};
use parley_storage::{Database, DatabaseSettings, Turns};
use rand::RngExt;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId};

use crate::{
    chance::{generator, mixed},
    network::Network,
    time::Time,
};

/// How much time passes while a server stops, once or, where it waits for an answer, several times, and how much of it at
/// once, in milliseconds. It's much, as how long connections to a database take to close is the machine's to say.
const STOP: u64 = 10_000;
const STOP_TICK: u64 = 100;
/// Users of each server.
const USERS: usize = 2;
const NAMES: [&str; 5] = ["a.test", "b.test", "c.test", "d.test", "e.test"];
/// The most servers of a world.
pub(crate) const MAX_SERVERS: usize = NAMES.len();

/// A place of a state: type and state key.
pub(crate) type StatePlace = (String, String);
/// A state by the ids of its events.
pub(crate) type StateIds = BTreeMap<StatePlace, OwnedEventId>;

/// Why the simulation itself can't go on.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One homeserver.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: OwnedServerName,
    pub(crate) users: Vec<Arc<Session>>,
    folder: PathBuf,
    clock: Arc<ManualClock>,
    seed: u64,
    starts: u64,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    engine: Engine,
    federation: Federation,
    database: Database,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) servers: Vec<Server>,
    pub(crate) rooms: Vec<OwnedRoomId>,
    pub(crate) network: Arc<Network>,
    _folder: tempfile::TempDir,
}

impl World {
    /// Starts servers with their users.
    pub(crate) async fn start(
        seed: u64,
        servers: usize,
        network: &Arc<Network>,
        time: &mut Time,
    ) -> Result<Self, Failure> {
        let folder = folder()?;
        let mut world = Self {
            servers: Vec::new(),
            rooms: Vec::new(),
            network: Arc::clone(network),
            _folder: folder,
        };
        for name in NAMES.iter().take(servers) {
            let seed = mixed(seed, name.as_bytes());
            let ahead = i64::try_from(seed % 3_000)?;
            let folder = world._folder.path().join(name);
            world.servers.push(Server {
                name: OwnedServerName::try_from(*name)?,
                users: Vec::new(),
                folder,
                clock: time.clock(ahead),
                seed,
                starts: 0,
                running: None,
            });
        }
        for server in &mut world.servers {
            server.start(network).await?;
            for count in 0..USERS {
                let account = server
                    .engine()
                    .accounts()
                    .create(NewUser {
                        username: Some(format!("u{count}")),
                        ..NewUser::default()
                    })
                    .await?;
                let session = Session::of_server(account.user_nid, &account.user_id);
                server.users.push(Arc::new(session));
            }
        }
        Ok(world)
    }

    /// Stops a server and starts it again. That takes a while.
    pub(crate) async fn restart(&mut self, index: usize, time: &mut Time) -> Result<(), Failure> {
        let server = &mut self.servers[index];
        self.network.unplug(&server.name);
        if let Some(running) = server.running.take() {
            let stopped = tokio::spawn(async move {
                running.federation.stop().await;
                running.engine.stop().await;
                running.database.close().await;
            });
            while !stopped.is_finished() {
                time.pass(STOP, STOP_TICK).await;
            }
        }
        // What was cut off ends.
        time.quiet().await;
        server.start(&self.network).await
    }
}

impl Server {
    async fn start(&mut self, network: &Arc<Network>) -> Result<(), Failure> {
        self.starts += 1;
        let database = Database::open(&DatabaseSettings {
            turns: Some(turns(self.seed.wrapping_add(self.starts))),
            ..DatabaseSettings::sqlite(&self.folder)
        })
        .await?;
        let mut settings = EngineSettings::new(self.name.clone());
        settings.rate_limits.enabled = false;
        // Who is in a room has to be known to judge what is told whom. Joining without that has tests of its own.
        settings.rooms.join_without_members = false;
        let clock = Arc::clone(&self.clock);
        let random = Arc::new(SeededRandom::new(self.seed.wrapping_add(self.starts)));
        let engine = Engine::start(settings, database.clone(), clock, random).await?;
        let settings = FederationSettings {
            transport: Some(network.line(&self.name)),
            ..FederationSettings::default()
        };
        let federation = Federation::start(engine.clone(), database.clone(), settings).await?;
        network.plug(&self.name, router(federation.clone()));
        self.running = Some(Running {
            engine,
            federation,
            database,
        });
        Ok(())
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the server runs")
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.running().engine
    }

    pub(crate) fn federation(&self) -> &Federation {
        &self.running().federation
    }

    pub(crate) fn database(&self) -> &Database {
        &self.running().database
    }

    pub(crate) fn engine_rooms(&self) -> &Arc<Rooms> {
        self.engine().rooms()
    }

    /// The state of a room as readers see it, if the server has users in it.
    pub(crate) async fn state(&self, room_id: &RoomId) -> Result<Option<Arc<RoomState>>, Failure> {
        let registry = self.engine_rooms().registry();
        let Some(room) = registry.get(room_id).await? else {
            return Ok(None);
        };
        let state = registry.load(&room).await?;
        Ok(state.has_server(&self.name).then_some(state))
    }

    /// The current state of a room as it's stored.
    pub(crate) async fn stored_state(&self, room_id: &RoomId) -> Result<StateIds, Failure> {
        let room = self.database().room(room_id).await?.ok_or("no such room")?;
        let snapshot = self.database().snapshot_at(room.nid, i64::MAX).await?;
        let rows = self
            .database()
            .state_entries(snapshot.unwrap_or_default())
            .await?;
        let entry = |row: parley_storage::federation::StateEntryRow| {
            ((row.event_type, row.state_key), row.event_id)
        };
        Ok(rows.into_iter().map(entry).collect())
    }
}

/// Most answers of a database are gone on with at once; after some, others have a few turns.
fn turns(seed: u64) -> Turns {
    let chance = Mutex::new(generator(seed, "turns"));
    Turns::new(move || {
        let mut chance = chance.lock().unwrap_or_else(PoisonError::into_inner);
        match chance.random_bool(0.3) {
            true => chance.random_range(1..=8),
            false => 0,
        }
    })
}

/// A state by the ids of its events.
pub(crate) fn ids(state: &RoomState) -> StateIds {
    let entries = state.all().map(|entry| {
        let event = &entry.event;
        let place = (event.event_type.to_string(), event.state_key.to_string());
        (place, event.event_id.clone())
    });
    entries.collect()
}

/// In memory where there is a file system for it: that nothing is lost when the power fails is tested elsewhere.
fn folder() -> Result<tempfile::TempDir, Failure> {
    let memory = Path::new("/dev/shm");
    let builder = tempfile::Builder::new()
        .prefix("parley-simulation")
        .to_owned();
    Ok(match memory.is_dir() {
        true => builder.tempdir_in(memory)?,
        false => builder.tempdir()?,
    })
}
