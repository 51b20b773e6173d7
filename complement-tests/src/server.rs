//! A server for one test.

use std::{
    future::IntoFuture,
    net::{Ipv4Addr, SocketAddr},
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, Request},
    middleware,
};
use futures::FutureExt;
use parley_client_api::{ClientAddress, ClientApi, ClientApiSettings};
use parley_engine::{
    Engine, EngineSettings,
    clock::{Clock, ManualClock, SystemClock},
    random::SystemRandom,
    settings::{PasswordSettings, RateLimitSettings, RegistrationMode},
};
use parley_federation::{Federation, FederationSettings};
use parley_storage::{Database, DatabaseSettings};
use ruma::{OwnedServerName, server_name};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    Client,
    certificates::{self, ComesFrom, TlsListener},
    database::{self, TestDatabase, available},
    shape::{self, Violations},
};

/// What a test wants of its server.
#[derive(Clone, Debug)]
pub struct TestOptions {
    /// Settings of the engine. By default anyone may register, nothing is limited and passwords are hashed badly but fast.
    pub engine: EngineSettings,
    /// Settings of the client-server API.
    pub client_api: ClientApiSettings,
    /// Settings of federation. By default servers of this machine that the tests' authority vouches for are trusted.
    pub federation: FederationSettings,
    /// The clock, if it isn't the machine's.
    pub clock: Option<Arc<ManualClock>>,
}

impl Default for TestOptions {
    fn default() -> Self {
        let mut engine = EngineSettings::new(server_name!("parley.test").to_owned());
        engine.registration.mode = RegistrationMode::Open;
        engine.rate_limits = RateLimitSettings {
            enabled: false,
            ..RateLimitSettings::default()
        };
        engine.passwords = PasswordSettings {
            memory_kib: 64,
            iterations: 1,
            ..PasswordSettings::default()
        };
        Self {
            engine,
            client_api: ClientApiSettings::default(),
            federation: FederationSettings {
                authorities: vec![certificates::authority()],
                permitted_networks: vec!["127.0.0.0/8".parse().expect("a network")],
                ..FederationSettings::default()
            },
            clock: None,
        }
    }
}

/// A server that listens on a port of this machine.
#[derive(Debug)]
pub struct TestServer {
    options: TestOptions,
    database_settings: DatabaseSettings,
    address: SocketAddr,
    /// Where other servers reach it, if they do.
    gate: Option<Gate>,
    violations: Violations,
    /// `None` only between a stop and the next start.
    running: Option<Running>,
}

/// Where a server is reached by others: under its name, with TLS.
#[derive(Clone)]
struct Gate {
    address: SocketAddr,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Gate({})", self.address)
    }
}

impl Gate {
    /// Begins to listen. The port is known before the server has its name, so that the name can be the address.
    async fn open() -> (TcpListener, Self) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port is free");
        let gate = Self {
            address: listener.local_addr().expect("the port has an address"),
            acceptor: certificates::acceptor(&["127.0.0.1".to_owned(), "localhost".to_owned()]),
        };
        (listener, gate)
    }

    fn server_name(&self) -> OwnedServerName {
        let name = self.address.to_string();
        name.try_into().expect("an address is a server name")
    }
}

/// What ends when the server is stopped.
#[derive(Debug)]
struct Running {
    engine: Engine,
    client_api: ClientApi,
    federation: Federation,
    database: Database,
    stopping: CancellationToken,
    serving: Vec<JoinHandle<()>>,
}

impl TestServer {
    async fn start(
        options: TestOptions,
        database_settings: DatabaseSettings,
        violations: Violations,
    ) -> Self {
        let listeners = Listeners::at(any_port()).await;
        Self::start_at(options, database_settings, violations, listeners, None).await
    }

    /// A server whose name is an address at which other servers reach it.
    async fn start_federated(
        mut options: TestOptions,
        database_settings: DatabaseSettings,
        violations: Violations,
    ) -> Self {
        let (listener, gate) = Gate::open().await;
        options.engine.server_name = gate.server_name();
        let mut listeners = Listeners::at(any_port()).await;
        listeners.federation = Some((listener, gate.acceptor.clone()));
        Self::start_at(
            options,
            database_settings,
            violations,
            listeners,
            Some(gate),
        )
        .await
    }

