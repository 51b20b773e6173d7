//! The specification's files, which are YAML and refer to each other.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use jsonschema::{Retrieve, Uri};
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// Reads what schemas refer to.
#[derive(Clone, Debug)]
pub(super) struct Files;

impl Retrieve for Files {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let path = percent_decode_str(uri.path().as_str()).decode_utf8()?;
        Ok(read(Path::new(path.as_ref())))
    }
}

/// A file of the specification, made simpler.
pub(super) fn read(path: &Path) -> Value {
    let read = || -> Result<Value, Box<dyn Error>> {
        let mut document = serde_saphyr::from_str(&fs::read_to_string(path)?)?;
        simplify(&mut document, false);
        Ok(document)
    };
    read().unwrap_or_else(|error| panic!("{} can't be read: {error}", path.display()))
}

/// The files of a folder, without those of the folders in it.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder of the specification can be read");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    files
}

/// Takes the examples away, which refer to files that are no schemas, and makes `oneOf` an `anyOf`: the specification uses
/// it where what one alternative describes fits the others, too.
fn simplify(value: &mut Value, names_are_properties: bool) {
    match value {
        Value::Object(fields) => {
            if !names_are_properties {
                fields.retain(|name, _| name != "example" && name != "examples");
                if let Some(alternatives) = fields.remove("oneOf") {
                    fields.insert("anyOf".to_owned(), alternatives);
                }
            }
            for (name, value) in fields {
                simplify(value, !names_are_properties && name == "properties");
            }
        }
        Value::Array(items) => {
            for item in items {
                simplify(item, false);
            }
        }
        _ => {}
    }
}
