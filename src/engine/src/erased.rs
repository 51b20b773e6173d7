//! Users who asked to be forgotten, in memory: few, and looked for whenever the past of a room is read.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountdeactivate>

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use parley_storage::{Database, Engine as DatabaseEngine, StorageError, accounts};
use ruma::OwnedUserId;

use crate::{Result, clock::Clock};

/// How long the list is believed where another node may have added to it, in milliseconds.
const BELIEVED_WITH_OTHER_NODES: i64 = 10_000;

/// Who asked to be forgotten, with the position of the stream after which nobody new is shown what they wrote.
pub(crate) type ErasedUsers = Arc<HashMap<OwnedUserId, i64>>;

/// Reads them from the database when there may be others.
#[derive(Clone, Debug)]
pub(crate) struct Erased {
    database: Database,
    clock: Arc<dyn Clock>,
    /// Who they are, and until when that is believed.
    known: Arc<Mutex<(ErasedUsers, i64)>>,
}

impl Erased {
    pub(crate) fn new(database: &Database, clock: &Arc<dyn Clock>) -> Self {
        Self {
            database: database.clone(),
            clock: Arc::clone(clock),
            known: Arc::new(Mutex::new((ErasedUsers::default(), i64::MIN))),
        }
    }

    /// All of them.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn users(&self) -> Result<ErasedUsers> {
        let now = self.clock.now_ms();
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if now < known.1 {
                return Ok(Arc::clone(&known.0));
            }
        }
        self.read(now).await
    }

    /// Notes that there is one more.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn changed(&self) -> Result<()> {
        self.read(self.clock.now_ms()).await.map(drop)
    }

    async fn read(&self, now: i64) -> Result<ErasedUsers> {
        let rows = accounts::erased(&self.database).await?;
        let users: HashMap<OwnedUserId, i64> = rows
            .into_iter()
            .map(|(user_id, after)| Ok((OwnedUserId::try_from(user_id)?, after)))
            .collect::<Result<_, ruma::IdParseError>>()
            .map_err(|error| StorageError::Corrupt(error.to_string()))?;
        let users = Arc::new(users);
        let believed = match self.database.engine() {
            DatabaseEngine::Sqlite => i64::MAX,
            DatabaseEngine::Postgres => now.saturating_add(BELIEVED_WITH_OTHER_NODES),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody is ever taken off the list; of two that were read at once the longer is the newer.
        if users.len() >= known.0.len() {
            *known = (Arc::clone(&users), believed);
        }
        Ok(users)
    }
}
