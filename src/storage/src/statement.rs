//! One way to write a statement for both engines.
//!
//! ```ignore
//! let rooms: Vec<(i64, String)> = statement("SELECT nid, room_id FROM rooms WHERE nid IN ({ints $1})")
//!     .bind(room_nids)
//!     .all(database)
//!     .await?;
//! ```
//!
//! `{ints $1}`, `{texts $1}` and `{bytes $1}` take a list, bound as one parameter, apart into rows: by `json_each` on
//! SQLite, by `UNNEST` on PostgreSQL. The text is otherwise the same for both.

use std::borrow::Cow;

use sqlx::{
    AssertSqlSafe, FromRow, Postgres, SqlSafeStr, SqlStr, Sqlite,
    postgres::{PgArguments, PgRow},
    query::{Query, QueryAs},
    sqlite::{SqliteArguments, SqliteRow},
};

use crate::{Database, Engine, Result, Transaction, database::Pools};

/// A value to be bound to a placeholder.
#[derive(Clone, Debug)]
pub enum Value {
    /// `BIGINT`.
    Int(Option<i64>),
    /// `TEXT`.
    Text(Option<String>),
    /// `BYTEA` or `BLOB`.
    Bytes(Option<Vec<u8>>),
    /// `BOOLEAN`.
    Bool(bool),
    /// A list for `{ints $n}`.
    Ints(Vec<i64>),
    /// A list for `{texts $n}`.
    Texts(Vec<String>),
    /// A list for `{bytes $n}`.
    ByteLists(Vec<Vec<u8>>),
}

macro_rules! value_from {
    ($($type:ty => |$value:ident| $make:expr;)*) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $make
            }
        })*
    };
}

value_from! {
    i64 => |value| Self::Int(Some(value));
    Option<i64> => |value| Self::Int(value);
    String => |value| Self::Text(Some(value));
    &str => |value| Self::Text(Some(value.to_owned()));
    Option<String> => |value| Self::Text(value);
    Option<&str> => |value| Self::Text(value.map(ToOwned::to_owned));
    Vec<u8> => |value| Self::Bytes(Some(value));
    &[u8] => |value| Self::Bytes(Some(value.to_vec()));
    Option<Vec<u8>> => |value| Self::Bytes(value);
    bool => |value| Self::Bool(value);
    Vec<i64> => |value| Self::Ints(value);
    Vec<String> => |value| Self::Texts(value);
    Vec<Vec<u8>> => |value| Self::ByteLists(value);
}

/// A row that both engines can give: any tuple of `i64`, `String`, `Vec<u8>`, `bool` and options of them.
pub trait Row:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static
{
}

impl<T> Row for T where
    T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static
{
}

/// A statement with its values.
#[derive(Clone, Debug)]
pub struct Statement {
    text: Cow<'static, str>,
    values: Vec<Value>,
}

/// Begins a statement.
pub fn statement(text: impl Into<Cow<'static, str>>) -> Statement {
    Statement {
        text: text.into(),
        values: Vec::new(),
    }
}

impl Statement {
    /// Binds the next placeholder.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// All rows, from a reading connection.
    pub async fn all<T: Row>(self, database: &Database) -> Result<Vec<T>> {
        Ok(match database.pools() {
            Pools::Sqlite { readers, .. } => {
                let query = self.sqlite_as::<T>();
                readers
                    .read(async |reader| query.fetch_all(reader).await)
                    .await?
            }
            Pools::Postgres(pool) => self.postgres_as::<T>().fetch_all(pool).await?,
        })
    }

    /// The first row, if there is one, from a reading connection.
    pub async fn optional<T: Row>(self, database: &Database) -> Result<Option<T>> {
        Ok(match database.pools() {
            Pools::Sqlite { readers, .. } => {
                let query = self.sqlite_as::<T>();
                readers
                    .read(async |reader| query.fetch_optional(reader).await)
                    .await?
            }
            Pools::Postgres(pool) => self.postgres_as::<T>().fetch_optional(pool).await?,
        })
    }

    /// The only row, from a reading connection.
    pub async fn one<T: Row>(self, database: &Database) -> Result<T> {
        Ok(match database.pools() {
            Pools::Sqlite { readers, .. } => {
                let query = self.sqlite_as::<T>();
                readers
                    .read(async |reader| query.fetch_one(reader).await)
                    .await?
            }
            Pools::Postgres(pool) => self.postgres_as::<T>().fetch_one(pool).await?,
        })
    }

    /// All rows, within a transaction.
    pub async fn all_in<T: Row>(self, transaction: &mut Transaction) -> Result<Vec<T>> {
        Ok(match transaction {
            Transaction::Sqlite(inner) => {
                self.sqlite_as::<T>().fetch_all(inner.connection()).await?
            }
            Transaction::Postgres(inner) => self.postgres_as::<T>().fetch_all(&mut **inner).await?,
        })
    }

    /// The first row, if there is one, within a transaction.
    pub async fn optional_in<T: Row>(self, transaction: &mut Transaction) -> Result<Option<T>> {
        Ok(match transaction {
            Transaction::Sqlite(inner) => {
                self.sqlite_as::<T>()
                    .fetch_optional(inner.connection())
                    .await?
            }
            Transaction::Postgres(inner) => {
                self.postgres_as::<T>().fetch_optional(&mut **inner).await?
            }
        })
    }

