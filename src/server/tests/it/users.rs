//! `parley user`, with and without a running server.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Output, Stdio},
};

use parley::{Server, config::Config};
use tempfile::TempDir;

use crate::command_line::{parley, text};

const PASSWORD: &str = "correct horse";

/// Runs `parley user` with a line on standard input.
fn user(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = parley(folder);
    command
        .env("PARLEY_PASSWORDS__MEMORY", "1 MiB")
        .arg("user")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    // A command that doesn't want a password may have ended before it is written.
    let _ = writeln!(process.stdin.take().unwrap(), "{input}");
    process.wait_with_output().unwrap()
}

/// What it prints, if it succeeds.
fn done(folder: &Path, arguments: &[&str], input: &str) -> String {
    let output = user(folder, arguments, input);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// What it says, if it fails.
fn refused(folder: &Path, arguments: &[&str], input: &str) -> String {
    let output = user(folder, arguments, input);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    text(&output.stderr).to_owned()
}

/// IDs and properties of all accounts.
fn accounts(folder: &Path) -> Vec<(String, String)> {
    let list = done(folder, &["list"], "");
    let columns = |line: &str| {
        let mut columns = line.splitn(3, "  ").map(ToOwned::to_owned);
        let user_id = columns.next().unwrap();
        (user_id, columns.nth(1).unwrap_or_default())
    };
    list.lines().map(columns).collect()
}

fn account(user_id: &str, properties: &str) -> (String, String) {
    (user_id.to_owned(), properties.to_owned())
}

fn whole_life_of_an_account(folder: &Path) {
    assert_eq!(
        done(folder, &["create", "alice", "--admin"], PASSWORD),
        "@alice:localhost\n"
    );
    assert_eq!(
        done(folder, &["create", "@bob:localhost"], PASSWORD),
        "@bob:localhost\n"
    );
    assert!(refused(folder, &["create", "alice"], PASSWORD).contains("taken"));
    done(folder, &["reset-password", "bob"], "another password");
    done(folder, &["deactivate", "@bob:localhost", "--yes"], "");
    let expected = [
        account("@alice:localhost", "admin"),
        account("@bob:localhost", "deactivated"),
    ];
    assert_eq!(accounts(folder), expected);
}

#[test]
fn without_a_server_the_commands_work_on_the_data_itself() {
    let folder = TempDir::new().unwrap();
    whole_life_of_an_account(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_server_the_commands_are_carried_out_by_it() {
    let folder = TempDir::new().unwrap();
    let mut config = Config::default();
    config.server.data_dir = folder.path().join("parley-data");
    config.listener.address = ([127, 0, 0, 1], 0).into();
    config.passwords.memory = 1 << 20;
    let server = Server::start(config).await.unwrap();
    assert!(!server.has_accounts().await.unwrap());
    let socket = folder.path().join("parley-data/control.sock");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let path = folder.path().to_owned();
    tokio::task::spawn_blocking(move || whole_life_of_an_account(&path))
        .await
        .unwrap();
    assert!(server.has_accounts().await.unwrap());
    assert!(server.stop().await);
    assert!(!socket.exists());
    // The data is free again, and holds what the server did.
    assert_eq!(accounts(folder.path()).len(), 2);
}

#[test]
fn what_a_killed_server_left_behind_is_no_obstacle() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("parley-data");
    fs::create_dir(&data).unwrap();
    drop(std::os::unix::net::UnixListener::bind(data.join("control.sock")).unwrap());
    done(folder.path(), &["create", "alice"], PASSWORD);
}

#[test]
fn what_makes_no_sense_is_refused_in_a_sentence() {
    let folder = TempDir::new().unwrap();
    let refused = |arguments: &[&str], input: &str| refused(folder.path(), arguments, input);
    assert_eq!(
        refused(&["create", "alice"], ""),
        "parley: the password is empty\n"
    );
    assert!(refused(&["create", "alice"], "short").contains("at least 8 characters"));
    assert!(refused(&["create", "not a name"], PASSWORD).starts_with("parley: "));
    assert!(refused(&["reset-password", "nobody"], PASSWORD).starts_with("parley: "));
    let elsewhere = refused(&["deactivate", "@alice:elsewhere", "--yes"], "");
    assert!(
        elsewhere.contains("not a user of this server, localhost"),
        "{elsewhere}"
    );
    assert_eq!(
        refused(&["deactivate", "alice"], "y"),
        "parley: give --yes if it is meant\n"
    );
    assert!(accounts(folder.path()).is_empty());
}

#[test]
fn a_password_can_come_from_a_file() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("password"), format!("{PASSWORD}\n")).unwrap();
    done(
        folder.path(),
        &["create", "alice", "--password-file", "password"],
        "",
    );
    let missing = ["create", "bob", "--password-file", "missing"];
    let refusal = refused(folder.path(), &missing, "");
    assert!(
        refusal.starts_with("parley: cannot read the password from missing: "),
        "{refusal}"
    );
}

#[test]
fn hashing_a_password_needs_no_data() {
    let folder = TempDir::new().unwrap();
    let hash = done(folder.path(), &["hash-password"], PASSWORD);
    assert!(hash.starts_with("$argon2id$v=19$m=1024,t=2,p=1$"), "{hash}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
