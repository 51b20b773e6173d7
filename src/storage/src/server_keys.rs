//! Keys of other servers.

use crate::{
    Database, Result,
    insert::{Column, insert},
    statement::statement,
};

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
    /// All keys of a server that are known.
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

    /// Remembers what a server published and the keys in it. Keys that it published before stay.
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
            &mut transaction,
            "server_keys (server_name, key_id, public_key, valid_until)",
            columns,
            "ON CONFLICT (server_name, key_id) DO UPDATE SET public_key = excluded.public_key, \
             valid_until = excluded.valid_until",
        )
        .await?;
        transaction.commit().await
    }
}
