//! Filters that users stored for their clients.

use crate::{Database, Result, Transaction, statement::statement};

/// The content of a filter, JSON, if the user has one of that number.
pub async fn find(database: &Database, user_nid: i64, filter_id: i64) -> Result<Option<String>> {
    let row: Option<(String,)> =
        statement("SELECT content FROM filters WHERE user_nid = $1 AND filter_id = $2")
            .bind(user_nid)
            .bind(filter_id)
            .optional(database)
            .await?;
    Ok(row.map(|(content,)| content))
}

/// The number of the user's filter with that content, if there is one.
pub async fn find_content(
    transaction: &mut Transaction,
    user_nid: i64,
    content: &str,
) -> Result<Option<i64>> {
    let row: Option<(i64,)> =
        statement("SELECT filter_id FROM filters WHERE user_nid = $1 AND content = $2")
            .bind(user_nid)
            .bind(content)
            .optional_in(transaction)
            .await?;
    Ok(row.map(|(filter_id,)| filter_id))
}

/// Stores a filter under the next number; `None` if another transaction took that number at the same moment.
pub async fn insert(
    transaction: &mut Transaction,
    user_nid: i64,
    content: &str,
) -> Result<Option<i64>> {
    let row: Option<(i64,)> = statement(
        "INSERT INTO filters (user_nid, filter_id, content) \
         SELECT $1, COALESCE(MAX(filter_id), 0) + 1, $2 FROM filters WHERE user_nid = $1 \
         ON CONFLICT DO NOTHING RETURNING filter_id",
    )
    .bind(user_nid)
    .bind(content)
    .optional_in(transaction)
    .await?;
    Ok(row.map(|(filter_id,)| filter_id))
}

/// Removes the user's filters with the number `oldest` and below.
pub async fn delete_up_to(transaction: &mut Transaction, user_nid: i64, oldest: i64) -> Result<()> {
    statement("DELETE FROM filters WHERE user_nid = $1 AND filter_id <= $2")
        .bind(user_nid)
        .bind(oldest)
        .run(transaction)
        .await?;
    Ok(())
}
