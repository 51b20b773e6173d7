//! The operations of the client-server API, and what each may answer.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use http::Method;
use jsonschema::{Draft, Validator};
use ruma::{EventId, MxcUri, RoomAliasId, RoomId, ServerName, UserId};
use serde_json::{Value, json};

use super::documents::{self, Files};

/// All operations.
#[derive(Debug)]
pub(super) struct Operations {
    operations: Vec<Operation>,
    /// Schemas that were needed, by file and where they are in it.
    schemas: Mutex<HashMap<(PathBuf, String), Arc<Validator>>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Operation {
    method: String,
    path: Vec<Segment>,
    file: PathBuf,
    /// By status: where its schema is in the file, if it answers JSON.
    responses: HashMap<String, Option<String>>,
}

/// Of a path, what stands between two slashes.
#[derive(Debug)]
enum Segment {
    Text(String),
    Parameter,
}

/// What an operation answers with a certain status.
#[derive(Debug)]
pub(super) enum Expected {
    /// JSON that fits the schema.
    Json(Arc<Validator>),
    /// Nothing, or something else than JSON.
    Other,
}

impl Operations {
    /// Reads the specification.
    pub(super) fn read(specification: &Path) -> Self {
        let folder = specification.join("data/api/client-server");
        let folder = folder.canonicalize().expect("the API is in the folder");
        let operations = documents::files(&folder)
            .into_iter()
            .flat_map(operations_of);
        Self {
            operations: operations.collect(),
            schemas: Mutex::default(),
        }
    }

    /// All of them, each path once: of those that differ in what they are given, all but the first end in a space.
    pub(super) fn all(&self) -> impl Iterator<Item = &Operation> {
        self.operations
            .iter()
            .filter(|operation| !operation.path().ends_with(' '))
    }

    /// The operation of a request, without the query. Versions before `v3` are taken for it.
    pub(super) fn find(&self, method: &Method, path: &str) -> Option<&Operation> {
        let path = path.replacen("/_matrix/client/r0/", "/_matrix/client/v3/", 1);
        let segments: Vec<&str> = path.split('/').collect();
        let fits = |operation: &&Operation| {
            operation.method == method.as_str() && operation.fits(&segments)
        };
        let found = self.operations.iter().filter(fits);
        found.min_by_key(|operation| operation.parameters())
    }

    /// What an operation answers with a status; `None` if it says nothing of it.
    pub(super) fn expected(&self, operation: &Operation, status: u16) -> Option<Expected> {
        let class = format!("{}xx", status / 100);
        let known = &operation.responses;
        let schema = known
            .get(&status.to_string())
            .or_else(|| known.get(&class))?;
        let Some(pointer) = schema else {
            return Some(Expected::Other);
        };
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        let schema = schemas
            .entry((operation.file.clone(), pointer.clone()))
            .or_insert_with_key(|(file, pointer)| Arc::new(compile(file, pointer)));
        Some(Expected::Json(schema.clone()))
    }
}

impl Operation {
    pub(super) fn method(&self) -> &str {
        &self.method
    }

    /// Its path, with `{}` for each parameter.
    pub(super) fn path(&self) -> String {
        let segments = self.path.iter().map(|segment| match segment {
            Segment::Text(text) => text.as_str(),
            Segment::Parameter => "{}",
        });
        segments.collect::<Vec<_>>().join("/")
    }

    /// Whether the specification says what it answers with a status.
    pub(super) fn answers(&self, status: u16) -> bool {
        self.responses.contains_key(&status.to_string())
    }

    fn fits(&self, path: &[&str]) -> bool {
        // The last parameter of some paths may be empty, and the slash before it left out.
        let is_short = path.len() + 1 == self.path.len()
            && matches!(self.path.last(), Some(Segment::Parameter));
        (is_short || path.len() == self.path.len())
            && self
                .path
                .iter()
                .zip(path)
                .all(|(segment, part)| match segment {
                    Segment::Text(text) => text == part,
                    Segment::Parameter => true,
                })
            && (!is_short || self.path.len() > 2 && self.ends_in_state_key())
    }

    fn ends_in_state_key(&self) -> bool {
        let before = self.path.iter().rev().nth(2);
        matches!(before, Some(Segment::Text(text)) if text == "state")
    }

    fn parameters(&self) -> usize {
        let is_parameter = |segment: &&Segment| matches!(segment, Segment::Parameter);
        self.path.iter().filter(is_parameter).count()
    }
}

fn operations_of(file: PathBuf) -> Vec<Operation> {
    let document = documents::read(&file);
    let base = document
        .pointer("/servers/0/variables/basePath/default")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let Some(responses) = operation["responses"].as_object() else {
                continue;
            };
            let at = format!("/paths/{}/{method}/responses", escape(path));
            let responses = responses.keys().map(|status| {
                let pointer = format!("{at}/{}", escape(status));
                (status.clone(), schema_of(&document, pointer))
            });
            operations.push(Operation {
                method: method.to_uppercase(),
                path: segments(&format!("{base}{path}")),
                responses: responses.collect(),
                file: file.clone(),
            });
        }
    }
    operations
}

/// Where the schema of a response is.
fn schema_of(document: &Value, mut pointer: String) -> Option<String> {
    if let Some(reference) = document.pointer(&pointer)?["$ref"].as_str() {
        pointer = reference
            .strip_prefix('#')
            .expect("responses are defined in the file of their operation")
            .to_owned();
    }
    pointer.push_str("/content/application~1json/schema");
    document.pointer(&pointer)?;
    Some(pointer)
}

fn segments(path: &str) -> Vec<Segment> {
    let segment = |text: &str| match text.starts_with('{') {
        true => Segment::Parameter,
        false => Segment::Text(text.to_owned()),
    };
    path.split('/').map(segment).collect()
}

/// A name as JSON pointers write it.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The schema at a place of a file. It is taken out of the file, which as a whole is no schema; along come the components
/// that it may refer to.
fn compile(file: &Path, pointer: &str) -> Validator {
    let document = documents::read(file);
    let mut schema = document.pointer(pointer).cloned().unwrap_or_default();
    schema["$id"] = json!(format!("file://{}", file.display()));
    schema["components"] = document["components"].clone();
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_retriever(Files)
        .should_validate_formats(true)
        .with_format("mx-user-id", |text: &str| UserId::parse(text).is_ok())
        .with_format("mx-event-id", |text: &str| EventId::parse(text).is_ok())
        .with_format("mx-room-id", |text: &str| RoomId::parse(text).is_ok())
        .with_format("mx-room-alias", |text: &str| {
            RoomAliasId::parse(text).is_ok()
        })
        .with_format("mx-server-name", |text: &str| {
            ServerName::parse(text).is_ok()
        })
        .with_format("mx-mxc-uri", |text: &str| <&MxcUri>::from(text).is_valid())
        .build(&schema)
        .unwrap_or_else(|error| panic!("{pointer} of {} is no schema: {error}", file.display()))
}
