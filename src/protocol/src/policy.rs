//! Policy servers: who a room has its events looked at by before they are shown.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>

use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, ServerName, SigningKeyAlgorithm,
    events::room::policy::{POLICY_SERVER_ED25519_SIGNING_KEY_ID, RoomPolicyEventContent},
    signatures::{PublicKeyMap, verify_policy_server_signature},
};

use crate::{MAX_EVENT_BYTES, RoomVersion, StateEvent, lenient};

/// The type of the state event that names a room's policy server.
pub const EVENT_TYPE: &str = "m.room.policy";

/// The policy server that a room names.
#[derive(Clone, Debug)]
pub struct PolicyServer(RoomPolicyEventContent);

impl PolicyServer {
    /// Whom the event names; `None` if it names nobody, or no key that is understood. That server counts only as long as
    /// it has a user in the room.
    pub fn of_event(event: &StateEvent) -> Option<Self> {
        let content: RoomPolicyEventContent = event.content_as()?;
        content
            .public_keys
            .contains_key(&SigningKeyAlgorithm::Ed25519)
            .then_some(Self(content))
    }

    /// Its name.
    pub fn name(&self) -> &ServerName {
        &self.0.via
    }

    /// Whether it has signed an event, given as JSON of the room's version.
    pub fn has_signed(&self, json: &str, version: &RoomVersion) -> bool {
        let object = lenient::read(json, version).ok();
        object.is_some_and(|object| match lenient::is_marked(&object, version) {
            true => self.has_signed_marked(&object, version),
            false => verify_policy_server_signature(&self.0, &object, version.rules()).is_ok(),
        })
    }

    /// The same for an event with numbers that canonical JSON can't hold.
    fn has_signed_marked(&self, object: &CanonicalJsonObject, version: &RoomVersion) -> bool {
        let key = self.0.public_keys.get(&SigningKeyAlgorithm::Ed25519);
        let id = POLICY_SERVER_ED25519_SIGNING_KEY_ID.to_owned();
        let keys = key.map(|key| BTreeMap::from([(id, key.clone())]));
        let keys = keys.map(|keys| PublicKeyMap::from([(self.name().to_string(), keys)]));
        let server = self.name().to_owned();
        keys.is_some_and(|keys| lenient::check_signatures(object, [server], &keys, version).is_ok())
    }

    /// An event with the signature that this server gave; `None` if the signature isn't right, or the event is too large
    /// with it.
    pub fn signed(&self, json: &str, signature: &str, version: &RoomVersion) -> Option<String> {
        let mut object = lenient::read(json, version).ok()?;
        let Some(CanonicalJsonValue::Object(signatures)) = object.get_mut("signatures") else {
            return None;
        };
        let own = signatures
            .entry(self.name().to_string())
            .or_insert_with(|| CanonicalJsonValue::Object(CanonicalJsonObject::new()));
        let CanonicalJsonValue::Object(own) = own else {
            return None;
        };
        own.insert(
            POLICY_SERVER_ED25519_SIGNING_KEY_ID.to_owned(),
            signature.to_owned().into(),
        );
        let json = lenient::write(&object, version).ok()?;
        (json.len() <= MAX_EVENT_BYTES && self.has_signed(&json, version)).then_some(json)
    }
}

/// Whether a policy server has a say in an event: in all but the one that names it, so that it can be got rid of.
pub fn is_looked_at(event_type: &str, state_key: Option<&str>) -> bool {
    event_type != EVENT_TYPE || state_key != Some("")
}

#[cfg(test)]
mod tests {
    use ruma::{
        OwnedServerName, RoomVersionId,
        serde::Base64,
        signatures::{Ed25519KeyPair, KeyPair, to_canonical_json_string_for_signing},
    };
    use serde_json::json;

    use super::*;
    use crate::{EventDraft, Placement, ServerKey, build};

    fn named(content: serde_json::Value) -> Option<PolicyServer> {
        let json = json!({
            "sender": "@a:a", "type": EVENT_TYPE, "state_key": "", "origin_server_ts": 1,
            "content": content,
        });
        let id = ruma::event_id!("$policy").to_owned();
        PolicyServer::of_event(&StateEvent::parse(id, &json.to_string()).unwrap())
    }

