//! `PARLEY_SECTION__KEY=value` in place of what the file says.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    ConfigError,
    secret_files::{FILE_SUFFIX, SECRETS},
    tree::{Node, Origin, Value},
};

const PREFIX: &str = "PARLEY_";

/// Between section and key. A variable without it is none of ours: a Kubernetes service called
/// `parley` makes variables such as `PARLEY_PORT`.
const SEPARATOR: &str = "__";

/// Lays the variables over the tree; a key that is there already is replaced.
pub(super) fn overlay(
    tree: &mut Node,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(), ConfigError> {
    for (name, text) in environment {
        let Some(path) = name
            .strip_prefix(PREFIX)
            .filter(|path| path.contains(SEPARATOR))
        else {
            continue;
        };
        let path = path.to_ascii_lowercase().replace(SEPARATOR, ".");
        let origin = Origin::Environment(Arc::from(name));
        displace_secret(tree, &path);
        insert(
            tree,
            &path,
            Node {
                origin,
                value: Value::Untyped(text),
            },
        )?;
    }
    Ok(())
}

/// A secret from a variable replaces one that the file names by `_file`, and the other way round.
fn displace_secret(tree: &mut Node, path: &str) {
    let other = match path.strip_suffix(FILE_SUFFIX) {
        Some(secret) => secret.to_owned(),
        None => format!("{path}{FILE_SUFFIX}"),
    };
    let secret = other.strip_suffix(FILE_SUFFIX).unwrap_or(&other);
    let Some((section, key)) = other.split_once('.').filter(|_| SECRETS.contains(&secret)) else {
        return;
    };
    let section = tree
        .as_table_mut()
        .and_then(|sections| sections.get_mut(section));
    let Some(entries) = section.and_then(Node::as_table_mut) else {
        return;
    };
    if entries
        .get(key)
        .is_some_and(|node| matches!(node.origin, Origin::File { .. }))
    {
        entries.remove(key);
    }
}

/// Puts `leaf` at the dotted `path` and makes the tables on the way.
fn insert(tree: &mut Node, path: &str, leaf: Node) -> Result<(), ConfigError> {
    let origin = leaf.origin.clone();
    let not_a_table = |parents: &str| ConfigError::Value {
        origin: Some(origin.clone()),
        key: path.to_owned(),
        message: format!("`{parents}` is not a table of keys"),
    };
    let (parents, key) = path.rsplit_once('.').unwrap_or(("", path));
    let mut node = tree;
    for parent in parents.split('.') {
        let entries = node.as_table_mut().ok_or_else(|| not_a_table(parents))?;
        node = entries.entry(parent.to_owned()).or_insert_with(|| Node {
            origin: origin.clone(),
            value: Value::Table(BTreeMap::new()),
        });
    }
    let entries = node.as_table_mut().ok_or_else(|| not_a_table(parents))?;
    entries.insert(key.to_owned(), leaf);
    Ok(())
}
