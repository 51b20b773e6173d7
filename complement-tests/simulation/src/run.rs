//! One run: a world is made, users act in bad weather, the weather clears, and everybody has to agree.

use std::sync::Arc;

use parley_engine::{
    rooms::{
        Rooms,
        history::{Direction, PageRequest},
    },
    sessions::Session,
};
use rand::{RngExt, rngs::StdRng};
use ruma::RoomId;

use crate::{
    actions::Users,
    chance::generator,
    clients::Clients,
    judge::{Stays, judge},
    network::{Network, Weather},
    news::tell_put_out,
    time::{Quiet, Time},
    trace::Trace,
    world::{Failure, MAX_SERVERS, World},
};

/// How much time passes at once, in milliseconds, while users act, and while it's waited for the end.
const TICK: u64 = 250;
const LONG_TICK: u64 = 2_000;
/// How long it's quiet on the network when everything has been told.
const CALM: u64 = 10_000;
/// Events that are read back at once.
const PAGE: usize = 100;
/// After what time of waiting it's given up, in milliseconds.
const MAX_WAIT: u64 = 60 * 60 * 1_000;

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// All chance comes from it.
    pub seed: u64,
    /// How many servers, 5 at most; drawn from the seed, 3 to 5, if `None`.
    pub servers: Option<usize>,
    /// How often a user does something.
    pub steps: usize,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What is wrong, a line each; nothing if all is well.
    pub wrong: Vec<String>,
    /// A hash of the trace: the same for the same plan.
    pub hash: u64,
    /// What happened, a line each, with the time in milliseconds.
    pub trace: Vec<String>,
    /// Events that were acknowledged.
    pub events: usize,
    /// Requests between the servers.
    pub requests: u64,
}

