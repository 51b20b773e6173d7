//! The key that this server signs with.

use std::sync::Arc;

use parley_protocol::ServerKey;
use parley_storage::{Database, StorageError};
use ruma::ServerName;

use crate::{Result, clock::Clock, random::Random};

/// Letters of a new key's version.
const VERSION_LENGTH: usize = 6;

/// The newest key of the database; at the first start, a new one.
pub(crate) async fn server_key(
    database: &Database,
    server_name: &ServerName,
    clock: &dyn Clock,
    random: &Arc<dyn Random>,
) -> Result<Arc<ServerKey>> {
    let version = format!("p_{}", random.lower_case(VERSION_LENGTH));
    let stored = database
        .signing_key_or(
            &version,
            &ServerKey::generate(),
            i64::from(clock.now().get()),
        )
        .await?;
    let key = ServerKey::from_der(server_name.to_owned(), &stored.private_key, &stored.version);
    Ok(Arc::new(key.ok_or_else(|| {
        StorageError::Corrupt(format!("the signing key {} can't be read", stored.version))
    })?))
}