    /// The only row, within a transaction.
    pub async fn one_in<T: Row>(self, transaction: &mut Transaction) -> Result<T> {
        Ok(match transaction {
            Transaction::Sqlite(inner) => {
                self.sqlite_as::<T>().fetch_one(inner.connection()).await?
            }
            Transaction::Postgres(inner) => self.postgres_as::<T>().fetch_one(&mut **inner).await?,
        })
    }

    /// Runs it within a transaction; how many rows it changed.
    pub async fn run(self, transaction: &mut Transaction) -> Result<u64> {
        Ok(match transaction {
            Transaction::Sqlite(inner) => self
                .sqlite()
                .execute(inner.connection())
                .await?
                .rows_affected(),
            Transaction::Postgres(inner) => {
                self.postgres().execute(&mut **inner).await?.rows_affected()
            }
        })
    }

    fn sqlite(self) -> Query<'static, Sqlite, SqliteArguments> {
        let query = sqlx::query(for_engine(self.text, Engine::Sqlite));
        self.values
            .into_iter()
            .fold(query, |query, value| match value {
                Value::Int(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::Bytes(value) => query.bind(value),
                Value::Bool(value) => query.bind(value),
                list => query.bind(list_as_json(&list)),
            })
    }

    fn sqlite_as<T: Row>(self) -> QueryAs<'static, Sqlite, T, SqliteArguments> {
        let query = sqlx::query_as(for_engine(self.text, Engine::Sqlite));
        self.values
            .into_iter()
            .fold(query, |query, value| match value {
                Value::Int(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::Bytes(value) => query.bind(value),
                Value::Bool(value) => query.bind(value),
                list => query.bind(list_as_json(&list)),
            })
    }

    fn postgres(self) -> Query<'static, Postgres, PgArguments> {
        let query = sqlx::query(for_engine(self.text, Engine::Postgres));
        self.values
            .into_iter()
            .fold(query, |query, value| match value {
                Value::Int(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::Bytes(value) => query.bind(value),
                Value::Bool(value) => query.bind(value),
                Value::Ints(list) => query.bind(list),
                Value::Texts(list) => query.bind(list),
                Value::ByteLists(list) => query.bind(list),
            })
    }

    fn postgres_as<T: Row>(self) -> QueryAs<'static, Postgres, T, PgArguments> {
        let query = sqlx::query_as(for_engine(self.text, Engine::Postgres));
        self.values
            .into_iter()
            .fold(query, |query, value| match value {
                Value::Int(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::Bytes(value) => query.bind(value),
                Value::Bool(value) => query.bind(value),
                Value::Ints(list) => query.bind(list),
                Value::Texts(list) => query.bind(list),
                Value::ByteLists(list) => query.bind(list),
            })
    }
}

/// A list as the JSON that `json_each` takes apart; bytes as hexadecimal.
fn list_as_json(list: &Value) -> String {
    let json = match list {
        Value::Ints(list) => serde_json::to_string(list),
        Value::Texts(list) => serde_json::to_string(list),
        Value::ByteLists(list) => {
            serde_json::to_string(&list.iter().map(|bytes| to_hex(bytes)).collect::<Vec<_>>())
        }
        _ => Ok("[]".to_owned()),
    };
    json.unwrap_or_else(|_| "[]".to_owned())
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Puts in what `{ints $1}` and its like mean to `engine`.
fn for_engine(text: Cow<'static, str>, engine: Engine) -> SqlStr {
    if !text.contains('{') {
        return match text {
            Cow::Borrowed(text) => text.into_sql_str(),
            Cow::Owned(text) => AssertSqlSafe(text).into_sql_str(),
        };
    }
    let mut result = String::with_capacity(text.len() + 32);
    let mut rest = text.as_ref();
    while let Some((before, after)) = rest.split_once('{') {
        result.push_str(before);
        let (word, after) = after.split_once('}').unwrap_or((after, ""));
        let (kind, placeholder) = word.split_once(' ').unwrap_or((word, ""));
        result.push_str(&list_expression(engine, kind, placeholder));
        rest = after;
    }
    result.push_str(rest);
    AssertSqlSafe(result).into_sql_str()
}

fn list_expression(engine: Engine, kind: &str, placeholder: &str) -> String {
    match (engine, kind) {
        (Engine::Sqlite, "bytes") => format!("SELECT unhex(value) FROM json_each({placeholder})"),
        (Engine::Sqlite, _) => format!("SELECT value FROM json_each({placeholder})"),
        (Engine::Postgres, "ints") => format!("SELECT UNNEST({placeholder}::BIGINT[])"),
        (Engine::Postgres, "texts") => format!("SELECT UNNEST({placeholder}::TEXT[])"),
        (Engine::Postgres, _) => format!("SELECT UNNEST({placeholder}::BYTEA[])"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_taken_apart_in_the_way_of_the_engine() {
        let text = "SELECT 1 WHERE nid IN ({ints $1}) AND name IN ({texts $2})";
        assert_eq!(
            for_engine(text.into(), Engine::Sqlite).as_str(),
            "SELECT 1 WHERE nid IN (SELECT value FROM json_each($1)) AND name IN (SELECT value FROM json_each($2))"
        );
        assert_eq!(
            for_engine(text.into(), Engine::Postgres).as_str(),
            "SELECT 1 WHERE nid IN (SELECT UNNEST($1::BIGINT[])) AND name IN (SELECT UNNEST($2::TEXT[]))"
        );
    }

    #[test]
    fn bytes_travel_to_sqlite_as_hexadecimal() {
        assert_eq!(
            list_as_json(&Value::ByteLists(vec![vec![0, 255, 16]])),
            r#"["00ff10"]"#
        );
    }
}