    fn event(version: &RoomVersion) -> String {
        let server = OwnedServerName::try_from("a").unwrap();
        let key = ServerKey::from_der(server, &ServerKey::generate(), "1").unwrap();
        let draft = EventDraft {
            sender: ruma::user_id!("@a:a").to_owned(),
            event_type: "m.room.message".into(),
            state_key: None,
            content: [("body".to_owned(), "hello".to_owned().into())].into(),
            redacts: None,
            origin_server_ts: ruma::MilliSecondsSinceUnixEpoch(5_u32.into()),
        };
        let placement = Placement {
            room_id: Some(ruma::room_id!("!room:a")),
            version,
            prev_events: vec![],
            auth_events: vec![],
            depth: 3,
        };
        build(draft, placement, &key).unwrap().json
    }

    #[test]
    fn a_server_is_named_with_a_key_or_not_at_all() {
        let key = Base64::<ruma::serde::base64::Standard>::new(vec![1; 32]).encode();
        let right = json!({ "via": "policy.test", "public_keys": { "ed25519": key } });
        assert_eq!(named(right).unwrap().name(), "policy.test");
        for wrong in [
            json!({}),
            json!({ "via": "policy.test" }),
            json!({ "via": "policy.test", "public_keys": {} }),
            json!({ "via": "policy.test", "public_keys": { "other": key } }),
            json!({ "via": "policy.test", "public_keys": { "ed25519": 1 } }),
            json!({ "via": 1, "public_keys": { "ed25519": key } }),
        ] {
            assert!(named(wrong.clone()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn an_event_is_signed_by_the_key_that_the_room_names_and_no_other() {
        let version = RoomVersion::new(&RoomVersionId::V11).unwrap();
        let pair = |name: &str| {
            let der = Ed25519KeyPair::generate();
            Ed25519KeyPair::from_der(&der, name.to_owned()).unwrap()
        };
        let (right, wrong) = (pair("policy_server"), pair("policy_server"));
        let key = Base64::<ruma::serde::base64::Standard>::new(right.public_key().to_vec());
        let content = json!({ "via": "a", "public_keys": { "ed25519": key.encode() } });
        let server = named(content).unwrap();
        let json = event(&version);
        assert!(!server.has_signed(&json, &version));
        let object: CanonicalJsonObject = serde_json::from_str(&json).unwrap();
        let redacted =
            ruma::canonical_json::redact(object, &version.rules().redaction, None).unwrap();
        let bytes = to_canonical_json_string_for_signing(&redacted).unwrap();
        let by = |pair: &Ed25519KeyPair| pair.sign(bytes.as_bytes()).base64();
        let signed = server.signed(&json, &by(&right), &version).unwrap();
        assert!(server.has_signed(&signed, &version));
        // The signature of the server that sent it is kept, though that is the policy server.
        assert!(signed.contains("ed25519:1"));
        assert_eq!(server.signed(&json, &by(&wrong), &version), None);
        assert_eq!(server.signed(&json, "nonsense", &version), None);
    }

    #[test]
    fn an_event_with_a_fraction_is_signed_in_versions_that_have_them() {
        let der = Ed25519KeyPair::generate();
        let pair = Ed25519KeyPair::from_der(&der, "policy_server".to_owned()).unwrap();
        let key = Base64::<ruma::serde::base64::Standard>::new(pair.public_key().to_vec());
        let content = json!({ "via": "policy.test", "public_keys": { "ed25519": key.encode() } });
        let server = named(content).unwrap();
        // What is signed of a message has no fraction; of power levels it has.
        let json = r#"{"content":{"ban":50.5},"depth":3,"origin_server_ts":5,"room_id":"!room:a","sender":"@a:a","signatures":{"a":{"ed25519:1":"x"}},"state_key":"","type":"m.room.power_levels"}"#;
        let signed = r#"{"content":{"ban":50.5},"depth":3,"origin_server_ts":5,"room_id":"!room:a","sender":"@a:a","state_key":"","type":"m.room.power_levels"}"#;
        let signature = pair.sign(signed.as_bytes()).base64();
        let with = |id: RoomVersionId| {
            let version = RoomVersion::new(&id).unwrap();
            let signed = server.signed(json, &signature, &version)?;
            assert!(server.has_signed(&signed, &version));
            assert!(!server.has_signed(json, &version));
            let other = signed.replace("50.5", "51.5");
            assert!(!server.has_signed(&other, &version));
            Some(signed)
        };
        let signed = with(RoomVersionId::V5).unwrap();
        assert!(signed.contains("50.5"), "{signed}");
        assert_eq!(with(RoomVersionId::V6), None);
    }

    #[test]
    fn a_policy_server_has_no_say_in_who_is_the_policy_server() {
        assert!(!is_looked_at(EVENT_TYPE, Some("")));
        assert!(is_looked_at(EVENT_TYPE, Some("other")));
        assert!(is_looked_at(EVENT_TYPE, None));
        assert!(is_looked_at("m.room.member", Some("")));
    }
}
