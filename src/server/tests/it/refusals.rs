//! Data that can't be worked with: the program says so in a sentence, and ends.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use crate::{
    command_line::parley,
    namespace::{command, small_disk},
};

/// The longest that a refusal may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn data(folder: &TempDir) -> PathBuf {
    folder.path().join("parley-data")
}

/// Starts a server and waits until it answers.
fn start(folder: &Path) -> Child {
    let mut process = parley(folder).stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(process.stderr.as_mut().unwrap()).lines();
    let mut lines = log.map(Result::unwrap);
    assert!(lines.any(|line| line.contains("the data lies in")));
    process
}

fn kill(mut process: Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

/// Runs what has to end by itself, with an error; the last line that it says.
fn refusal(mut command: Command) -> String {
    command.stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let pause = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    let status = loop {
        if let Some(status) = process.try_wait().unwrap() {
            break status;
        }
        if waited > PATIENCE {
            kill(process);
            panic!("it serves");
        }
        std::thread::sleep(pause);
        waited += pause;
    };
    let mut said = String::new();
    let mut stderr = process.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    said.lines().last().unwrap().to_owned()
}

/// The server in a prepared view of the file system.
fn parley_in(folder: &TempDir, prepare: &str, path: &Path) -> Option<Command> {
    let mut command = command(prepare, path, env!("CARGO_BIN_EXE_parley"))?;
    command
        .current_dir(folder.path())
        .env("PARLEY_LISTENER__ADDRESS", "127.0.0.1:0");
    Some(command)
}

#[test]
fn a_data_folder_that_another_process_uses() {
    let folder = TempDir::new().unwrap();
    let first = start(folder.path());
    let said = refusal(parley(folder.path()));
    kill(first);
    let expected = "parley: the data folder parley-data is in use by another process; stop it first, or choose \
        another folder with `server.data_dir`";
    assert_eq!(said, expected);
    // The lock is the process's, not a file that stays.
    kill(start(folder.path()));
}

#[tokio::test]
async fn a_database_of_a_newer_version() {
    let folder = TempDir::new().unwrap();
    kill(start(folder.path()));
    let file = SqliteConnectOptions::new().filename(data(&folder).join("parley.db"));
    let mut database = SqliteConnection::connect_with(&file).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'of the future', TRUE, x'00', 0)",
    )
    .execute(&mut database)
    .await
    .unwrap();
    database.close().await.unwrap();
    let said = refusal(parley(folder.path()));
    let expected = "parley: the database was made by a newer version of Parley (its migration 9999 is unknown here); \
        install that version again";
    assert_eq!(said, expected);
}

#[test]
fn a_disk_that_is_full() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(data(&folder)).unwrap();
    for kib in [4, 16, 64, 128, 256] {
        let Some(command) = parley_in(&folder, &small_disk(kib), &data(&folder)) else {
            return;
        };
        let said = refusal(command);
        let expected = "parley: the disk that holds the database is full; free some space";
        assert_eq!(said, expected, "with {kib} KiB");
    }
}

#[test]
fn a_folder_that_is_read_only() {
    let folder = TempDir::new().unwrap();
    kill(start(folder.path()));
    fs::set_permissions(data(&folder), Permissions::from_mode(0o555)).unwrap();
    let (command, reason) = match fs::write(data(&folder).join("new"), "") {
        Err(_) => (parley(folder.path()), "Permission denied"),
        // Permissions don't bind root.
        Ok(()) => {
            let prepare = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"";
            let Some(command) = parley_in(&folder, prepare, &data(&folder)) else {
                return;
            };
            (command, "Read-only file system")
        }
    };
    let said = refusal(command);
    let begin = format!("parley: can't open the data folder parley-data: {reason}");
    assert!(said.starts_with(&begin), "{said}");
    fs::set_permissions(data(&folder), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_database_that_is_read_only() {
    let folder = TempDir::new().unwrap();
    kill(start(folder.path()));
    let file = data(&folder).join("parley.db");
    fs::set_permissions(&file, Permissions::from_mode(0o444)).unwrap();
    let command = match fs::OpenOptions::new().append(true).open(&file) {
        Err(_) => parley(folder.path()),
        Ok(_) => {
            let prepare = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"";
            let Some(command) = parley_in(&folder, prepare, &file) else {
                return;
            };
            command
        }
    };
    let expected =
        "parley: the database can't be written: it is read-only, or belongs to another user";
    assert_eq!(refusal(command), expected);
}
