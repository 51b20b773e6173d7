//! Changing a piece of account data into what follows from what it says.

use std::sync::Arc;

use parley_storage::{
    Database,
    commit::{AccountDataWrite, Assigned, Write},
};
use tokio::sync::Mutex;

use crate::{
    Result, push,
    settings::AccountLimits,
    stream::committer::{Committer, NotCommitted},
};

/// Users whose account data may be changed at the same time, roughly.
const STRIPES: usize = 64;
/// How often a change is made anew because other account data of the user was written meanwhile.
const ATTEMPTS: usize = 30;

/// Which piece of account data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    /// Whose.
    pub(crate) user_nid: i64,
    /// Of which room; 0 for none.
    pub(crate) room_nid: i64,
    /// Its type.
    pub(crate) event_type: &'a str,
}

/// Writes pieces of account data. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Pieces {
    database: Database,
    committer: Committer,
    limits: AccountLimits,
    /// Whoever changes a user's data holds the user's lock, so that two of their devices don't keep each other from it. That
    /// neither undoes the other's change doesn't depend on it: the other may be at another node.
    changing: Arc<[Mutex<()>]>,
}

impl Pieces {
    pub(crate) fn new(database: Database, committer: Committer, limits: AccountLimits) -> Self {
        Self {
            database,
            committer,
            limits,
            changing: std::iter::repeat_with(Mutex::default)
                .take(STRIPES)
                .collect(),
        }
    }

    /// Writes a piece, whatever it said before.
    ///
    /// # Errors
    /// `M_USER_LIMIT_EXCEEDED` if it is one more than the user may have.
    pub(crate) async fn set(&self, piece: Piece<'_>, content: String) -> Result<()> {
        let known = self
            .database
            .account_data(piece.user_nid, piece.room_nid, piece.event_type)
            .await?;
        match known {
            Some(known) if known == content => Ok(()),
            Some(_) => self.committer.commit(write(piece, content, None)).await,
            None => self.change(piece, |_| Ok(Some(content.clone()))).await,
        }
    }

    /// Writes of a piece what `make` makes of its content. `make` is called again if account data of the user was written
    /// meanwhile; if it fails or gives `None`, nothing is written.
    ///
    /// # Errors
    /// Those of `make`; `M_USER_LIMIT_EXCEEDED` if it is one more than the user may have.
    pub(crate) async fn change(
        &self,
        piece: Piece<'_>,
        mut make: impl FnMut(Option<&str>) -> Result<Option<String>>,
    ) -> Result<()> {
        let stripe = usize::try_from(piece.user_nid).unwrap_or_default() % STRIPES;
        let _changing = self.changing[stripe].lock().await;
        for _ in 0..ATTEMPTS {
            let (read_at, known) = self
                .database
                .account_data_to_change(piece.user_nid, piece.room_nid, piece.event_type)
                .await?;
            let content = make(known.as_deref())?.filter(|content| known.as_ref() != Some(content));
            let Some(content) = content else {
                return Ok(());
            };
            if known.is_none() {
                self.check_count(piece).await?;
            }
            let permit = self.committer.reserve().await?;
            let pending = permit.queue(write(piece, content, Some(read_at)), Vec::new());
            match pending.committed().await {
                Ok(()) => return Ok(()),
                Err(NotCommitted::Rebuild) => {}
                Err(failed) => return Err(failed.into()),
            }
        }
        Err(NotCommitted::Rebuild.into())
    }

    /// Refuses one more piece to a user who has as many as they may, but for push rules: what notifies them they decide
    /// in any case.
    async fn check_count(&self, piece: Piece<'_>) -> Result<()> {
        if piece.event_type == push::TYPE {
            return Ok(());
        }
        let count = self.database.account_data_count(piece.user_nid).await?;
        let most = self.limits.account_data;
        self.limits.check(count, most, || {
            format!("an account may have at most {most} pieces of account data")
        })
    }
}

fn write(piece: Piece<'_>, content: String, built_on: Option<i64>) -> Write {
    Write {
        account_data: vec![AccountDataWrite {
            user_nid: piece.user_nid,
            room_nid: piece.room_nid,
            event_type: piece.event_type.to_owned(),
            content,
            built_on,
            position: Assigned::default(),
        }],
        ..Write::default()
    }
}