/// Runs a plan, on a thread of its own.
///
/// # Errors
/// If the servers can't be started, or their databases not be read: what is no outcome of the plan.
pub fn run(plan: Plan) -> Result<Outcome, Failure> {
    match std::thread::spawn(move || run_here(plan)).join() {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn run_here(plan: Plan) -> Result<Outcome, Failure> {
    let quiet = Arc::new(Quiet::default());
    let runtime = quiet.runtime()?;
    let outcome = runtime.block_on(Run::new(plan, &quiet).go());
    // What still waits for something that never comes doesn't keep the thread.
    runtime.shutdown_background();
    outcome
}

struct Run {
    plan: Plan,
    quiet: Arc<Quiet>,
    network: Arc<Network>,
    trace: Arc<Trace>,
    chance: StdRng,
}

impl Run {
    fn new(plan: Plan, quiet: &Arc<Quiet>) -> Self {
        let trace = Arc::new(Trace::default());
        Self {
            plan,
            quiet: Arc::clone(quiet),
            network: Network::new(plan.seed, &trace),
            trace,
            chance: generator(plan.seed, "what happens"),
        }
    }

    async fn go(mut self) -> Result<Outcome, Failure> {
        let mut time = Time::start(&self.quiet, &self.network, &self.trace);
        let drawn = self.chance.random_range(3..=MAX_SERVERS);
        let servers = self.plan.servers.unwrap_or(drawn).clamp(1, MAX_SERVERS);
        let (seed, network) = (self.plan.seed, Arc::clone(&self.network));
        let mut world = World::start(seed, servers, &network, &mut time).await?;
        let mut users = Users::new(generator(seed, "users"), &self.trace);
        for _ in 0..self.chance.random_range(1..=2) {
            users.make_room(&mut world).await?;
        }
        time.quiet().await;
        users.gather(&world).await?;
        self.wait(&world, &users, &mut time).await?;
        let mut stays = Stays::default();
        stays.look(&world, time.now()).await?;
        let mut clients = Clients::of(&world);
        clients.ask(&world, true).await?;
        self.network.set_weather(Weather::draw(&mut self.chance));
        for _ in 0..self.plan.steps {
            self.change_network(&mut world, &users, &mut time).await?;
            users.act(&world, time.now()).await?;
            time.quiet().await;
            let pause = match self.chance.random_range(0..10) {
                0..3 => 0,
                3..9 => self.chance.random_range(1..300),
                _ => self.chance.random_range(300..8_000),
            };
            time.pass(pause, TICK).await;
            stays.look(&world, time.now()).await?;
            if self.chance.random_bool(0.2) {
                clients.ask(&world, false).await?;
            }
        }
        self.trace.note("the weather clears".to_owned());
        self.network.set_weather(Weather::FAIR);
        self.network.heal();
        self.wait(&world, &users, &mut time).await?;
        for server in 0..world.servers.len() {
            users.speak(&world, server, time.now()).await?;
            self.wait(&world, &users, &mut time).await?;
        }
        read_back(&world, &mut time).await?;
        self.tell_put_out(&world, &users, &mut time).await?;
        stays.look(&world, time.now()).await?;
        let acknowledged = users.log.acknowledged();
        let mut wrong = judge(&world, &stays, &acknowledged).await?;
        clients.ask(&world, true).await?;
        wrong.extend(clients.judge(&world).await?);
        time.quiet().await;
        Ok(Outcome {
            wrong,
            hash: self.trace.hash(),
            trace: self.trace.lines(),
            events: acknowledged.len(),
            requests: self.network.sent(),
        })
    }

    /// Parts servers, joins them, stops one and starts it again; mostly nothing of that.
    async fn change_network(
        &mut self,
        world: &mut World,
        users: &Users,
        time: &mut Time,
    ) -> Result<(), Failure> {
        let draw = self.chance.random_range(0..100);
        let mut server = || self.chance.random_range(0..world.servers.len());
        match draw {
            0..5 => {
                let (one, other) = (server(), server());
                if one != other {
                    let (one, other) = (&world.servers[one].name, &world.servers[other].name);
                    self.trace.note(format!("{one} and {other} are parted"));
                    self.network.cut(one, other);
                }
            }
            5..8 => {
                let alone = &world.servers[server()].name;
                self.trace.note(format!("{alone} is alone"));
                let others = world.servers.iter().filter(|other| other.name != *alone);
                others.for_each(|other| self.network.cut(alone, &other.name));
            }
            8..12 => {
                self.trace.note("all reach each other".to_owned());
                self.network.heal();
            }
            12..14 => {
                let restarted = server();
                self.trace
                    .note(format!("{} restarts", world.servers[restarted].name));
                users.log.cut(restarted);
                world.restart(restarted, time).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Tells servers that were put out without knowing it, until nothing is left to tell.
    async fn tell_put_out(
        &self,
        world: &World,
        users: &Users,
        time: &mut Time,
    ) -> Result<(), Failure> {
        for _ in 0..world.servers.len() {
            let told = tell_put_out(world).await?;
            if told == 0 {
                break;
            }
            let what = format!("servers that were put out are told {told} events");
            self.trace.note(what);
            self.wait(world, users, time).await?;
        }
        Ok(())
    }

    /// Waits until everything has been told.
    async fn wait(&self, world: &World, users: &Users, time: &mut Time) -> Result<(), Failure> {
        let until = time.now() + MAX_WAIT;
        while time.now() < until {
            let before = self.network.sent();
            time.pass(CALM, LONG_TICK).await;
            let is_calm = self.network.sent() == before && users.log.under_way() == 0;
            if is_calm && !has_more(world).await? {
                return Ok(());
            }
        }
        self.trace.note("it never becomes calm".to_owned());
        Ok(())
    }
}

/// Has somebody on each server read back where something is missing in between: what others have there is asked for then.
async fn read_back(world: &World, time: &mut Time) -> Result<(), Failure> {
    for server in &world.servers {
        for room_id in &world.rooms {
            let Some(state) = server.state(room_id).await? else {
                continue;
            };
            let room = server.database().room(room_id).await?;
            let room = room.ok_or("no such room")?;
            let mut users = server.users.iter();
            let reader = users.find(|user| state.is_joined(&user.user_id));
            let gaps = server.database().events_after_gaps(room.nid, 1).await?;
            let Some(reader) = reader.filter(|_| !gaps.is_empty()) else {
                continue;
            };
            let (rooms, reader) = (Arc::clone(server.engine_rooms()), Arc::clone(reader));
            let room_id = room_id.clone();
            let read =
                tokio::spawn(async move { read_to_the_end(&rooms, &reader, &room_id).await });
            while !read.is_finished() {
                time.pass(CALM, LONG_TICK).await;
            }
            read.await??;
        }
    }
    Ok(())
}

async fn read_to_the_end(
    rooms: &Rooms,
    reader: &Session,
    room_id: &RoomId,
) -> parley_engine::Result<()> {
    let mut from = None;
    loop {
        let request = PageRequest {
            from,
            to: None,
            direction: Direction::Backward,
            limit: PAGE,
        };
        let page = rooms.messages(reader, room_id, request, |_| true).await?;
        from = page.end;
        if from.is_none() {
            return Ok(());
        }
    }
}

/// Whether a server still has something to tell, to work through, or to ask for.
async fn has_more(world: &World) -> Result<bool, Failure> {
    for server in &world.servers {
        if !server.database().rooms_with_inbox().await?.is_empty() {
            return Ok(true);
        }
        if server.database().next_partial_retry().await?.is_some() {
            return Ok(true);
        }
        let others = server.federation().destinations_status().await?;
        if others
            .iter()
            .any(|other| other.rooms_behind > 0 || other.waiting > 0)
        {
            return Ok(true);
        }
    }
    Ok(false)
}
