//! The full-text index: FTS5 on SQLite, `tsvector` on PostgreSQL.
//!
//! Texts come here as words with spaces between them, so that both engines take them apart alike. Neither stems: rooms
//! are in any language.

use crate::{
    Database, Engine, Result, Transaction,
    insert::{Column, insert},
    statement::statement,
};

/// A text that is to be found.
#[derive(Clone, Debug)]
pub struct Searchable {
    /// The position of its event.
    pub position: i64,
    /// The room.
    pub room_nid: i64,
    /// Which text of the event it is: `body`, `name` or `topic`.
    pub kind: &'static str,
    /// Its words.
    pub words: String,
}

/// What is searched for.
#[derive(Clone, Debug)]
pub struct SearchQuery<'a> {
    /// Words without anything else in them; all have to be there.
    pub words: &'a [String],
    /// In which rooms.
    pub rooms: Vec<i64>,
    /// In which texts.
    pub kinds: Vec<String>,
    /// Events up to this position.
    pub up_to: i64,
    /// Whether what fits best comes first, not what is newest.
    pub by_rank: bool,
    /// The most matches.
    pub limit: i64,
}

impl Database {
    /// The positions of the events that match, and how well in millionths: more is better; 0 where that isn't asked.
    pub async fn search(&self, query: SearchQuery<'_>) -> Result<Vec<(i64, i64)>> {
        let is_sqlite = self.engine() == Engine::Sqlite;
        let (rank, matching) = if is_sqlite {
            (
                "CAST(bm25(search_words) * -1000000 AS INTEGER)",
                "FROM search_words JOIN searchable s ON s.position = search_words.rowid \
                 JOIN events e ON e.position = s.position WHERE search_words MATCH $1",
            )
        } else {
            (
                "CAST(ts_rank_cd(w.words, q.query) * 1000000 AS BIGINT)",
                "FROM search_words w JOIN searchable s ON s.position = w.rowid \
                 JOIN events e ON e.position = s.position \
                 CROSS JOIN plainto_tsquery('simple', $1) AS q (query) WHERE w.words @@ q.query",
            )
        };
        let (rank, order) = match query.by_rank {
            true => (rank, "2 DESC, 1 DESC"),
            false => ("CAST(0 AS BIGINT)", "1 DESC"),
        };
        let words = match is_sqlite {
            true => query
                .words
                .iter()
                .map(|word| format!("\"{word}\""))
                .collect(),
            false => query.words.to_vec(),
        };
        statement(format!(
            "SELECT s.position, {rank} {matching} AND s.room_nid IN ({{ints $2}}) AND s.kind IN ({{texts $3}}) \
             AND s.position <= $4 AND e.redacted_by IS NULL ORDER BY {order} LIMIT $5"
        ))
        .bind(words.join(" "))
        .bind(query.rooms)
        .bind(query.kinds)
        .bind(query.up_to)
        .bind(query.limit)
        .all(self)
        .await
    }
}

/// Adds texts to the index.
pub(crate) async fn add_texts(transaction: &mut Transaction, texts: Vec<Searchable>) -> Result<()> {
    let (mut positions, mut rooms) = (Vec::new(), Vec::new());
    let (mut kinds, mut words) = (Vec::new(), Vec::new());
    for text in texts {
        positions.push(text.position);
        rooms.push(text.room_nid);
        kinds.push(text.kind.to_owned());
        words.push(text.words);
    }
    if positions.is_empty() {
        return Ok(());
    }
    let columns = vec![
        Column::Int(positions.clone()),
        Column::Int(rooms),
        Column::Text(kinds),
    ];
    insert(
        transaction,
        "searchable (position, room_nid, kind)",
        columns,
        "",
    )
    .await?;
    match transaction.engine() {
        Engine::Sqlite => {
            let columns = vec![Column::Int(positions), Column::Text(words)];
            insert(transaction, "search_words (rowid, words)", columns, "").await
        }
        Engine::Postgres => {
            statement(
                "INSERT INTO search_words (rowid, words) SELECT t.position, to_tsvector('simple', t.words) \
                 FROM UNNEST($1::BIGINT[], $2::TEXT[]) AS t (position, words)",
            )
            .bind(positions)
            .bind(words)
            .run(transaction)
            .await?;
            Ok(())
        }
    }
}

/// Takes the texts of events out of the index.
pub(crate) async fn remove_texts(transaction: &mut Transaction, positions: Vec<i64>) -> Result<()> {
    for text in [
        "DELETE FROM searchable WHERE position IN ({ints $1})",
        "DELETE FROM search_words WHERE rowid IN ({ints $1})",
    ] {
        let statement = statement(text).bind(positions.clone());
        statement.run(transaction).await?;
    }
    Ok(())
}
