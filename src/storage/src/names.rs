//! Interned names: users, rooms, event types and places of state stand in the hot tables as numbers.
//!
//! A number, once committed, never changes, so it may be cached without ever being told to forget. A number that was
//! made by a transaction enters the cache only after its commit: see [`Interned`].

use std::collections::HashMap;

use quick_cache::sync::Cache;
use ruma::{OwnedUserId, UserId};

use crate::{
    Database, Result, StorageError, Transaction,
    insert::{Column, insert},
    statement::statement,
};

/// Numbers kept in memory of each kind. An entry takes about 100 bytes.
const CACHED: usize = 50_000;

/// Parts a state slot's two names in the key of the cache; neither an event type nor a state key that a server
/// accepts is confused by it, as both are compared whole.
const SEPARATOR: char = '\u{0}';

/// The caches of all kinds of names.
#[derive(Debug)]
pub(crate) struct Names {
    users: Cache<Box<str>, i64>,
    user_ids: Cache<i64, Box<str>>,
    types: Cache<Box<str>, i64>,
    slots: Cache<Box<str>, i64>,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self {
            users: Cache::new(CACHED),
            user_ids: Cache::new(CACHED),
            types: Cache::new(1_000),
            slots: Cache::new(CACHED),
        }
    }

    /// Takes over what a transaction made, now that it is committed.
    pub(crate) fn remember(&self, interned: Interned) {
        for (name, nid) in interned.users {
            self.user_ids.insert(nid, name.clone());
            self.users.insert(name, nid);
        }
        for (name, nid) in interned.types {
            self.types.insert(name, nid);
        }
        for (name, nid) in interned.slots {
            self.slots.insert(name, nid);
        }
    }
}

/// The numbers that one transaction needs: looked up in the cache, then in the database, made where new. Call
/// [`Names::remember`] with it after the commit, and drop it if the commit fails.
#[derive(Debug, Default)]
pub(crate) struct Interned {
    users: HashMap<Box<str>, i64>,
    types: HashMap<Box<str>, i64>,
    slots: HashMap<Box<str>, i64>,
}

/// Names that are to be interned.
#[derive(Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) users: Vec<&'a str>,
    pub(crate) types: Vec<&'a str>,
    pub(crate) slots: Vec<(&'a str, &'a str)>,
}

fn slot_key(event_type: &str, state_key: &str) -> Box<str> {
    format!("{event_type}{SEPARATOR}{state_key}").into_boxed_str()
}

impl Interned {
    /// The number of a user who was among those wanted.
    pub(crate) fn user(&self, user_id: &str) -> Result<i64> {
        found(self.users.get(user_id), user_id)
    }

    /// The number of an event type that was among those wanted.
    pub(crate) fn event_type(&self, name: &str) -> Result<i64> {
        found(self.types.get(name), name)
    }

    /// The number of a place of state that was among those wanted.
    pub(crate) fn slot(&self, event_type: &str, state_key: &str) -> Result<i64> {
        found(self.slots.get(&slot_key(event_type, state_key)), event_type)
    }
}

fn found(nid: Option<&i64>, name: &str) -> Result<i64> {
    nid.copied()
        .ok_or_else(|| StorageError::Corrupt(format!("the name {name:?} was not interned")))
}

/// Finds or makes the numbers of all `wanted` names.
pub(crate) async fn intern(
    names: &Names,
    transaction: &mut Transaction,
    wanted: &Wanted<'_>,
) -> Result<Interned> {
    let mut interned = Interned::default();
    let users = cached(
        &names.users,
        wanted.users.iter().map(|name| Box::from(*name)),
        &mut interned.users,
    );
    let types = cached(
        &names.types,
        wanted.types.iter().map(|name| Box::from(*name)),
        &mut interned.types,
    );
    let slots = cached(
        &names.slots,
        wanted
            .slots
            .iter()
            .map(|(event_type, state_key)| slot_key(event_type, state_key)),
        &mut interned.slots,
    );
    if !users.is_empty() {
        interned
            .users
            .extend(intern_single(transaction, "users", "user_id", &users).await?);
    }
    if !types.is_empty() {
        interned
            .types
            .extend(intern_single(transaction, "event_types", "name", &types).await?);
    }
    if !slots.is_empty() {
        interned
            .slots
            .extend(intern_slots(transaction, &slots).await?);
    }
    Ok(interned)
}

/// Splits names into those the cache knows, put into `known`, and the others, each once.
fn cached(
    cache: &Cache<Box<str>, i64>,
    wanted: impl Iterator<Item = Box<str>>,
    known: &mut HashMap<Box<str>, i64>,
) -> Vec<String> {
    let mut missing = Vec::new();
    for name in wanted {
        if known.contains_key(&name) {
            continue;
        }
        match cache.get(&name) {
            Some(nid) => {
                known.insert(name, nid);
            }
            None => missing.push(name.into_string()),
        }
    }
    missing.sort_unstable();
    missing.dedup();
    missing
}

async fn intern_single(
    transaction: &mut Transaction,
    table: &str,
    column: &str,
    names: &[String],
) -> Result<Vec<(Box<str>, i64)>> {
    let into = format!("{table} ({column})");
    insert(
        transaction,
        &into,
        vec![Column::Text(names.to_vec())],
        "ON CONFLICT DO NOTHING",
    )
    .await?;
    let rows: Vec<(i64, String)> = statement(format!(
        "SELECT nid, {column} FROM {table} WHERE {column} IN ({{texts $1}})"
    ))
    .bind(names.to_vec())
    .all_in(transaction)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(nid, name)| (name.into_boxed_str(), nid))
        .collect())
}