#[cfg(test)]
mod tests {
    use parley_storage::{DatabaseSettings, statement::statement};
    use ruma::server_name;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        Engine, accounts::NewUser, clock::SystemClock, random::SystemRandom,
        settings::EngineSettings,
    };

    const TYPE: &str = "com.example.list";

    /// Adds a word to a list of words.
    fn with(list: Option<&str>, word: &str) -> String {
        match list {
            Some(list) => format!("{list} {word}"),
            None => word.to_owned(),
        }
    }

    /// Some pieces, a number of a user, and what has to be there as long.
    async fn server(folder: &tempfile::TempDir, most: u32) -> (Engine, Pieces, i64) {
        let settings = DatabaseSettings::sqlite(folder.path());
        let database = Database::open(&settings).await.unwrap();
        let mut settings = EngineSettings::new(server_name!("parley.test").to_owned());
        settings.limits.account_data = most;
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let engine = Engine::start(settings, database, clock, random)
            .await
            .unwrap();
        let new = NewUser {
            username: Some("user".to_owned()),
            ..NewUser::default()
        };
        let account = engine.accounts().create(new).await.unwrap();
        let pieces = engine.account_data().pieces.clone();
        (engine, pieces, account.user_nid)
    }

    /// Adds a word to a piece while another node adds one to another piece or the same.
    async fn change_while_another_does(
        pieces: &Pieces,
        piece: Piece<'_>,
        elsewhere: Piece<'_>,
    ) -> Result<()> {
        // Nobody else can commit as long as this isn't finished.
        let mut commit = pieces.database.begin_commit().await.unwrap();
        let (read, is_read) = oneshot::channel();
        let mut read = Some(read);
        let changing = pieces.change(piece, |list| {
            if let Some(read) = read.take() {
                read.send(()).unwrap();
            }
            Ok(Some(with(list, "here")))
        });
        let other = async {
            is_read.await.unwrap();
            let write = write(elsewhere, "there".to_owned(), None);
            commit.add(&[&write]).await.unwrap();
            commit.finish().await.unwrap();
        };
        tokio::join!(changing, other).0
    }

    #[tokio::test]
    async fn a_change_is_made_anew_on_what_another_node_has_written() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, pieces, user_nid) = server(&folder, 0).await;
        let piece = Piece {
            user_nid,
            room_nid: 0,
            event_type: TYPE,
        };
        let changed = change_while_another_does(&pieces, piece, piece).await;
        changed.unwrap();
        let list = pieces.database.account_data(user_nid, 0, TYPE).await;
        assert_eq!(list.unwrap().unwrap(), "there here");
        engine.stop().await;
    }

    #[tokio::test]
    async fn pieces_that_another_node_writes_meanwhile_count() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, pieces, user_nid) = server(&folder, 1).await;
        let piece = |event_type| Piece {
            user_nid,
            room_nid: 0,
            event_type,
        };
        let refused =
            change_while_another_does(&pieces, piece(TYPE), piece("com.example.other")).await;
        assert!(refused.unwrap_err().kind().is_some());
        let count = pieces.database.account_data_count(user_nid).await.unwrap();
        assert_eq!(count, 1);
        engine.stop().await;
    }

    #[tokio::test]
    async fn changes_that_come_together_are_all_made() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, pieces, user_nid) = server(&folder, 0).await;
        let piece = Piece {
            user_nid,
            room_nid: 0,
            event_type: TYPE,
        };
        let changes = (0..20).map(|number| {
            let word = number.to_string();
            let pieces = &pieces;
            async move {
                let make = |list: Option<&str>| Ok(Some(with(list, &word)));
                pieces.change(piece, make).await.unwrap();
            }
        });
        futures::future::join_all(changes).await;
        let list = pieces.database.account_data(user_nid, 0, TYPE).await;
        assert_eq!(list.unwrap().unwrap().split(' ').count(), 20);
        engine.stop().await;
    }

    #[tokio::test]
    async fn a_piece_that_can_not_be_stored_takes_no_other_with_it() {
        const REFUSING: &str = "CREATE TRIGGER refusing BEFORE INSERT ON account_data \
            WHEN NEW.content = 'wrong' BEGIN SELECT RAISE(ABORT, 'no'); END";
        let folder = tempfile::tempdir().unwrap();
        let (engine, pieces, user_nid) = server(&folder, 0).await;
        let mut transaction = pieces.database.write().await.unwrap();
        statement(REFUSING).run(&mut transaction).await.unwrap();
        transaction.commit().await.unwrap();
        // Queued before any of them is committed, so that they are one group.
        let mut pending = Vec::new();
        for number in 0..9 {
            let event_type = format!("com.example.{number}");
            let piece = Piece {
                user_nid,
                room_nid: 0,
                event_type: &event_type,
            };
            let content = if number == 4 { "wrong" } else { "right" };
            let permit = pieces.committer.reserve().await.unwrap();
            pending.push(permit.queue(write(piece, content.to_owned(), None), Vec::new()));
        }
        for (number, pending) in pending.into_iter().enumerate() {
            let outcome = pending.committed().await;
            assert_eq!(outcome.is_ok(), number != 4, "{number}: {outcome:?}");
        }
        engine.stop().await;
    }
}
