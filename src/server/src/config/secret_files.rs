//! A secret `key` may be given as `key_file`, a file that holds it.

use std::fs;

use super::{
    ConfigError,
    tree::{Node, Value},
};

/// What is appended to a secret's key.
pub(super) const FILE_SUFFIX: &str = "_file";

/// Every key that can come from a file. A test holds it to the keys that are masked.
pub(super) const SECRETS: &[&str] = &[
    "database.url",
    "jwt.secret",
    "registration.shared_secret",
    "registration.tokens",
    "turn.password",
    "turn.shared_secret",
];

/// Secrets of which there can be several: one a line.
const LISTS: &[&str] = &["registration.tokens"];

/// Replaces every `key_file` by the `key` that it holds.
pub(super) fn resolve(tree: &mut Node) -> Result<(), ConfigError> {
    for secret in SECRETS {
        let Some((section, key)) = secret.split_once('.') else {
            continue;
        };
        let section = tree
            .as_table_mut()
            .and_then(|sections| sections.get_mut(section));
        let Some(entries) = section.and_then(Node::as_table_mut) else {
            continue;
        };
        let Some(file) = entries.remove(&format!("{key}{FILE_SUFFIX}")) else {
            continue;
        };
        if entries.contains_key(key) {
            return Err(refuse(
                secret,
                &file,
                "cannot be given beside the key itself",
            ));
        }
        let value = read(secret, &file)?;
        entries.insert(
            key.to_owned(),
            Node {
                origin: file.origin,
                value,
            },
        );
    }
    Ok(())
}

/// The content of the file, without the line break that an editor puts at its end.
fn read(secret: &str, file: &Node) -> Result<Value, ConfigError> {
    let (Value::String(path) | Value::Untyped(path)) = &file.value else {
        return Err(refuse(secret, file, "expected the path of a file"));
    };
    let content = fs::read_to_string(path)
        .map_err(|error| refuse(secret, file, &format!("cannot read {path}: {error}")))?;
    if LISTS.contains(&secret) {
        let lines = content
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty());
        let element = |line: &str| Node {
            origin: file.origin.clone(),
            value: Value::String(line.to_owned()),
        };
        return Ok(Value::Array(lines.map(element).collect()));
    }
    match content.trim_end_matches(['\r', '\n']) {
        "" => Err(refuse(secret, file, &format!("{path} is empty"))),
        content => Ok(Value::String(content.to_owned())),
    }
}

fn refuse(secret: &str, file: &Node, message: &str) -> ConfigError {
    ConfigError::Value {
        origin: Some(file.origin.clone()),
        key: format!("{secret}{FILE_SUFFIX}"),
        message: message.to_owned(),
    }
}
