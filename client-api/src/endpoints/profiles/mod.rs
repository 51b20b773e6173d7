//! Profiles. `displayname` and `avatar_url` are fields like any other; their older endpoints have the same paths.

mod delete_field;
mod get;
mod get_field;
mod set_field;

use axum::Router;
use serde_json::Value;

use crate::{ClientApi, RawJson, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, get::handle);
    let router = route(router, get_field::handle);
    let router = route(router, set_field::handle);
    route(router, delete_field::handle)
}

/// An object of fields whose values are JSON already.
fn object<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> RawJson {
    let mut json = String::from("{");
    for (index, (field, value)) in fields.into_iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push_str(&Value::from(field).to_string());
        json.push(':');
        json.push_str(value);
    }
    json.push('}');
    RawJson(json.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_fields_are_escaped_and_values_are_not() {
        let RawJson(json) = object([("a\"b", "\"x\""), ("c", "[1]")]);
        assert_eq!(json, r#"{"a\"b":"x","c":[1]}"#);
        let RawJson(json) = object([]);
        assert_eq!(json, "{}");
    }
}
