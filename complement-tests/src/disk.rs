//! A disk that fails: writes of one kind, until it works again.

use parley_storage::{Engine, statement::statement};

use crate::TestServer;

impl TestServer {
    /// Has the database refuse to write to a table. `operation` is what a trigger is called for: `INSERT`, `UPDATE OF column`.
    /// That outlives restarts.
    pub async fn fail_to(&self, operation: &str, table: &str) {
        const REASON: &str = "the disk is full";
        match self.database().engine() {
            Engine::Sqlite => {
                let trigger = format!(
                    "CREATE TRIGGER fails_on_{table} BEFORE {operation} ON {table} \
                     BEGIN SELECT RAISE(ABORT, '{REASON}'); END"
                );
                self.run([trigger]).await;
            }
            Engine::Postgres => {
                let function = format!(
                    "CREATE OR REPLACE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql \
                     AS 'BEGIN RAISE EXCEPTION ''{REASON}''; END'"
                );
                let trigger = format!(
                    "CREATE TRIGGER fails_on_{table} BEFORE {operation} ON {table} \
                     FOR EACH ROW EXECUTE FUNCTION fails()"
                );
                self.run([function, trigger]).await;
            }
        }
    }

    /// Ends that for a table.
    pub async fn mend(&self, table: &str) {
        let of_table = match self.database().engine() {
            Engine::Sqlite => String::new(),
            Engine::Postgres => format!(" ON {table}"),
        };
        let trigger = format!("DROP TRIGGER fails_on_{table}{of_table}");
        self.run([trigger]).await;
    }

    /// Has whatever asks a table fail, as if the database weren't there.
    pub async fn hide(&self, table: &str) {
        self.run([format!("ALTER TABLE {table} RENAME TO hidden_{table}")])
            .await;
    }

    /// Ends that.
    pub async fn show(&self, table: &str) {
        self.run([format!("ALTER TABLE hidden_{table} RENAME TO {table}")])
            .await;
    }

    async fn run(&self, statements: impl IntoIterator<Item = String>) {
        let write = self.database().write().await;
        let mut transaction = write.expect("the database is there");
        for text in statements {
            let done = statement(text).run(&mut transaction).await;
            done.expect("the statement makes sense");
        }
        let committed = transaction.commit().await;
        committed.expect("the database works");
    }
}
