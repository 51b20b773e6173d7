//! Keys of other servers.

use crate::{
    Database, Result, Transaction,
    insert::{Column, insert},
    statement::statement,
};

/// Keys of one server that are remembered.
const MAX_KEYS: i64 = 100;

/// A key of another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerKeyRow {
    /// Its id, with the algorithm.
    pub key_id: String,
    /// The key itself.
    pub public_key: Vec<u8>,
    /// Until when it signs, or signed; milliseconds since the Unix epoch.
    pub valid_until: i64,
}

/// What another server published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedKeysRow {
    /// Canonical JSON, signed by that server.
    pub json: String,
    /// Until when it holds; milliseconds since the Unix epoch.
    pub valid_until: i64,
}

impl Database {
    /// All keys of a server that are remembered for good.
    pub async fn server_keys(&self, server_name: &str) -> Result<Vec<ServerKeyRow>> {
        let rows: Vec<(String, Vec<u8>, i64)> = statement(
            "SELECT key_id, public_key, valid_until FROM server_keys WHERE server_name = $1",
        )
        .bind(server_name)
        .all(self)
        .await?;
        let row = |(key_id, public_key, valid_until)| ServerKeyRow {
            key_id,
            public_key,
            valid_until,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// What a server published last.
    pub async fn published_keys(&self, server_name: &str) -> Result<Option<PublishedKeysRow>> {
        let row: Option<(String, i64)> =
            statement("SELECT json, valid_until FROM published_keys WHERE server_name = $1")
                .bind(server_name)
                .optional(self)
                .await?;
        Ok(row.map(|(json, valid_until)| PublishedKeysRow { json, valid_until }))
    }

    /// Remembers what a server published, and keys of it for good. Keys that it published before stay.
    pub async fn set_published_keys(
        &self,
        server_name: &str,
        published: &PublishedKeysRow,
        fetched_at: i64,
        keys: Vec<ServerKeyRow>,
    ) -> Result<()> {
        let mut transaction = self.write().await?;
        statement(
            "INSERT INTO published_keys (server_name, json, valid_until, fetched_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (server_name) DO UPDATE SET json = excluded.json, valid_until = excluded.valid_until, \
             fetched_at = excluded.fetched_at WHERE published_keys.valid_until <= excluded.valid_until",
        )
        .bind(server_name)
        .bind(published.json.as_str())
        .bind(published.valid_until)
        .bind(fetched_at)
        .run(&mut transaction)
        .await?;
        write_keys(&mut transaction, server_name, keys).await?;
        transaction.commit().await
    }

    /// Remembers keys of a server, for good.
    pub async fn add_server_keys(&self, server_name: &str, keys: Vec<ServerKeyRow>) -> Result<()> {
        let mut transaction = self.write().await?;
        write_keys(&mut transaction, server_name, keys).await?;
        transaction.commit().await
    }

    /// Forgets what servers published of which no key is remembered, but for `kept` of them, those that were asked last.
    pub async fn forget_published_keys(&self, kept: i64) -> Result<()> {
        let mut transaction = self.write().await?;
        statement(
            "DELETE FROM published_keys WHERE fetched_at <= \
             (SELECT p.fetched_at FROM published_keys p WHERE NOT EXISTS \
             (SELECT 1 FROM server_keys k WHERE k.server_name = p.server_name) \
             ORDER BY p.fetched_at DESC LIMIT 1 OFFSET $1) AND NOT EXISTS \
             (SELECT 1 FROM server_keys k WHERE k.server_name = published_keys.server_name)",
        )
        .bind(kept)
        .run(&mut transaction)
        .await?;
        transaction.commit().await
    }
}

/// Writes keys of a server. Of more than [`MAX_KEYS`] those stay that hold the longest.
async fn write_keys(
    transaction: &mut Transaction,
    server_name: &str,
    keys: Vec<ServerKeyRow>,
) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let (mut ids, mut publics, mut validities) = (Vec::new(), Vec::new(), Vec::new());
    for key in keys {
        ids.push(key.key_id);
        publics.push(key.public_key);
        validities.push(key.valid_until);
    }
    let columns = vec![
        Column::Text(vec![server_name.to_owned(); ids.len()]),
        Column::Text(ids),
        Column::Bytes(publics),
        Column::Int(validities),
    ];
    insert(
        transaction,
        "server_keys (server_name, key_id, public_key, valid_until)",
        columns,
        "ON CONFLICT (server_name, key_id) DO UPDATE SET public_key = excluded.public_key, \
         valid_until = excluded.valid_until",
    )
    .await?;
    statement(
        "DELETE FROM server_keys WHERE server_name = $1 AND key_id IN \
         (SELECT key_id FROM server_keys WHERE server_name = $1 \
         ORDER BY valid_until DESC, key_id LIMIT $3 OFFSET $2)",
    )
    .bind(server_name)
    .bind(MAX_KEYS)
    .bind(i64::MAX)
    .run(transaction)
    .await?;
    Ok(())
}
