//! The network between the servers: what is sent takes its time, gets lost, comes twice, or doesn't get through.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, Response};
use parley_engine::remote::RemoteError;
use parley_federation::{Carried, Transport};
use rand::{RngExt, rngs::StdRng};
use ruma::{OwnedServerName, ServerName};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    chance::{generator, mixed},
    trace::Trace,
};

/// The largest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// How bad the network is. Shares of 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Requests that don't arrive, and answers.
    pub(crate) lost: f64,
    /// Requests that arrive twice.
    pub(crate) doubled: f64,
    /// Requests that take seconds.
    pub(crate) slow: f64,
    /// Requests that nobody ever answers.
    pub(crate) swallowed: f64,
}

impl Weather {
    /// Everything arrives, soon.
    pub(crate) const FAIR: Self = Self {
        lost: 0.0,
        doubled: 0.0,
        slow: 0.0,
        swallowed: 0.0,
    };

    /// One of several kinds.
    pub(crate) fn draw(chance: &mut StdRng) -> Self {
        let kinds = [
            (0.0, 0.0, 0.05, 0.0),
            (0.02, 0.05, 0.1, 0.0),
            (0.1, 0.1, 0.2, 0.01),
            (0.3, 0.2, 0.3, 0.02),
        ];
        let (lost, doubled, slow, swallowed) = kinds[chance.random_range(0..kinds.len())];
        Self {
            lost,
            doubled,
            slow,
            swallowed,
        }
    }
}

/// What becomes of a request. Times in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Fate {
    there: u64,
    back: u64,
    is_lost: bool,
    answer_is_lost: bool,
    is_swallowed: bool,
    /// When a second one arrives.
    again: Option<u64>,
    /// How long the asker waits in vain.
    patience: u64,
}

impl Fate {
    fn draw(weather: &Weather, chance: &mut StdRng) -> Self {
        let delay = |chance: &mut StdRng| match chance.random_bool(weather.slow) {
            true => chance.random_range(200..4_000),
            false => chance.random_range(1..100),
        };
        Self {
            there: delay(chance),
            back: delay(chance),
            is_lost: chance.random_bool(weather.lost),
            answer_is_lost: chance.random_bool(weather.lost),
            is_swallowed: chance.random_bool(weather.swallowed),
            again: chance
                .random_bool(weather.doubled)
                .then(|| chance.random_range(1..8_000)),
            patience: chance.random_range(500..12_000),
        }
    }
}

/// A server that is there.
#[derive(Clone, Debug)]
struct Plugged {
    router: Router,
    /// Cancelled when it's gone, with all that it was asked.
    gone: CancellationToken,
}

/// What waits for its time: when, what, and the how-manieth of that.
type Due = (u64, String, u64);

#[derive(Debug, Default)]
struct State {
    now: u64,
    servers: HashMap<OwnedServerName, Plugged>,
    waiting: BTreeMap<Due, oneshot::Sender<()>>,
    /// How often something was sent that looks like this.
    counts: HashMap<String, u64>,
    /// Pairs that don't reach each other.
    cut: BTreeSet<(OwnedServerName, OwnedServerName)>,
}

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    seed: u64,
    weather: Mutex<Weather>,
    state: Mutex<State>,
    trace: Arc<Trace>,
}

/// How one server reaches the others.
#[derive(Debug)]
struct Line {
    own: OwnedServerName,
    network: Weak<Network>,
}

impl Network {
    pub(crate) fn new(seed: u64, trace: &Arc<Trace>) -> Arc<Self> {
        Arc::new(Self {
            seed,
            weather: Mutex::new(Weather::FAIR),
            state: Mutex::default(),
            trace: Arc::clone(trace),
        })
    }

    /// How a server reaches the others.
    pub(crate) fn line(self: &Arc<Self>, own: &ServerName) -> Arc<dyn Transport> {
        Arc::new(Line {
            own: own.to_owned(),
            network: Arc::downgrade(self),
        })
    }

    /// A server that is there from now on.
    pub(crate) fn plug(&self, name: &ServerName, router: Router) {
        let gone = CancellationToken::new();
        let plugged = Plugged { router, gone };
        self.state().servers.insert(name.to_owned(), plugged);
    }

    /// A server that is gone.
    pub(crate) fn unplug(&self, name: &ServerName) {
        if let Some(plugged) = self.state().servers.remove(name) {
            plugged.gone.cancel();
        }
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        *lock(&self.weather) = weather;
    }

    /// Parts two servers.
    pub(crate) fn cut(&self, one: &ServerName, other: &ServerName) {
        self.state().cut.insert(pair(one, other));
    }

    /// Everybody reaches everybody.
    pub(crate) fn heal(&self) {
        self.state().cut.clear();
    }

    pub(crate) fn set_now(&self, now: u64) {
        self.state().now = now;
    }

