//! The words by which users are found.

use std::collections::HashMap;

use crate::{
    Database, Result, Transaction,
    insert::{Column, insert},
    statement::statement,
};

/// Above every character, so that a word followed by it is above every word that begins like it.
const LAST: char = '\u{10FFFF}';

/// Somebody who is to be found.
#[derive(Clone, Debug)]
pub struct Unlisted {
    /// The number of the user.
    pub user_nid: i64,
    /// The ID of the user.
    pub user_id: String,
    /// The display name, JSON.
    pub display_name: Option<String>,
}

/// A user of another server, by the names that they have in a room.
#[derive(Clone, Debug)]
pub struct Named {
    /// The ID of the user.
    pub user_id: String,
    /// The display name, JSON.
    pub display_name: Option<String>,
    /// The picture's address, JSON.
    pub avatar_url: Option<String>,
    /// The words by which they are found.
    pub words: Vec<String>,
}

/// Somebody who was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The ID of the user.
    pub user_id: String,
    /// The display name, JSON.
    pub display_name: Option<String>,
    /// The picture's address, JSON.
    pub avatar_url: Option<String>,
    /// The word that fits.
    pub word: String,
    /// Whether the user is in a room with the one who searches.
    pub shares_room: bool,
}

/// The columns of [`Found`].
type Columns = (String, Option<String>, Option<String>, String, bool);

/// Whom to look for.
#[derive(Clone, Debug)]
pub struct Search {
    /// Who searches, and isn't found.
    pub searcher: i64,
    /// What words begin with. Of each, a word has to be there.
    pub beginnings: Vec<String>,
    /// Whether all users of this server are found, or only those in a common or open room.
    pub everyone: bool,
    /// The most rows.
    pub limit: i64,
}

/// Puts these words in the place of those by which a user was found.
pub async fn set_words(
    transaction: &mut Transaction,
    user_nid: i64,
    words: Vec<String>,
) -> Result<()> {
    remove(transaction, user_nid).await?;
    insert(
        transaction,
        "user_directory_words (user_nid, word)",
        vec![
            Column::Int(vec![user_nid; words.len()]),
            Column::Text(words),
        ],
        "",
    )
    .await
}

impl Database {
    /// Has users of other servers found by these names. With `only_new`, those who are found already keep theirs.
    pub async fn list_others(&self, users: Vec<Named>, only_new: bool) -> Result<()> {
        let mut transaction = self.write().await?;
        let ids: Vec<String> = users.iter().map(|user| user.user_id.clone()).collect();
        let nids: Vec<(i64, String)> = statement(
            "SELECT u.nid, u.user_id FROM users u WHERE u.user_id IN ({texts $1}) \
             AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.user_nid = u.nid) \
             AND (NOT $2 OR NOT EXISTS (SELECT 1 FROM user_directory_words w WHERE w.user_nid = u.nid))",
        )
        .bind(ids)
        .bind(only_new)
        .all_in(&mut transaction)
        .await?;
        let nids: HashMap<String, i64> = nids.into_iter().map(|(nid, id)| (id, nid)).collect();
        let mut words = (Vec::new(), Vec::new());
        let mut fields = (Vec::new(), Vec::new(), Vec::new());
        for user in users {
            let Some(nid) = nids.get(&user.user_id) else {
                continue;
            };
            words.0.extend(vec![*nid; user.words.len()]);
            words.1.extend(user.words);
            for (field, value) in [
                ("displayname", user.display_name),
                ("avatar_url", user.avatar_url),
            ] {
                if let Some(value) = value {
                    fields.0.push(*nid);
                    fields.1.push(field.to_owned());
                    fields.2.push(value);
                }
            }
        }
        for table in ["user_directory_words", "profiles"] {
            statement(format!(
                "DELETE FROM {table} WHERE user_nid IN ({{ints $1}})"
            ))
            .bind(nids.values().copied().collect::<Vec<_>>())
            .run(&mut transaction)
            .await?;
        }
        let columns = vec![Column::Int(words.0), Column::Text(words.1)];
        let table = "user_directory_words (user_nid, word)";
        insert(&mut transaction, table, columns, "ON CONFLICT DO NOTHING").await?;
        let columns = vec![
            Column::Int(fields.0),
            Column::Text(fields.1),
            Column::Text(fields.2),
        ];
        let table = "profiles (user_nid, field, value)";
        insert(&mut transaction, table, columns, "ON CONFLICT DO NOTHING").await?;
        transaction.commit().await
    }
}