    async fn start_at(
        options: TestOptions,
        database_settings: DatabaseSettings,
        violations: Violations,
        listeners: Listeners,
        gate: Option<Gate>,
    ) -> Self {
        let address = listeners.address();
        let running = run(&options, &database_settings, listeners, &violations).await;
        Self {
            options,
            database_settings,
            address,
            gate,
            violations,
            running: Some(running),
        }
    }

    /// Its name, the part of its users' IDs behind the colon. That of a server that federates is its address.
    pub fn name(&self) -> &str {
        self.options.engine.server_name.as_str()
    }

    /// Someone who has no account yet.
    pub fn client(&self) -> Client {
        Client::new(format!("http://{}", self.address))
    }

    /// Someone who has just registered by that name.
    pub async fn register(&self, name: &str) -> Client {
        let mut client = self.client();
        client.register(name).await;
        client
    }

    /// The engine behind it, for what has no endpoint.
    pub fn engine(&self) -> &Engine {
        &self.running.as_ref().expect("the server runs").engine
    }

    /// The database, to leave there what a crash would.
    pub fn database(&self) -> &Database {
        &self.running.as_ref().expect("the server runs").database
    }

    /// What it has to do with other servers.
    pub fn federation(&self) -> &Federation {
        &self.running.as_ref().expect("the server runs").federation
    }

    /// Another node over the same database; `None` on SQLite, which belongs to one process.
    pub async fn second_node(&self) -> Option<Self> {
        self.database_settings.url.as_ref()?;
        let (options, database) = (self.options.clone(), self.database_settings.clone());
        Some(Self::start(options, database, self.violations.clone()).await)
    }

    /// The clock, if the options gave one.
    pub fn clock(&self) -> &ManualClock {
        let clock = self.options.clock.as_deref();
        clock.expect("the options gave a clock")
    }

    /// What the next start will use.
    pub fn options_mut(&mut self) -> &mut TestOptions {
        &mut self.options
    }

    /// The same as if the process was ended and started again, at the same address.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    /// Starts it again after a [`TestServer::stop`], at the same addresses.
    pub async fn start_again(&mut self) {
        let mut listeners = Listeners::at(self.address).await;
        if let Some(gate) = &self.gate {
            let listener = TcpListener::bind(gate.address).await;
            let listener = listener.expect("the port is still free");
            listeners.federation = Some((listener, gate.acceptor.clone()));
        }
        let (options, database) = (&self.options, &self.database_settings);
        let running = run(options, database, listeners, &self.violations).await;
        self.running = Some(running);
    }

    /// Ends it. Nobody reaches it until it is started again.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }
}

impl Running {
    async fn stop(self) {
        self.engine.typing().end_all();
        self.stopping.cancel();
        for serving in self.serving {
            serving.await.expect("the listener ends");
        }
        self.client_api.finish().await;
        self.federation.stop().await;
        self.engine.stop().await;
        self.database.close().await;
    }
}

/// Where a server listens.
struct Listeners {
    main: TcpListener,
    federation: Option<(TcpListener, TlsAcceptor)>,
}

impl Listeners {
    async fn at(address: SocketAddr) -> Self {
        let main = TcpListener::bind(address).await.expect("a port is free");
        Self {
            main,
            federation: None,
        }
    }

