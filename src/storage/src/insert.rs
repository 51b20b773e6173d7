//! Many rows in one statement: `UNNEST` of a column each on PostgreSQL, rows of `VALUES` on SQLite, whichever is the
//! fastest there (docs/performance.md).

use std::fmt::Write;

use sqlx::{
    AssertSqlSafe, Postgres, Sqlite, postgres::PgArguments, query::Query, sqlite::SqliteArguments,
};

use crate::{Result, Transaction};

/// Rows a SQLite statement may have. Only these sizes are used, so that few statements need preparing.
const SQLITE_CHUNKS: [usize; 4] = [64, 16, 4, 1];

/// The values of one column, one for each row.
#[derive(Debug)]
pub(crate) enum Column {
    Int(Vec<i64>),
    OptionalInt(Vec<Option<i64>>),
    Text(Vec<String>),
    OptionalText(Vec<Option<String>>),
    Bytes(Vec<Vec<u8>>),
    Bool(Vec<bool>),
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Self::Int(list) => list.len(),
            Self::OptionalInt(list) => list.len(),
            Self::Text(list) => list.len(),
            Self::OptionalText(list) => list.len(),
            Self::Bytes(list) => list.len(),
            Self::Bool(list) => list.len(),
        }
    }

    fn postgres_type(&self) -> &'static str {
        match self {
            Self::Int(_) | Self::OptionalInt(_) => "BIGINT[]",
            Self::Text(_) | Self::OptionalText(_) => "TEXT[]",
            Self::Bytes(_) => "BYTEA[]",
            Self::Bool(_) => "BOOLEAN[]",
        }
    }

    /// Takes the value of a row out of the column and binds it.
    fn bind_row<'q>(
        &mut self,
        row: usize,
        query: Query<'q, Sqlite, SqliteArguments>,
    ) -> Query<'q, Sqlite, SqliteArguments> {
        match self {
            Self::Int(list) => query.bind(list[row]),
            Self::OptionalInt(list) => query.bind(list[row]),
            Self::Text(list) => query.bind(std::mem::take(&mut list[row])),
            Self::OptionalText(list) => query.bind(list[row].take()),
            Self::Bytes(list) => query.bind(std::mem::take(&mut list[row])),
            Self::Bool(list) => query.bind(list[row]),
        }
    }

    fn bind_all<'q>(
        self,
        query: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        match self {
            Self::Int(list) => query.bind(list),
            Self::OptionalInt(list) => query.bind(list),
            Self::Text(list) => query.bind(list),
            Self::OptionalText(list) => query.bind(list),
            Self::Bytes(list) => query.bind(list),
            Self::Bool(list) => query.bind(list),
        }
    }
}

/// Inserts rows.
///
/// `into` is the table with its columns, `"receipts (room_nid, user_nid)"`; `conflict` what to do with a row that is
/// there already, `"ON CONFLICT DO NOTHING"` or empty; `columns` have all the same number of values.
pub(crate) async fn insert(
    transaction: &mut Transaction,
    into: &str,
    mut columns: Vec<Column>,
    conflict: &str,
) -> Result<()> {
    let rows = columns.first().map_or(0, Column::len);
    debug_assert!(
        columns.iter().all(|column| column.len() == rows),
        "columns differ in length"
    );
    if rows == 0 {
        return Ok(());
    }
    match transaction {
        Transaction::Postgres(inner) => {
            let text = postgres_text(into, &columns, conflict);
            let query = sqlx::query(AssertSqlSafe(text));
            let query = columns
                .into_iter()
                .fold(query, |query, column| column.bind_all(query));
            query.execute(&mut **inner).await?;
        }
        Transaction::Sqlite(inner) => {
            let mut row = 0;
            for size in chunks(rows) {
                let text = sqlite_text(into, columns.len(), size, conflict);
                let mut query = sqlx::query(AssertSqlSafe(text));
                for row in row..row + size {
                    for column in &mut columns {
                        query = column.bind_row(row, query);
                    }
                }
                query.execute(inner.connection()).await?;
                row += size;
            }
        }
    }
    Ok(())
}

/// Takes `rows` apart into the sizes of [`SQLITE_CHUNKS`].
fn chunks(rows: usize) -> Vec<usize> {
    let mut left = rows;
    let mut sizes = Vec::new();
    for size in SQLITE_CHUNKS {
        while left >= size {
            sizes.push(size);
            left -= size;
        }
    }
    sizes
}

fn postgres_text(into: &str, columns: &[Column], conflict: &str) -> String {
    let mut text = format!("INSERT INTO {into} SELECT * FROM UNNEST(");
    for (index, column) in columns.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        // Writing to a string doesn't fail.
        let _ = write!(text, "{comma}${}::{}", index + 1, column.postgres_type());
    }
    let _ = write!(text, ") {conflict}");
    text
}

/// `OR FAIL` spares SQLite to note each page as it was before the statement, so that it could undo the statement alone: as on
/// PostgreSQL, nothing is done in a transaction one of whose statements has failed.
fn sqlite_text(into: &str, columns: usize, rows: usize, conflict: &str) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    format!(
        "INSERT OR FAIL INTO {into} VALUES {} {conflict}",
        vec![row; rows].join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_apart_into_few_sizes() {
        assert_eq!(chunks(86), [64, 16, 4, 1, 1]);
        assert_eq!(chunks(0), [0; 0]);
    }

    #[test]
    fn each_engine_gets_its_own_form() {
        let columns = [Column::Int(vec![1]), Column::OptionalText(vec![None])];
        assert_eq!(
            postgres_text("t (a, b)", &columns, "ON CONFLICT DO NOTHING"),
            "INSERT INTO t (a, b) SELECT * FROM UNNEST($1::BIGINT[], $2::TEXT[]) ON CONFLICT DO NOTHING"
        );
        assert_eq!(
            sqlite_text("t (a, b)", 2, 2, ""),
            "INSERT OR FAIL INTO t (a, b) VALUES (?, ?), (?, ?) "
        );
    }
}
