//! The program as a process.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

pub(crate) fn parley(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parley"));
    command
        .current_dir(folder)
        .env_clear()
        .env("PARLEY_LISTENER__ADDRESS", "127.0.0.1:0");
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    parley(folder).args(arguments).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_example_it_prints_is_accepted() {
    let folder = TempDir::new().unwrap();
    let example = run(folder.path(), &["config", "example"]);
    assert!(example.status.success());
    fs::write(folder.path().join("parley.toml"), example.stdout).unwrap();
    let check = run(folder.path(), &["config", "check"]);
    assert_eq!(text(&check.stdout), "parley.toml is right.\n");
    assert!(check.status.success());
}

#[test]
fn a_mistake_in_the_configuration_ends_it_with_one_line() {
    let folder = TempDir::new().unwrap();
    fs::write(
        folder.path().join("other.toml"),
        "[server]\nnam = \"example.org\"\n",
    )
    .unwrap();
    let output = run(folder.path(), &["--config", "other.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "parley: the configuration is refused: \
        other.toml:2: unknown key `server.nam`; did you mean `server.name`?\n";
    assert_eq!(text(&output.stderr), expected);
}

#[test]
fn a_mistake_in_a_file_that_the_configuration_names_is_found_by_the_check() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, content: &str| fs::write(folder.path().join(name), content).unwrap();
    let check = |environment: &[(&str, &str)]| {
        let mut command = parley(folder.path());
        command.envs(environment.iter().copied());
        let output = command.args(["config", "check"]).output().unwrap();
        (output.status.success(), text(&output.stderr).to_owned())
    };
    let registration = |id: &str| {
        format!(
            "id: {id}\nurl: null\nas_token: a{id}\nhs_token: h{id}\nsender_localpart: {id}\n\
             namespaces: {{ users: [{{ exclusive: true, regex: \"@{id}_.*\" }}] }}\n"
        )
    };
    file("irc.yaml", &registration("irc"));
    file("same.yaml", &registration("irc").replace("airc", "other"));
    file("none.yaml", "id: irc\n");
    let registered = |files| [("PARLEY_APPSERVICES__REGISTRATIONS", files)];
    assert_eq!(check(&registered("irc.yaml")), (true, String::new()));
    for (files, told) in [
        ("none.yaml", "none.yaml"),
        ("irc.yaml,nowhere.yaml", "nowhere.yaml"),
        ("irc.yaml,same.yaml", "two application services have the id"),
    ] {
        let (right, error) = check(&registered(files));
        assert!(!right && error.contains(told), "{files}: {error}");
    }
    let (right, error) = check(&[
        ("PARLEY_JWT__ALGORITHM", "ES256"),
        ("PARLEY_JWT__PUBLIC_KEY", "none.yaml"),
    ]);
    assert!(!right && error.contains("[jwt]"), "{error}");
}

#[test]
fn it_shows_the_configuration_in_effect_without_secrets() {
    let folder = TempDir::new().unwrap();
    let output = parley(folder.path())
        .env(
            "PARLEY_REGISTRATION__SHARED_SECRET",
            "correct horse battery staple",
        )
        .env("PARLEY_SERVER__NAME", "example.org")
        .args(["config", "show"])
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert!(shown.contains("name = \"example.org\""), "{shown}");
    assert!(shown.contains("shared_secret = \"********\""), "{shown}");
}

#[cfg(unix)]
#[test]
fn without_arguments_it_serves_until_it_is_told_to_stop() {
    let folder = TempDir::new().unwrap();
    let mut process = parley(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut line_with = |part: &str| {
        let mut lines = log.by_ref().map(Result::unwrap);
        lines
            .find(|line| line.contains(part))
            .unwrap_or_else(|| panic!("never said {part}"))
    };
    line_with("localhost is served on http://127.0.0.1:");
    let data = line_with("the data lies in ");
    line_with("in this folder: parley user create --admin NAME");
    assert!(data.ends_with("/parley-data"), "{data}");
    let id = process.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    line_with("stopped");
    assert!(process.wait().unwrap().success());
}
