//! Refuses keys that no section has, and finds what was meant.

use serde_json::Value as Json;

use super::{
    Config, ConfigError,
    secret_files::{FILE_SUFFIX, SECRETS},
    tree::{Node, Value},
};

/// Looks for the first key of the tree that the configuration doesn't have.
pub(super) fn check(tree: &Node) -> Result<(), ConfigError> {
    let known = defaults();
    let Some((key, node)) = first_unknown(tree, &known, "") else {
        return Ok(());
    };
    let nearest = nearest(&key, &all());
    Err(ConfigError::UnknownKey {
        origin: node.origin.clone(),
        key,
        nearest,
    })
}

/// Every key with its section, those for files of secrets included.
pub(super) fn all() -> Vec<String> {
    let mut keys = Vec::new();
    collect(&defaults(), "", &mut keys);
    keys.extend(
        SECRETS
            .iter()
            .map(|secret| format!("{secret}{FILE_SUFFIX}")),
    );
    keys
}

/// The configuration as JSON, in which, unlike TOML, keys without a value are there too.
fn defaults() -> Json {
    serde_json::to_value(Config::default()).unwrap_or_default()
}

fn collect(known: &Json, path: &str, keys: &mut Vec<String>) {
    match known {
        Json::Object(entries) => {
            for (key, value) in entries {
                collect(value, &join(path, key), keys);
            }
        }
        _ => keys.push(path.to_owned()),
    }
}

fn first_unknown<'tree>(
    node: &'tree Node,
    known: &Json,
    path: &str,
) -> Option<(String, &'tree Node)> {
    // A table in the place of a plain value has the wrong type; that isn't this error.
    let (Value::Table(entries), Json::Object(known)) = (&node.value, known) else {
        return None;
    };
    entries.iter().find_map(|(key, node)| {
        let path = join(path, key);
        match known.get(key) {
            Some(known) => first_unknown(node, known, &path),
            None => Some(first_leaf(node, path)),
        }
    })
}

/// Of an unknown section its first key, because that says more about what was meant.
fn first_leaf(node: &Node, path: String) -> (String, &Node) {
    match &node.value {
        Value::Table(entries) => match entries.iter().next() {
            Some((key, node)) => first_leaf(node, join(&path, key)),
            None => (path, node),
        },
        _ => (path, node),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The same key in another section, or else the key that takes the fewest changes, if few.
fn nearest(unknown: &str, known: &[String]) -> Option<String> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |key: &String| strsim::damerau_levenshtein(unknown, key);
    let closest = known.iter().min_by_key(|key| distance(key))?;
    if distance(closest) <= 2 {
        return Some(closest.clone());
    }
    let moved = known
        .iter()
        .filter(|key| last(key) == last(unknown))
        .min_by_key(|key| distance(key));
    if moved.is_some() {
        return moved.cloned();
    }
    // A section alone, misspelt and empty.
    let sections = known.iter().filter_map(|key| key.split('.').next());
    if !unknown.contains('.') {
        let section =
            sections.min_by_key(|section| strsim::damerau_levenshtein(unknown, section))?;
        let far = strsim::damerau_levenshtein(unknown, section) * 3 > unknown.len();
        return (!far).then(|| section.to_owned());
    }
    (distance(closest) * 3 <= unknown.len()).then(|| closest.clone())
}
