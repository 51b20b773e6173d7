//! Which servers a room speaks with.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls>

use ruma::{ServerName, events::room::server_acl::RoomServerAclEventContent};
use serde_json::{Map, Value};

use crate::{EngineError, Result, rooms::state::RoomState};

/// The servers that a room lets speak with it, as its state says.
pub(super) struct Acl(Option<RoomServerAclEventContent>);

impl Acl {
    /// That of a room; one that has none lets all in.
    pub(super) fn of(state: &RoomState) -> Self {
        let entry = state.get("m.room.server_acl", "");
        Self(entry.map(|entry| read(&entry.event.content_as().unwrap_or_default())))
    }

    /// Whether it lets a server in.
    pub(super) fn allows(&self, server: &ServerName) -> bool {
        let content = self.0.as_ref();
        content.is_none_or(|content| content.is_allowed(server))
    }
}

/// The content of such an event. What has the wrong type counts as if it weren't there, so that an event which can't be
/// read lets nobody in.
fn read(content: &Map<String, Value>) -> RoomServerAclEventContent {
    let names = |field: &str| {
        let list = content.get(field).and_then(Value::as_array);
        let names = list.into_iter().flatten().filter_map(Value::as_str);
        names.map(ToOwned::to_owned).collect()
    };
    let literals = content.get("allow_ip_literals").and_then(Value::as_bool);
    RoomServerAclEventContent::new(literals.unwrap_or(true), names("allow"), names("deny"))
}

/// Demands that a room lets a server speak with it.
///
/// # Errors
/// `M_FORBIDDEN` if it doesn't.
pub(super) fn check_acl(state: &RoomState, server: &ServerName) -> Result<()> {
    match Acl::of(state).allows(server) {
        true => Ok(()),
        false => Err(EngineError::forbidden("the room keeps your server out")),
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;
    use serde_json::json;

    use super::*;

    fn allows(content: Value, server: &ServerName) -> bool {
        let content = content.as_object().cloned().unwrap_or_default();
        read(&content).is_allowed(server)
    }

    #[test]
    fn a_list_with_one_wrong_entry_keeps_out_whom_the_others_name() {
        let content = json!({ "allow": ["*", 1, null], "deny": [{}, "evil.test", ["good.test"]] });
        assert!(!allows(content.clone(), server_name!("evil.test")));
        assert!(allows(content, server_name!("good.test")));
    }

    #[test]
    fn what_is_no_list_is_empty_and_what_cannot_be_read_lets_nobody_in() {
        for nobody in [
            json!({}),
            json!({ "allow": "*" }),
            json!({ "allow": { "0": "*" } }),
            json!({ "allow": [["*"]] }),
            json!("*"),
            json!(null),
        ] {
            assert!(!allows(nobody.clone(), server_name!("a.test")), "{nobody}");
        }
        let all = json!({ "allow": ["*"], "deny": "a.test" });
        assert!(allows(all, server_name!("a.test")));
    }

    #[test]
    fn addresses_are_let_in_unless_the_room_says_no() {
        let with = |value: Value| json!({ "allow": ["*"], "allow_ip_literals": value });
        for allowed in [json!("false"), json!(0), json!(null), json!(true)] {
            assert!(
                allows(with(allowed.clone()), server_name!("1.2.3.4")),
                "{allowed}"
            );
        }
        assert!(!allows(with(json!(false)), server_name!("1.2.3.4")));
        assert!(!allows(with(json!(false)), server_name!("[::1]:8448")));
    }
}
