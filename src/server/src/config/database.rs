//! `[database]`

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use url::Url;

use super::{
    error::Invalid,
    secret::MASK,
    size,
    size::{KIB, MIB},
};

/// The embedded SQLite or a PostgreSQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// Of a PostgreSQL; without it, SQLite in the data folder.
    pub url: Option<DatabaseUrl>,
    /// How many connections to PostgreSQL this node opens at most.
    pub postgres_connections: u32,
    /// How many connections read from SQLite at once. There is always one that writes.
    pub sqlite_readers: u32,
    /// Pages that the writing connection to SQLite keeps in memory, in bytes; those that read keep a quarter each.
    #[serde(with = "size")]
    pub sqlite_cache: u64,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            postgres_connections: 20,
            sqlite_readers: 4,
            sqlite_cache: 8 * MIB,
        }
    }
}

impl Database {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if self.postgres_connections < 2 {
            // One listens for the notifications of the other nodes.
            return Err(Invalid::new(
                "database.postgres_connections",
                "must be at least 2",
            ));
        }
        if self.sqlite_readers == 0 {
            return Err(Invalid::new(
                "database.sqlite_readers",
                "must be at least 1",
            ));
        }
        if !(512 * KIB..=1024 * MIB).contains(&self.sqlite_cache) {
            return Err(Invalid::new(
                "database.sqlite_cache",
                "must be between 512 KiB and 1 GiB",
            ));
        }
        Ok(())
    }
}

/// `postgres://user:password@host:port/database`. The password is masked wherever it is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Url);

impl DatabaseUrl {
    /// The URL with its password.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }

    fn masked(&self) -> String {
        let mut url = self.0.clone();
        if url.password().is_some() {
            // Fails for a URL without a host only, which has no password either.
            let _ = url.set_password(Some(MASK));
        }
        // Parameters can carry a password too (`?password=`).
        if url.query().is_some() {
            url.set_query(Some(MASK));
        }
        url.to_string()
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.masked())
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The text is not repeated in errors: it may hold a password.
        const EXPECTED: &str = "expected \"postgres://user:password@host/database\"; \
            for SQLite in the data folder leave the key out";
        let text = String::deserialize(deserializer)?;
        match Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "postgres" | "postgresql") => Ok(Self(url)),
            _ => Err(D::Error::custom(EXPECTED)),
        }
    }
}
