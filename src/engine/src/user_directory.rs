//! Finding users by their names: <https://spec.matrix.org/v1.19/client-server-api/#user-directory>.
//!
//! Users of this server are found by their profiles, others by the names that they have in the rooms that this server is in.
//! Users are found by the beginnings of the words in their display names and localparts. The words stand in an index, so
//! that a search looks at those who fit and at nobody else.

mod others;

pub(crate) use self::others::Others;

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use parley_storage::{
    Database, StorageError, Transaction,
    user_directory::{self, Found, Search},
};
use ruma::{OwnedMxcUri, OwnedServerName, OwnedUserId, UserId};

use crate::{
    EngineError, Result, accounts::is_guest_name, rooms::indexer::Indexer, sessions::Session,
    settings::EngineSettings,
};

/// Results that are given at most.
const MAX_RESULTS: usize = 50;
/// Rows that are looked at for them.
const MAX_ROWS: i64 = 500;
/// Words of a search; further ones are passed over.
const MAX_SEARCHED: usize = 6;
/// Words by which a user is found; further ones are passed over.
const MAX_WORDS: usize = 40;
/// Of a word, in characters; the rest is cut off.
const MAX_WORD: usize = 60;
/// Users who are listed at once, where that was not done when they registered.
const BATCH: i64 = 500;

/// Finds users.
#[derive(Clone, Debug)]
pub struct UserDirectory {
    database: Database,
    server_name: OwnedServerName,
    all_users: bool,
    /// Lists users of other servers.
    indexer: Arc<Indexer>,
}

/// Somebody who was found.
#[derive(Clone, Debug)]
pub struct FoundUser {
    /// Who it is.
    pub user_id: OwnedUserId,
    /// The display name, if there is one.
    pub display_name: Option<String>,
    /// The address of the picture, if there is one.
    pub avatar_url: Option<OwnedMxcUri>,
}

impl UserDirectory {
    pub(crate) fn new(
        database: &Database,
        settings: &Arc<EngineSettings>,
        indexer: &Arc<Indexer>,
    ) -> Self {
        Self {
            indexer: Arc::clone(indexer),
            database: database.clone(),
            server_name: settings.server_name.clone(),
            all_users: settings.user_directory.all_users,
        }
    }

    /// Users whose names fit, the best first, at most `limit` and at most 50; and whether there are more.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn search(
        &self,
        session: &Session,
        term: &str,
        limit: usize,
    ) -> Result<(Vec<FoundUser>, bool)> {
        let limit = limit.min(MAX_RESULTS);
        let term = term.trim().to_lowercase();
        // Users are also looked for by their whole ID.
        let name = term.strip_suffix(self.server_name.as_str());
        let name = name
            .and_then(|name| name.strip_suffix(':'))
            .unwrap_or(&term);
        let name = name.strip_prefix('@').unwrap_or(name);
        // Of another server's users, that has to be the same.
        let (name, server) = match name.split_once(':') {
            Some((name, server)) => (name, Some(server)),
            None => (name, None),
        };
        let mut beginnings: Vec<String> = words(name).into_iter().take(MAX_SEARCHED).collect();
        if beginnings.is_empty() && !name.is_empty() && !name.contains('\0') {
            // Who has no letters in their name is listed by the whole of it.
            beginnings.push(name.to_owned());
        }
        // The longest fits the fewest.
        beginnings.sort_by_key(|word| Reverse(word.len()));
        if beginnings.is_empty() {
            return Ok((Vec::new(), false));
        }
        self.indexer.ready().await?;
        let search = Search {
            searcher: session.user_nid,
            beginnings: beginnings.clone(),
            everyone: self.all_users,
            limit: MAX_ROWS,
        };
        let rows = user_directory::search(&self.database, search).await?;
        let mut limited = i64::try_from(rows.len()).is_ok_and(|count| count >= MAX_ROWS);
        let mut ranked = rows
            .into_iter()
            .map(|row| Ranked::new(row, name, &beginnings))
            .collect::<Result<Vec<_>>>()?;
        if let Some(server) = server {
            ranked.retain(|ranked| {
                let user_id = &ranked.user.user_id;
                user_id.localpart() == name && user_id.server_name().as_str() == server
            });
        }
        ranked.sort_by(|one, other| one.key().cmp(&other.key()));
        let mut seen = HashSet::new();
        ranked.retain(|ranked| seen.insert(ranked.user.user_id.clone()));
        limited |= ranked.len() > limit;
        ranked.truncate(limit);
        Ok((
            ranked.into_iter().map(|ranked| ranked.user).collect(),
            limited,
        ))
    }

    /// Has a user found by the names that they have in this transaction.
    pub(crate) async fn list(transaction: &mut Transaction, user_nid: i64) -> Result<()> {
        let Some((user_id, display_name)) = user_directory::names(transaction, user_nid).await?
        else {
            return Ok(());
        };
        let words = words_of(&user_id, display_name.as_deref())?;
        Ok(user_directory::set_words(transaction, user_nid, words).await?)
    }

    /// Lists the users who registered before there was this directory.
    pub(crate) async fn list_everyone(&self) -> Result<()> {
        let mut after = 0;
        loop {
            let users = user_directory::unlisted(&self.database, after, BATCH).await?;
            let Some(last) = users.last() else {
                return Ok(());
            };
            after = last.user_nid;
            let mut transaction = self.database.write().await?;
            for user in &users {
                let words = words_of(&user.user_id, user.display_name.as_deref())?;
                user_directory::set_words(&mut transaction, user.user_nid, words).await?;
            }
            transaction.commit().await?;
        }
    }
}