/// Has a user found no more.
pub async fn remove(transaction: &mut Transaction, user_nid: i64) -> Result<()> {
    statement("DELETE FROM user_directory_words WHERE user_nid = $1")
        .bind(user_nid)
        .run(transaction)
        .await?;
    Ok(())
}

/// Users with a number above `after` who aren't found by any word but should be, in order of their numbers.
pub async fn unlisted(database: &Database, after: i64, limit: i64) -> Result<Vec<Unlisted>> {
    let rows: Vec<(i64, String, Option<String>)> = statement(
        "SELECT a.user_nid, u.user_id, n.value FROM accounts a \
         JOIN users u ON u.nid = a.user_nid \
         LEFT JOIN profiles n ON n.user_nid = a.user_nid AND n.field = 'displayname' \
         WHERE a.user_nid > $1 AND a.deactivated_at IS NULL AND a.kind NOT IN ('guest', 'server') \
         AND NOT EXISTS (SELECT 1 FROM user_directory_words w WHERE w.user_nid = a.user_nid) \
         ORDER BY a.user_nid LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .all(database)
    .await?;
    let unlisted = |(user_nid, user_id, display_name)| Unlisted {
        user_nid,
        user_id,
        display_name,
    };
    Ok(rows.into_iter().map(unlisted).collect())
}

/// The display name of a user within a transaction, JSON, and their ID.
pub async fn names(
    transaction: &mut Transaction,
    user_nid: i64,
) -> Result<Option<(String, Option<String>)>> {
    statement(
        "SELECT u.user_id, n.value FROM users u \
         LEFT JOIN profiles n ON n.user_nid = u.nid AND n.field = 'displayname' WHERE u.nid = $1",
    )
    .bind(user_nid)
    .optional_in(transaction)
    .await
}

/// Looks for users. One who is found by several words comes several times; exact words come first. Who searches is found, as
/// everybody is, in rooms that are open to all.
pub async fn search(database: &Database, search: Search) -> Result<Vec<Found>> {
    const SHARED: &str = "EXISTS (SELECT 1 FROM memberships theirs \
         JOIN memberships own ON own.user_nid = $3 AND own.room_nid = theirs.room_nid AND own.membership = 'join' \
         WHERE theirs.user_nid = w.user_nid AND theirs.membership = 'join')";
    let mut text = format!(
        "SELECT u.user_id, n.value, p.value, w.word, {SHARED} FROM user_directory_words w \
         JOIN users u ON u.nid = w.user_nid \
         LEFT JOIN profiles n ON n.user_nid = w.user_nid AND n.field = 'displayname' \
         LEFT JOIN profiles p ON p.user_nid = w.user_nid AND p.field = 'avatar_url' \
         WHERE w.word >= $1 AND w.word < $2 \
         AND ((w.user_nid <> $3 AND (($4 AND EXISTS (SELECT 1 FROM accounts a WHERE a.user_nid = w.user_nid)) OR {SHARED})) \
         OR EXISTS (SELECT 1 FROM memberships theirs \
         JOIN open_rooms open ON open.room_nid = theirs.room_nid \
         WHERE theirs.user_nid = w.user_nid AND theirs.membership = 'join'))"
    );
    let mut beginnings = search.beginnings.into_iter();
    let first = beginnings.next().unwrap_or_default();
    let others: Vec<String> = beginnings.collect();
    for index in 0..others.len() {
        let (from, to) = (6 + 2 * index, 7 + 2 * index);
        text += &format!(
            " AND EXISTS (SELECT 1 FROM user_directory_words x WHERE x.user_nid = w.user_nid \
             AND x.word >= ${from} AND x.word < ${to})"
        );
    }
    text += " ORDER BY w.word, w.user_nid LIMIT $5";
    let mut statement = statement(text)
        .bind(first.as_str())
        .bind(format!("{first}{LAST}"))
        .bind(search.searcher)
        .bind(search.everyone)
        .bind(search.limit);
    for other in others {
        statement = statement
            .bind(other.as_str())
            .bind(format!("{other}{LAST}"));
    }
    let rows: Vec<Columns> = statement.all(database).await?;
    let found = |(user_id, display_name, avatar_url, word, shares_room)| Found {
        user_id,
        display_name,
        avatar_url,
        word,
        shares_room,
    };
    Ok(rows.into_iter().map(found).collect())
}
