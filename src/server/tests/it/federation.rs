//! `parley federation`, with and without a running server.

use std::{fs, path::Path, process::Output};

use parley::{Server, config::Config};
use tempfile::TempDir;

use crate::command_line::{parley, text};

/// The key of the specification's test vectors, as Synapse would keep it.
const KEY: &str = "ed25519 a_old YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1\n";

fn federation(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = parley(folder);
    command.arg("federation").args(arguments).output().unwrap()
}

fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = federation(folder, arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

fn looks_at_others(folder: &Path) {
    let checked = federation(folder, &["check", "127.0.0.1:1"]);
    assert_eq!(checked.status.code(), Some(1));
    let found = text(&checked.stdout);
    assert!(
        found.contains("BAD ") && found.contains("127.0.0.1"),
        "{found}"
    );
    assert_eq!(done(folder, &["destinations"]), "");
    let retried = done(folder, &["retry", "a.example"]);
    assert_eq!(retried, "a.example isn't being left alone.\n");
    let nonsense = federation(folder, &["check", "https://a.example"]);
    assert!(text(&nonsense.stderr).contains("no server's name"));
}

#[test]
fn without_a_server_the_commands_look_at_others_by_themselves() {
    let folder = TempDir::new().unwrap();
    looks_at_others(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_server_the_commands_are_carried_out_by_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_owned();
    fs::write(path.join("old.key"), KEY).unwrap();
    let imported = done(&path, &["import-key", "old.key"]);
    assert_eq!(
        imported,
        "Signing with ed25519:a_old from the next start on.\n"
    );
    fs::write(path.join("no.key"), "ed25519 b").unwrap();
    let refused = federation(&path, &["import-key", "no.key"]);
    assert!(text(&refused.stderr).contains("no.key"));

    let mut config = Config::default();
    config.server.data_dir = path.join("parley-data");
    config.listener.address = ([127, 0, 0, 1], 0).into();
    let server = Server::start(config).await.unwrap();
    let url = format!("http://{}/_matrix/key/v2/server", server.local_addr());
    tokio::task::spawn_blocking(move || {
        looks_at_others(&path);
        let refused = federation(&path, &["import-key", "old.key"]);
        assert!(text(&refused.stderr).contains("stop the server first"));
    })
    .await
    .unwrap();
    // Fails where another test was there before, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let keys: serde_json::Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    let public = "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI";
    assert_eq!(keys["verify_keys"]["ed25519:a_old"]["key"], public);
    let old = keys["old_verify_keys"].as_object().unwrap();
    assert_eq!(old.len(), 1, "the key that was made first: {keys}");
    assert!(server.stop().await);
}
