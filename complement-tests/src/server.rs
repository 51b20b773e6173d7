//! A server for one test.

use std::{
    net::{Ipv4Addr, SocketAddr},
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
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
use parley_storage::{Database, DatabaseSettings};
use ruma::server_name;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    Client,
    database::{TestDatabase, available},
    shape::{self, Violations},
};

/// What a test wants of its server.
#[derive(Clone, Debug)]
pub struct TestOptions {
    /// Settings of the engine. By default anyone may register, nothing is limited and passwords are hashed badly but fast.
    pub engine: EngineSettings,
    /// Settings of the client-server API.
    pub client_api: ClientApiSettings,
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
    violations: Violations,
    /// `None` only between a stop and the next start.
    running: Option<Running>,
}

/// What ends when the server is stopped.
#[derive(Debug)]
struct Running {
    engine: Engine,
    client_api: ClientApi,
    database: Database,
    stopping: CancellationToken,
    serving: JoinHandle<()>,
}

impl TestServer {
    async fn start(
        options: TestOptions,
        database_settings: DatabaseSettings,
        violations: Violations,
    ) -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (address, running) = run(&options, &database_settings, any_port, &violations).await;
        Self {
            options,
            database_settings,
            address,
            violations,
            running: Some(running),
        }
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
        let (_, running) = run(
            &self.options,
            &self.database_settings,
            self.address,
            &self.violations,
        )
        .await;
        self.running = Some(running);
    }

    async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }
}

impl Running {
    async fn stop(self) {
        self.engine.typing().end_all();
        self.stopping.cancel();
        self.serving.await.expect("the listener ends");
        self.client_api.finish().await;
        self.engine.stop().await;
        self.database.close().await;
    }
}

async fn run(
    options: &TestOptions,
    database: &DatabaseSettings,
    address: SocketAddr,
    violations: &Violations,
) -> (SocketAddr, Running) {
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
    let router = parley_client_api::router(client_api.clone())
        .merge(parley_admin::router(engine.clone()))
        .merge(parley_federation::router(engine.clone()));
    let router = parley_client_api::finish(router)
        .layer(middleware::map_request(note_address))
        .layer(middleware::from_fn_with_state(
            violations.clone(),
            shape::check,
        ));
    let listener = TcpListener::bind(address).await.expect("a port is free");
    let address = listener.local_addr().expect("the port has an address");
    let serving = tokio::spawn(serve(listener, router, stopping.clone()));
    let running = Running {
        engine,
        client_api,
        database,
        stopping,
        serving,
    };
    (address, running)
}

async fn serve(listener: TcpListener, router: Router, stopping: CancellationToken) {
    // How long a request that waits, as /sync does, may delay the end.
    const PATIENCE: Duration = Duration::from_secs(5);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let stop = stopping.clone().cancelled_owned();
    let serving = axum::serve(listener, service).with_graceful_shutdown(stop);
    let too_late = async {
        stopping.cancelled().await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        () = too_late => {}
        ended = serving => ended.expect("the listener works"),
    }
}

async fn note_address(
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    mut request: Request,
) -> Request {
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
        if let Err(panic) = ended {
            eprintln!("the test failed on {engine:?}");
            resume_unwind(panic);
        }
        violations.assert_none();
    }
}
