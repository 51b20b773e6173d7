//! A database for one test.

use std::sync::atomic::{AtomicU32, Ordering};

use parley_storage::DatabaseSettings;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;

/// The variable that says where PostgreSQL is.
const POSTGRES: &str = "PARLEY_TEST_POSTGRES";

/// Makes the names of this process's databases differ.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Which database a test runs on.
#[derive(Clone, Debug)]
pub(crate) enum Engine {
    Sqlite,
    /// PostgreSQL, at this address.
    Postgres(String),
}

/// The engines that are there.
pub(crate) fn available() -> Vec<Engine> {
    let postgres = std::env::var(POSTGRES).ok().map(Engine::Postgres);
    std::iter::once(Engine::Sqlite).chain(postgres).collect()
}

/// A fresh database.
#[derive(Debug)]
pub(crate) struct TestDatabase {
    pub(crate) settings: DatabaseSettings,
    /// Address of the server and name of the database, to drop it by.
    postgres: Option<(String, String)>,
    _folder: TempDir,
}

impl TestDatabase {
    pub(crate) async fn new(engine: &Engine) -> Self {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let mut settings = DatabaseSettings::sqlite(folder.path());
        let mut postgres = None;
        if let Engine::Postgres(address) = engine {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("parley_test_{}_{count}", std::process::id());
            execute(
                address,
                format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            )
            .await;
            execute(address, format!("CREATE DATABASE {name}")).await;
            settings.url = Some(with_database(address, &name));
            postgres = Some((address.clone(), name));
        }
        Self {
            settings,
            postgres,
            _folder: folder,
        }
    }

    pub(crate) async fn remove(self) {
        if let Some((address, name)) = &self.postgres {
            execute(address, format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

/// The same server, another database.
fn with_database(address: &str, name: &str) -> String {
    let (address, query) = address.split_once('?').unwrap_or((address, ""));
    let (server, _) = address
        .rsplit_once('/')
        .expect("the address ends in a database");
    format!("{server}/{name}?{query}")
}

async fn execute(address: &str, statement: String) {
    let mut connection = PgConnection::connect(address)
        .await
        .expect("PostgreSQL answers");
    connection
        .execute(AssertSqlSafe(statement))
        .await
        .expect("databases may be made");
    connection.close().await.expect("the connection closes");
}