    /// When something is due next.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let state = self.state();
        state.waiting.keys().next().map(|(due, _, _)| *due)
    }

    /// Brings one thing that is due. Whether there was one.
    pub(crate) fn bring_next(&self) -> bool {
        let mut state = self.state();
        let now = state.now;
        let due = state
            .waiting
            .first_entry()
            .filter(|entry| entry.key().0 <= now);
        due.is_some_and(|entry| {
            // Whoever waited may have lost patience.
            let _ = entry.remove().send(());
            true
        })
    }

    /// What was sent in all.
    pub(crate) fn sent(&self) -> u64 {
        self.state().counts.values().sum()
    }

    async fn wait(&self, milliseconds: u64, what: &str) {
        let (bring, brought) = oneshot::channel();
        {
            let mut state = self.state();
            let count = state.count(format!("wait {what}"));
            let due = state.now + milliseconds;
            state.waiting.insert((due, what.to_owned(), count), bring);
        }
        let _ = brought.await;
    }

    /// Carries a request. Its fate depends on the seed, on what it asks of whom, and how often that was asked; not on what
    /// else is sent, so that the order in which servers get to do things doesn't matter.
    async fn carry(
        self: Arc<Self>,
        from: &ServerName,
        to: &ServerName,
        request: Request<Vec<u8>>,
    ) -> Result<Response<Bytes>, RemoteError> {
        let what = label(from, to, &request);
        let count = self.state().count(what.clone());
        let what = format!("{what} #{count}");
        let weather = *lock(&self.weather);
        let fate = Fate::draw(&weather, &mut generator(self.seed, &what));
        if fate.is_swallowed {
            self.trace.note(format!("{what}: swallowed"));
            std::future::pending::<()>().await;
        }
        self.wait(fate.there, &what).await;
        if fate.is_lost || self.is_cut(from, to) {
            return self.in_vain(&what, &fate, "lost").await;
        }
        if let Some(later) = fate.again {
            let (network, to) = (Arc::clone(&self), to.to_owned());
            let (what, request) = (format!("{what} again"), request.clone());
            tokio::spawn(async move {
                network.wait(later, &what).await;
                if let Some(answer) = network.deliver(&to, request).await {
                    network.trace.note(format!("{what}: {}", answer.status()));
                }
            });
        }
        let Some(answer) = self.deliver(to, request).await else {
            return self.in_vain(&what, &fate, "nobody there").await;
        };
        self.trace.note(format!("{what}: {}", answer.status()));
        self.wait(fate.back, &format!("{what} answer")).await;
        if fate.answer_is_lost || self.is_cut(from, to) {
            return self.in_vain(&what, &fate, "answer lost").await;
        }
        Ok(answer)
    }

    async fn in_vain(
        &self,
        what: &str,
        fate: &Fate,
        why: &str,
    ) -> Result<Response<Bytes>, RemoteError> {
        self.trace.note(format!("{what}: {why}"));
        self.wait(fate.patience, &format!("{what} in vain")).await;
        Err(RemoteError::Unreachable(why.to_owned()))
    }

    async fn deliver(&self, to: &ServerName, request: Request<Vec<u8>>) -> Option<Response<Bytes>> {
        let Plugged { router, gone } = self.state().servers.get(to).cloned()?;
        let answer = router.oneshot(request.map(Body::from));
        let answer = match gone.run_until_cancelled_owned(answer).await? {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, MAX_ANSWER).await.ok()?;
        Some(Response::from_parts(parts, body))
    }

    fn is_cut(&self, one: &ServerName, other: &ServerName) -> bool {
        self.state().cut.contains(&pair(one, other))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn count(&mut self, what: String) -> u64 {
        let count = self.counts.entry(what).or_default();
        *count += 1;
        *count
    }
}

impl Transport for Line {
    fn carry<'a>(&'a self, destination: &'a ServerName, request: Request<Vec<u8>>) -> Carried<'a> {
        Box::pin(async move {
            match self.network.upgrade() {
                Some(network) => network.carry(&self.own, destination, request).await,
                None => Err(RemoteError::Unreachable("the network is gone".to_owned())),
            }
        })
    }
}

/// What a request asks of whom, without what is another each time.
fn label(from: &ServerName, to: &ServerName, request: &Request<Vec<u8>>) -> String {
    let path = request
        .uri()
        .path_and_query()
        .map_or("", |path| path.as_str());
    let path = path.strip_prefix("/_matrix/").unwrap_or(path);
    let path = match path.strip_prefix("federation/v1/send/") {
        Some(_) => "federation/v1/send",
        None => path,
    };
    let asked = format!("{from} > {to} {} {path}", request.method());
    // What is asked for is in the body: the one of two such questions that comes first isn't always the same.
    match *request.method() == http::Method::POST {
        true => format!("{asked} {:016x}", mixed(0, request.body())),
        false => asked,
    }
}

fn pair(one: &ServerName, other: &ServerName) -> (OwnedServerName, OwnedServerName) {
    match one < other {
        true => (one.to_owned(), other.to_owned()),
        false => (other.to_owned(), one.to_owned()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
