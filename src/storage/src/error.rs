//! What can go wrong with the database, told so that an administrator knows what to do.

use std::{borrow::Cow, path::PathBuf};

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
    pub(super) const TOOBIG: i32 = 18;
    pub(super) const CONSTRAINT: i32 = 19;
    pub(super) const MISMATCH: i32 = 20;
    /// An extended one: the index of the log can't grow, for want of space.
    pub(super) const IOERR_SHMSIZE: i32 = 10 | 19 << 8;
}

/// `disk_full`, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
const POSTGRES_DISK_FULL: &str = "53100";
/// `read_only_sql_transaction`.
const POSTGRES_READ_ONLY: &str = "25006";
/// Classes of what is wrong with the values of a statement: `data_exception`, `integrity_constraint_violation`,
/// `program_limit_exceeded`, and what functions of the database raise.
const POSTGRES_OF_VALUES: [&str; 4] = ["22", "23", "54", "P0"];

/// What an engine said.
enum Code<'a> {
    /// The primary result code.
    Sqlite(i32),
    Postgres(Cow<'a, str>),
}

impl Code<'_> {
    fn of(error: &sqlx::Error) -> Option<Code<'_>> {
        let error = error.as_database_error()?;
        let code = error.code()?;
        match error.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
            None => Some(Code::Postgres(code)),
            // It gives extended codes; the low byte is the primary one.
            Some(_) => Some(Code::Sqlite(match code.parse().ok()? {
                sqlite_code::IOERR_SHMSIZE => sqlite_code::FULL,
                code => code & 0xff,
            })),
        }
    }
}

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        match Code::of(&error) {
            Some(Code::Sqlite(sqlite_code::FULL)) => Self::Full,
            Some(Code::Sqlite(sqlite_code::READONLY | sqlite_code::CANTOPEN)) => Self::ReadOnly,
            Some(Code::Postgres(code)) if code == POSTGRES_DISK_FULL => Self::Full,
            Some(Code::Postgres(code)) if code == POSTGRES_READ_ONLY => Self::ReadOnly,
            _ => Self::Database(error),
        }
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

    /// Whether what was to be stored is at fault, rather than the database: something else might have been.
    pub fn is_of_values(&self) -> bool {
        let Self::Database(error) = self else {
            return false;
        };
        match Code::of(error) {
            Some(Code::Sqlite(code)) => matches!(
                code,
                sqlite_code::TOOBIG | sqlite_code::CONSTRAINT | sqlite_code::MISMATCH
            ),
            Some(Code::Postgres(code)) => POSTGRES_OF_VALUES
                .iter()
                .any(|class| code.starts_with(class)),
            None => false,
        }
    }
}
