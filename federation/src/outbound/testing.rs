//! What the tests of this crate ask other servers with.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use parley_engine::{
    clock::{Clock, ManualClock},
    outgoing::Announcer,
    random::SeededRandom,
};
use parley_protocol::ServerKey;
use parley_storage::{Database, DatabaseSettings};
use ruma::{OwnedServerName, ServerName, server_name};
use tempfile::TempDir;

use super::{
    Client,
    addresses::AddressFilter,
    destinations::Destinations,
    discovery::{Discovery, WithoutServices},
    http::Connections,
    names::{Answer, Names, Service},
    transport::{Carried, Transport},
    well_known::WellKnown,
};
use crate::{FederationSettings, policy::Policy};

/// When the tests begin.
pub(crate) const NOW: i64 = 1_800_000_000_000;

/// What a server answers: by the server, and the path that it is asked for.
type Answers = dyn Fn(&ServerName, &Request<Vec<u8>>) -> Response<Bytes> + Send + Sync;

/// Carries requests to a function.
pub(crate) struct Line {
    answers: Mutex<Arc<Answers>>,
    carried: AtomicUsize,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Line({:?})", self.carried)
    }
}

impl Line {
    /// What is answered from now on.
    pub(crate) fn answer(
        &self,
        answers: impl Fn(&ServerName, &Request<Vec<u8>>) -> Response<Bytes> + Send + Sync + 'static,
    ) {
        *self.answers.lock().unwrap() = Arc::new(answers);
    }

    /// Counts from the beginning again.
    pub(crate) fn forget(&self) {
        self.carried.store(0, Ordering::SeqCst);
    }

    /// How many requests there were.
    pub(crate) fn carried(&self) -> usize {
        self.carried.load(Ordering::SeqCst)
    }
}

impl Transport for Line {
    fn carry<'a>(&'a self, destination: &'a ServerName, request: Request<Vec<u8>>) -> Carried<'a> {
        self.carried.fetch_add(1, Ordering::SeqCst);
        let answers = Arc::clone(&self.answers.lock().unwrap());
        Box::pin(async move { Ok(answers(destination, &request)) })
    }
}

/// An answer.
pub(crate) fn answer(status: u16, body: impl Into<Bytes>) -> Response<Bytes> {
    let answer = Response::builder().status(status).body(body.into());
    answer.unwrap()
}

/// Names that nobody has.
#[derive(Debug)]
struct Nobody;

impl Names for Nobody {
    fn addresses<'a>(&'a self, _: &'a str) -> Answer<'a, IpAddr> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn services<'a>(&'a self, _: &'a str) -> Answer<'a, Service> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// A way to other servers.
pub(crate) struct Way {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) database: Database,
    pub(crate) line: Arc<Line>,
    pub(crate) client: Client,
    _folder: TempDir,
}

impl Way {
    /// The way of `own.example`. It leads to servers that refuse everything.
    pub(crate) async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings::sqlite(folder.path());
        let database = Database::open(&settings).await.unwrap();
        let clock = Arc::new(ManualClock::new(NOW));
        let as_clock: Arc<dyn Clock> = clock.clone();
        let line = Arc::new(Line {
            answers: Mutex::new(Arc::new(|_: &ServerName, _: &Request<Vec<u8>>| {
                answer(403, "{}")
            })),
            carried: AtomicUsize::new(0),
        });
        let names: Arc<dyn Names> = Arc::new(Nobody);
        let connections = Connections::new(&names, AddressFilter::new(&[]), &[]).unwrap();
        let discovery = Discovery {
            names,
            well_known: Arc::new(WellKnown::new(connections.clone(), as_clock.clone(), 443)),
            connections,
            port: 8448,
            without_services: WithoutServices::new(as_clock.clone()),
        };
        let random = Arc::new(SeededRandom::new(1));
        let destinations =
            Destinations::new(database.clone(), as_clock, random, Announcer::alone());
        let client = Client::new(
            Arc::new(key(server_name!("own.example").to_owned())),
            discovery,
            Some(line.clone()),
            destinations,
            Policy::new(&FederationSettings::default()),
        );
        Self {
            clock,
            database,
            line,
            client,
            _folder: folder,
        }
    }
}

/// A key of a server.
pub(crate) fn key(server: OwnedServerName) -> ServerKey {
    ServerKey::from_der(server, &ServerKey::generate(), "a").unwrap()
}
