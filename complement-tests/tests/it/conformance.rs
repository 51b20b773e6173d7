//! Whether `docs/conformance.md` tells the truth about which tests there are.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Where tests lie, by what their names begin with in the table. Those of this suite begin with nothing.
const ROOTS: [(&str, &str); 6] = [
    ("", "complement-tests/tests/it"),
    ("client_api::", "client-api/src"),
    ("engine::", "src/engine/src"),
    ("protocol::", "src/protocol/src"),
    ("server::", "src/server/tests/it"),
    ("storage::", "src/storage/src"),
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The names of all tests under a folder, as the table writes them.
fn collect(folder: &Path, prefix: &str, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            collect(&path, &format!("{prefix}{stem}::"), names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = match stem.as_str() {
                "mod" | "main" | "lib" => prefix.to_owned(),
                stem => format!("{prefix}{stem}::"),
            };
            let source = fs::read_to_string(&path).unwrap();
            names.extend(tests(&source).map(|test| format!("{module}{test}")));
        }
    }
}

/// The names of the functions that an attribute makes tests.
fn tests(source: &str) -> impl Iterator<Item = &str> {
    source
        .split("test]\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("fn ")?.1.split_once('('))
        .map(|(name, _)| name.trim())
}

/// The rows of the tables: rule, strength, what shows it.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .filter(|row: &Vec<&str>| row.first() != Some(&"rule"))
        .collect()
}

#[test]
fn every_test_in_the_table_of_conformance_exists() {
    let mut names = BTreeSet::new();
    for (prefix, folder) in ROOTS {
        collect(&repository().join(folder), prefix, &mut names);
    }
    let text = fs::read_to_string(repository().join("docs/conformance.md")).unwrap();
    let rows = rows(&text);
    assert!(rows.len() > 100, "only {} rows were read", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let [rule, strength, shown] = row[..] else {
            wrong.push(format!("not three columns: {row:?}"));
            continue;
        };
        if !matches!(strength, "MUST" | "SHOULD") {
            wrong.push(format!("{rule}: {strength:?} is neither MUST nor SHOULD"));
        }
        let reason = shown.strip_prefix("not yet: ");
        let named: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        if reason.is_none() && named.is_empty() {
            wrong.push(format!("{rule}: neither a test nor a reason"));
        }
        let tests = named.into_iter().filter(|_| reason.is_none());
        let unknown = tests.filter(|test| !names.contains(*test));
        wrong.extend(unknown.map(|test| format!("{rule}: there is no test {test}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tests_are_found_by_their_attributes() {
    let source = "#[test]\nfn one() {}\n\n#[tokio::test]\nasync fn two() {}\n\nfn three() {}\n";
    assert_eq!(tests(source).collect::<Vec<_>>(), ["one", "two"]);
}