async fn intern_slots(
    transaction: &mut Transaction,
    keys: &[String],
) -> Result<Vec<(Box<str>, i64)>> {
    let (event_types, state_keys): (Vec<String>, Vec<String>) = keys
        .iter()
        .filter_map(|key| key.split_once(SEPARATOR))
        .map(|(event_type, state_key)| (event_type.to_owned(), state_key.to_owned()))
        .unzip();
    insert(
        transaction,
        "state_slots (event_type, state_key)",
        vec![
            Column::Text(event_types.clone()),
            Column::Text(state_keys.clone()),
        ],
        "ON CONFLICT DO NOTHING",
    )
    .await?;
    let rows: Vec<(i64, String, String)> = statement(
        "SELECT nid, event_type, state_key FROM state_slots \
         WHERE event_type IN ({texts $1}) AND state_key IN ({texts $2})",
    )
    .bind(event_types)
    .bind(state_keys)
    .all_in(transaction)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(nid, event_type, state_key)| (slot_key(&event_type, &state_key), nid))
        .collect())
}

impl Database {
    /// The number of a user, made if there is none. For what is not committed through the stream.
    pub async fn intern_user(
        &self,
        transaction: &mut Transaction,
        user_id: &UserId,
    ) -> Result<i64> {
        let wanted = Wanted {
            users: vec![user_id.as_str()],
            ..Wanted::default()
        };
        intern(self.names(), transaction, &wanted)
            .await?
            .user(user_id.as_str())
    }

    /// The number of a user, if this server has met them.
    pub async fn user_nid(&self, user_id: &UserId) -> Result<Option<i64>> {
        if let Some(nid) = self.names().users.get(user_id.as_str()) {
            return Ok(Some(nid));
        }
        let row: Option<(i64,)> = statement("SELECT nid FROM users WHERE user_id = $1")
            .bind(user_id.as_str())
            .optional(self)
            .await?;
        Ok(row.map(|(nid,)| {
            self.names().users.insert(user_id.as_str().into(), nid);
            nid
        }))
    }

    /// The numbers of those of some users whom this server has met.
    pub async fn user_nids(
        &self,
        user_ids: impl IntoIterator<Item = &UserId>,
    ) -> Result<HashMap<OwnedUserId, i64>> {
        let mut nids = HashMap::new();
        let mut unknown = Vec::new();
        for user_id in user_ids {
            match self.names().users.get(user_id.as_str()) {
                Some(nid) => drop(nids.insert(user_id.to_owned(), nid)),
                None => unknown.push(user_id.to_string()),
            }
        }
        if unknown.is_empty() {
            return Ok(nids);
        }
        let rows: Vec<(String, i64)> =
            statement("SELECT user_id, nid FROM users WHERE user_id IN ({texts $1})")
                .bind(unknown)
                .all(self)
                .await?;
        for (user_id, nid) in rows {
            self.names().users.insert(user_id.as_str().into(), nid);
            nids.insert(crate::rooms::read(user_id)?, nid);
        }
        Ok(nids)
    }

    /// The numbers of some users, made where there are none. For what is not committed through the stream.
    pub async fn intern_users(
        &self,
        transaction: &mut Transaction,
        user_ids: &[OwnedUserId],
    ) -> Result<HashMap<OwnedUserId, i64>> {
        let wanted = Wanted {
            users: user_ids.iter().map(|user_id| user_id.as_str()).collect(),
            ..Wanted::default()
        };
        let interned = intern(self.names(), transaction, &wanted).await?;
        user_ids
            .iter()
            .map(|user_id| Ok((user_id.clone(), interned.user(user_id.as_str())?)))
            .collect()
    }

    /// The id of a user by number.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if there is no such number.
    pub async fn user_id(&self, nid: i64) -> Result<OwnedUserId> {
        let id = match self.names().user_ids.get(&nid) {
            Some(id) => id.into_string(),
            None => {
                let row: Option<(String,)> = statement("SELECT user_id FROM users WHERE nid = $1")
                    .bind(nid)
                    .optional(self)
                    .await?;
                let (id,) = row.ok_or_else(|| StorageError::Corrupt(format!("no user {nid}")))?;
                self.names()
                    .user_ids
                    .insert(nid, id.clone().into_boxed_str());
                id
            }
        };
        OwnedUserId::try_from(id).map_err(|error| StorageError::Corrupt(error.to_string()))
    }

    /// The number of a place of state, if any room has it.
    pub async fn slot_nid(&self, event_type: &str, state_key: &str) -> Result<Option<i64>> {
        let key = slot_key(event_type, state_key);
        if let Some(nid) = self.names().slots.get(&key) {
            return Ok(Some(nid));
        }
        let row: Option<(i64,)> =
            statement("SELECT nid FROM state_slots WHERE event_type = $1 AND state_key = $2")
                .bind(event_type)
                .bind(state_key)
                .optional(self)
                .await?;
        Ok(row.map(|(nid,)| {
            self.names().slots.insert(key, nid);
            nid
        }))
    }
}
