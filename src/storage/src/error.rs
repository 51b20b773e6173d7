//! What can go wrong with the database, told so that an administrator knows what to do.

use std::path::PathBuf;

/// The result of a storage operation.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Another process has the data folder open.
    #[error(
        "the data folder {} is in use by another process; stop it first, or choose another folder with `server.data_dir`",
        .0.display()
    )]
    InUse(PathBuf),
    /// The data folder can't be made or opened.
    #[error("can't open the data folder {}: {source}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The database was written by a later version of Parley.
    #[error(
        "the database was made by a newer version of Parley (its migration {0} is unknown here); install that version again"
    )]
    Newer(i64),
    /// A migration that was applied differs from the one of this program.
    #[error("migration {0} of this program differs from the one that the database was made with")]
    MigrationChanged(i64),
    /// A migration failed.
    #[error("migrating the database failed: {0}")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// The address of the database can't be read.
    #[error("the database address is wrong: {0}")]
    Address(String),
    /// The disk is full.
    #[error("the disk that holds the database is full; free some space")]
    Full,
    /// The database may not be written.
    #[error("the database can't be written: it is read-only, or belongs to another user")]
    ReadOnly,
    /// A value in the database is not what it should be.
    #[error("the database holds a value that makes no sense: {0}")]
    Corrupt(String),
    /// Anything else that the database said.
    #[error("database: {0}")]
    Database(#[source] sqlx::Error),
}

/// Primary result codes of SQLite, <https://www.sqlite.org/rescode.html>.
mod sqlite_code {
    pub(super) const READONLY: i32 = 8;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    /// An extended one: the index of the log can't grow, for want of space.
    pub(super) const IOERR_SHMSIZE: i32 = 10 | 19 << 8;
}

/// `disk_full`, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
const POSTGRES_DISK_FULL: &str = "53100";
/// `read_only_sql_transaction`.
const POSTGRES_READ_ONLY: &str = "25006";

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code());
        if let Some(code) = code {
            // SQLite gives extended codes; the low byte is the primary one.
            let code_of_sqlite = code.parse::<i32>().ok().map(|code| match code {
                sqlite_code::IOERR_SHMSIZE => sqlite_code::FULL,
                code => code & 0xff,
            });
            let sqlite = error
                .as_database_error()
                .and_then(|error| error.try_downcast_ref::<sqlx::sqlite::SqliteError>())
                .and(code_of_sqlite);
            match (sqlite, code.as_ref()) {
                (Some(sqlite_code::FULL), _) | (None, POSTGRES_DISK_FULL) => return Self::Full,
                (Some(sqlite_code::READONLY | sqlite_code::CANTOPEN), _)
                | (None, POSTGRES_READ_ONLY) => return Self::ReadOnly,
                _ => {}
            }
        }
        Self::Database(error)
    }
}

impl StorageError {
    /// Whether a uniqueness constraint refused the row: it is there already.
    pub fn is_duplicate(&self) -> bool {
        let Self::Database(error) = self else {
            return false;
        };
        error
            .as_database_error()
            .is_some_and(|error| error.is_unique_violation())
    }
}