/// Somebody who was found, and how well they fit.
struct Ranked {
    user: FoundUser,
    /// 0 is the name itself, 1 a word of it, 2 the beginning of one.
    fit: u8,
    shares_room: bool,
}

impl Ranked {
    fn new(row: Found, name: &str, beginnings: &[String]) -> Result<Self> {
        let corrupt = |error: String| EngineError::from(StorageError::Corrupt(error));
        let user_id =
            OwnedUserId::try_from(row.user_id).map_err(|error| corrupt(error.to_string()))?;
        let text = |json: Option<String>| -> Option<String> {
            serde_json::from_str(json.as_deref()?).ok()
        };
        let display_name = text(row.display_name);
        let is_name = user_id.localpart() == name
            || display_name
                .as_ref()
                .is_some_and(|display_name| display_name.to_lowercase() == name);
        let fit = match (is_name, beginnings.contains(&row.word)) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        };
        Ok(Self {
            user: FoundUser {
                user_id,
                display_name,
                avatar_url: text(row.avatar_url).map(OwnedMxcUri::from),
            },
            fit,
            shares_room: row.shares_room,
        })
    }

    /// What they are ordered by.
    fn key(&self) -> (u8, bool, bool, &UserId) {
        let user = &self.user;
        let has_profile = user.display_name.is_some() || user.avatar_url.is_some();
        (self.fit, !self.shares_room, !has_profile, &user.user_id)
    }
}

/// The words by which a user is found.
fn words_of(user_id: &str, display_name: Option<&str>) -> Result<Vec<String>> {
    let user_id =
        <&UserId>::try_from(user_id).map_err(|error| StorageError::Corrupt(error.to_string()))?;
    let name: Option<String> = display_name.and_then(|json| serde_json::from_str(json).ok());
    let mut all = words(user_id.localpart());
    all.extend(words(&name.unwrap_or_default()));
    // Somebody whose name has no letters still stands in the list, or would be looked for at every start.
    if all.is_empty() || is_guest_name(user_id.localpart()) {
        all.insert(user_id.localpart().to_owned());
    }
    Ok(all.into_iter().take(MAX_WORDS).collect())
}

/// The words of a text, in lower case.
fn words(text: &str) -> BTreeSet<String> {
    text.to_lowercase()
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| word.chars().take(MAX_WORD).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_words_of_both_names() {
        let words = words_of("@anne-marie:a.test", Some("\"Anne-Marie ÉCLAIR (she)\"")).unwrap();
        assert_eq!(words, ["anne", "marie", "she", "éclair"]);
    }

    #[test]
    fn a_user_without_letters_is_listed_all_the_same() {
        assert_eq!(words_of("@_-_:a.test", None).unwrap(), ["_-_"]);
    }
}