    fn address(&self) -> SocketAddr {
        self.main.local_addr().expect("the port has an address")
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

async fn run(
    options: &TestOptions,
    database: &DatabaseSettings,
    listeners: Listeners,
    violations: &Violations,
) -> Running {
    let database = Database::open(database).await.expect("the database opens");
    let clock: Arc<dyn Clock> = match &options.clock {
        Some(clock) => clock.clone(),
        None => Arc::new(SystemClock),
    };
    let settings = options.engine.clone();
    let engine = Engine::start(settings, database.clone(), clock, Arc::new(SystemRandom))
        .await
        .expect("the engine starts");
    let stopping = CancellationToken::new();
    let client_api = ClientApi::new(engine.clone(), options.client_api.clone(), stopping.clone());
    let federation =
        Federation::start(engine.clone(), database.clone(), options.federation.clone())
            .await
            .expect("federation starts");
    let router = parley_client_api::router(client_api.clone())
        .merge(parley_admin::router(engine.clone()))
        .merge(parley_federation::router(federation.clone()));
    let router = parley_client_api::finish(router).layer(middleware::from_fn_with_state(
        violations.clone(),
        shape::check,
    ));
    let mut serving = Vec::new();
    if let Some((listener, acceptor)) = listeners.federation {
        let listener = TlsListener { listener, acceptor };
        let router = router.clone().layer(middleware::map_request(
            async |ConnectInfo(ComesFrom(address)), request| with_address(address, request),
        ));
        let service = router.into_make_service_with_connect_info::<ComesFrom>();
        let serve = axum::serve(listener, service);
        let serve = serve.with_graceful_shutdown(stopping.clone().cancelled_owned());
        serving.push(tokio::spawn(to_the_end(
            serve.into_future(),
            stopping.clone(),
        )));
    }
    let router = router.layer(middleware::map_request(note_address));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let serve = axum::serve(listeners.main, service);
    let serve = serve.with_graceful_shutdown(stopping.clone().cancelled_owned());
    serving.push(tokio::spawn(to_the_end(
        serve.into_future(),
        stopping.clone(),
    )));
    Running {
        engine,
        client_api,
        federation,
        database,
        stopping,
        serving,
    }
}

async fn to_the_end(
    serving: impl Future<Output = std::io::Result<()>>,
    stopping: CancellationToken,
) {
    // How long a request that waits, as /sync does, may delay the end.
    const PATIENCE: Duration = Duration::from_secs(5);
    let too_late = async {
        stopping.cancelled().await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        () = too_late => {}
        ended = serving => ended.expect("the listener works"),
    }
}

async fn note_address(ConnectInfo(address): ConnectInfo<SocketAddr>, request: Request) -> Request {
    with_address(address, request)
}

fn with_address(address: SocketAddr, mut request: Request) -> Request {
    request.extensions_mut().insert(ClientAddress(address.ip()));
    request
}

/// Runs a test on every database that is there, each time with a new server.
pub async fn on_each_engine(test: impl AsyncFn(&mut TestServer)) {
    on_each_engine_with(TestOptions::default, test).await;
}

/// The same with a server that is started with `options`, made anew for each database.
pub async fn on_each_engine_with(
    options: impl Fn() -> TestOptions,
    test: impl AsyncFn(&mut TestServer),
) {
    for engine in available() {
        let database = TestDatabase::new(&engine).await;
        let violations = Violations::default();
        let settings = database.settings.clone();
        let mut server = TestServer::start(options(), settings, violations.clone()).await;
        let ended = AssertUnwindSafe(test(&mut server)).catch_unwind().await;
        server.stop().await;
        database.remove().await;
        after_test(&engine, ended, &violations);
    }
}

/// Runs a test on every database that is there, each time with `count` new servers that federate with each other: over TLS,
/// under names that are their addresses.
pub async fn federated(count: usize, test: impl AsyncFn(&mut [TestServer])) {
    federated_with(count, |_| TestOptions::default(), test).await;
}

/// The same with servers that are started with `options`, made anew for each; it is given which of them it is for. What
/// they say of the name is not heeded.
pub async fn federated_with(
    count: usize,
    options: impl Fn(usize) -> TestOptions,
    test: impl AsyncFn(&mut [TestServer]),
) {
    for engine in available() {
        let violations = Violations::default();
        let (mut databases, mut servers) = (Vec::new(), Vec::new());
        for index in 0..count {
            let database = TestDatabase::new(&engine).await;
            let settings = database.settings.clone();
            let server =
                TestServer::start_federated(options(index), settings, violations.clone()).await;
            databases.push(database);
            servers.push(server);
        }
        let ended = AssertUnwindSafe(test(&mut servers)).catch_unwind().await;
        futures::future::join_all(servers.iter_mut().map(TestServer::stop)).await;
        for database in databases {
            database.remove().await;
        }
        after_test(&engine, ended, &violations);
    }
}

fn after_test(engine: &database::Engine, ended: std::thread::Result<()>, violations: &Violations) {
    if let Err(panic) = ended {
        eprintln!("the test failed on {engine:?}");
        resume_unwind(panic);
    }
    violations.assert_none();
}
