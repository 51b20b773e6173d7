//! The keys that this server signs with.

use crate::{Database, Result, statement::statement};

/// A signing key.
#[derive(Clone)]
pub struct SigningKeyRow {
    /// The part after `ed25519:` of its id.
    pub version: String,
    /// PKCS#8 (DER).
    pub private_key: Vec<u8>,
}

impl Database {
    /// Takes keys of another homeserver: the first is used from now on, the others and those that are here have expired.
    /// `false`, and nothing is changed, if there is another key of the same version.
    pub async fn import_signing_keys(&self, keys: Vec<SigningKeyRow>, now: i64) -> Result<bool> {
        let mut transaction = self.write().await?;
        statement("UPDATE signing_keys SET expired_at = $1 WHERE expired_at IS NULL")
            .bind(now)
            .run(&mut transaction)
            .await?;
        for (index, key) in keys.into_iter().enumerate() {
            let expired_at = (index > 0).then_some(now);
            let taken = statement(
                "INSERT INTO signing_keys (key_id, private_key, created_at, expired_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (key_id) DO UPDATE SET expired_at = excluded.expired_at, created_at = excluded.created_at \
                 WHERE signing_keys.private_key = excluded.private_key",
            )
            .bind(key.version)
            .bind(key.private_key)
            .bind(now)
            .bind(expired_at)
            .run(&mut transaction)
            .await?;
            if taken == 0 {
                return Ok(false);
            }
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// The signing keys that are no longer used, with the time until which they were.
    pub async fn expired_signing_keys(&self) -> Result<Vec<(SigningKeyRow, i64)>> {
        let rows: Vec<(String, Vec<u8>, i64)> = statement(
            "SELECT key_id, private_key, expired_at FROM signing_keys WHERE expired_at IS NOT NULL",
        )
        .all(self)
        .await?;
        let key = |(version, private_key, expired_at)| {
            let row = SigningKeyRow {
                version,
                private_key,
            };
            (row, expired_at)
        };
        Ok(rows.into_iter().map(key).collect())
    }

    /// The newest signing key that has not expired. If there is none, the one given is stored and returned: of several
    /// nodes that start at once, one has its key stored.
    pub async fn signing_key_or(
        &self,
        version: &str,
        private_key: &[u8],
        created_at: i64,
    ) -> Result<SigningKeyRow> {
        let mut transaction = self.write().await?;
        // The lock of the stream orders the nodes.
        statement("UPDATE stream SET position = position WHERE id = 1")
            .run(&mut transaction)
            .await?;
        let newest: Option<(String, Vec<u8>)> = statement(
            "SELECT key_id, private_key FROM signing_keys WHERE expired_at IS NULL \
             ORDER BY created_at DESC, key_id LIMIT 1",
        )
        .optional_in(&mut transaction)
        .await?;
        let (version, private_key) = match newest {
            Some(newest) => newest,
            None => {
                statement("INSERT INTO signing_keys (key_id, private_key, created_at) VALUES ($1, $2, $3)")
                    .bind(version)
                    .bind(private_key)
                    .bind(created_at)
                    .run(&mut transaction)
                    .await?;
                (version.to_owned(), private_key.to_vec())
            }
        };
        transaction.commit().await?;
        Ok(SigningKeyRow {
            version,
            private_key,
        })
    }
}
