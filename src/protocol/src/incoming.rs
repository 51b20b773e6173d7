//! Reading an event of another server: its format, its id, its signatures, its hash.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>, the first three of them.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedServerName,
    OwnedServerSigningKeyId, RoomId,
    canonical_json::redact,
    events::room::policy::POLICY_SERVER_ED25519_SIGNING_KEY_ID,
    signatures::{
        PublicKeyMap, Verified, reference_hash, required_server_signatures_to_verify_event,
        sign_event, verify_event,
    },
    state_res::check_pdu_format,
};

use crate::{BuiltEvent, MAX_EVENT_BYTES, Pdu, RoomVersion, ServerKey, lenient};

/// Bytes that the JSON of an event may have as it comes, with what other servers put beside it (`unsigned`).
const MAX_RAW_BYTES: usize = 2 * MAX_EVENT_BYTES;

/// The length of a name in an event, see [`RoomVersion::counts_characters`].
const MAX_NAME: usize = 255;

/// An event as it came, of the right format, its signatures not checked.
#[derive(Clone, Debug)]
pub struct Unverified {
    object: CanonicalJsonObject,
    /// What it says. It may be another's words: nothing is checked yet.
    pub pdu: Pdu,
}

/// An event whose signatures and hash are right.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// What it says.
    pub pdu: Pdu,
    /// Canonical JSON of the whole; of the redacted form where the hash showed that something was taken out.
    pub json: String,
}

/// What this server has built and signed itself.
impl From<BuiltEvent> for Incoming {
    fn from(event: BuiltEvent) -> Self {
        Self {
            pdu: event.pdu,
            json: event.json,
        }
    }
}

/// Why an event is dropped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IncomingError {
    /// It is no event of the room's version.
    #[error("it has not the format of an event: {0}")]
    Format(String),
    /// It is of another room.
    #[error("it is an event of another room")]
    OtherRoom,
    /// A signature is missing or wrong.
    #[error("its signatures are not right: {0}")]
    Signature(String),
}

fn format(error: impl ToString) -> IncomingError {
    IncomingError::Format(error.to_string())
}

/// The id of an event: what it carries, or its reference hash.
fn event_id(
    object: &CanonicalJsonObject,
    version: &RoomVersion,
) -> Result<OwnedEventId, IncomingError> {
    if !version.events_carry_ids() {
        let hash = hash_of(object, version)?;
        return OwnedEventId::try_from(format!("${hash}")).map_err(format);
    }
    let Some(CanonicalJsonValue::String(id)) = object.get("event_id") else {
        return Err(format("`event_id` is missing"));
    };
    let id = OwnedEventId::try_from(id.as_str()).map_err(format)?;
    // Else it could be the hash of an event of another room, which would have no place any more.
    match id.server_name() {
        Some(_) => Ok(id),
        None => Err(format("`event_id` names no server")),
    }
}

/// The reference hash of an event.
fn hash_of(object: &CanonicalJsonObject, version: &RoomVersion) -> Result<String, IncomingError> {
    match lenient::is_marked(object, version) {
        true => lenient::reference_hash(object, version).ok_or_else(|| format("it has no hash")),
        false => reference_hash(object, version.rules()).map_err(format),
    }
}

/// Whether two events of the same id are the same, whatever was redacted of them. Of versions in which servers give the
/// ids, they needn't be.
pub fn are_same(one: &str, other: &str, version: &RoomVersion) -> bool {
    let hash = |json: &str| hash_of(&lenient::read(json, version).ok()?, version).ok();
    !version.events_carry_ids() || hash(one).is_some_and(|one| hash(other) == Some(one))
}

/// Another server's object as canonical JSON, without what isn't part of the event.
pub(crate) fn read_object(
    json: &str,
    version: &RoomVersion,
) -> Result<CanonicalJsonObject, IncomingError> {
    if json.len() > MAX_RAW_BYTES {
        return Err(format("it is too large"));
    }
    let mut object = lenient::read(json, version).map_err(format)?;
    object.remove("unsigned");
    object.remove("age_ts");
    Ok(object)
}

/// Whether an object has the format of an event.
fn check_format(object: &CanonicalJsonObject, version: &RoomVersion) -> Result<(), IncomingError> {
    let rules = &version.rules().event_format;
    let is_long = |field: &&str| match object.get(*field) {
        Some(CanonicalJsonValue::String(name)) => {
            name.len() > MAX_NAME && name.chars().count() <= MAX_NAME
        }
        _ => false,
    };
    let long: Vec<&str> = ["type", "state_key"].into_iter().filter(is_long).collect();
    if long.is_empty() || !version.counts_characters() {
        return check_pdu_format(object, rules).map_err(format);
    }
    let mut shortened = object.clone();
    for field in long {
        shortened.insert(field.to_owned(), String::new().into());
    }
    check_pdu_format(&shortened, rules).map_err(format)
}

/// PostgreSQL has no null characters in texts. An event with one where it is stored by its name would make the commit fail
/// that it is a part of, so there can't be such an event.
fn refuse_null_characters(pdu: &Pdu) -> Result<(), IncomingError> {
    let fields = &pdu.fields;
    let event_type = fields.event_type.to_string();
    let names = [
        Some(event_type.as_str()),
        fields.state_key.as_deref(),
        Some(fields.sender.as_str()),
        Some(pdu.event_id.as_str()),
    ];
    match names.into_iter().flatten().any(|name| name.contains('\0')) {
        true => Err(format("there is a null character in a name")),
        false => Ok(()),
    }
}

impl Unverified {
    /// Reads an event of a room.
    ///
    /// # Errors
    /// If it has not the format of an event of that version, is over a limit of size, or is of another room.
    pub fn read(
        json: &str,
        room_id: &RoomId,
        version: &RoomVersion,
    ) -> Result<Self, IncomingError> {
        let object = read_object(json, version)?;
        check_format(&object, version)?;
        if !matches!(object.get("content"), Some(CanonicalJsonValue::Object(_))) {
            return Err(format("`content` is no object"));
        }
        let event_id = event_id(&object, version)?;
        let canonical = lenient::write(&object, version).map_err(format)?;
        let pdu = Pdu::parse(event_id, &canonical).map_err(format)?;
        refuse_null_characters(&pdu)?;
        let is_of_room = match &pdu.fields.room_id {
            Some(of) => of == room_id,
            None => crate::pdu::names_room(&pdu.event_id, room_id),
        };
        if !is_of_room {
            return Err(IncomingError::OtherRoom);
        }
        Ok(Self { object, pdu })
    }

    /// The keys of which one each is needed of a server: those that the event claims to be signed with, by the servers
    /// that have to sign it.
    ///
    /// # Errors
    /// If a server that has to sign it did not.
    pub fn signers(
        &self,
        version: &RoomVersion,
    ) -> Result<Vec<(OwnedServerName, Vec<OwnedServerSigningKeyId>)>, IncomingError> {
        let signature = |error: &dyn ToString| IncomingError::Signature(error.to_string());
        let servers =
            required_server_signatures_to_verify_event(&self.object, &version.rules().signatures)
                .map_err(|error| signature(&error))?;
        let signatures = match self.object.get("signatures") {
            Some(CanonicalJsonValue::Object(signatures)) => signatures,
            _ => return Err(signature(&"there are none")),
        };
        servers
            .into_iter()
            .map(|server| {
                let keys: Vec<OwnedServerSigningKeyId> = match signatures.get(server.as_str()) {
                    Some(CanonicalJsonValue::Object(by_key)) => by_key
                        .keys()
                        // That one is in the room's state.
                        .filter(|id| *id != POLICY_SERVER_ED25519_SIGNING_KEY_ID)
                        .filter_map(|id| OwnedServerSigningKeyId::try_from(id.as_str()).ok())
                        .collect(),
                    _ => Vec::new(),
                };
                match keys.is_empty() {
                    true => Err(signature(&format!("{server} did not sign it"))),
                    false => Ok((server, keys)),
                }
            })
            .collect()
    }

    /// Adds the signature of this server, which vouches for the event.
    ///
    /// # Errors
    /// If it can't be signed.
    pub fn sign(&mut self, key: &ServerKey, version: &RoomVersion) -> Result<(), IncomingError> {
        let server = key.server_name().as_str();
        let rules = &version.rules().redaction;
        if lenient::is_marked(&self.object, version) {
            let signed = lenient::sign(&mut self.object, key.server_name(), key, version);
            return signed.ok_or_else(|| format("it can't be signed"));
        }
        sign_event(server, key, &mut self.object, rules)
            .map_err(|error| IncomingError::Signature(error.to_string()))
    }

    /// Checks signatures and hash. Where the hash is another, something was taken out of the event or put into it, and
    /// what is left is the redacted form.
    ///
    /// # Errors
    /// If a signature is wrong, or none of its keys is among `keys`.
    pub fn verify(
        self,
        keys: &PublicKeyMap,
        version: &RoomVersion,
    ) -> Result<Incoming, IncomingError> {
        match self.check(keys, version)? {
            Verified::All => Ok(Incoming {
                json: lenient::write(&self.object, version).map_err(format)?,
                pdu: self.pdu,
            }),
            Verified::Signatures => {
                let redacted =
                    redact(self.object, &version.rules().redaction, None).map_err(format)?;
                let json = lenient::write(&redacted, version).map_err(format)?;
                Ok(Incoming {
                    pdu: Pdu::parse(self.pdu.event_id, &json).map_err(format)?,
                    json,
                })
            }
        }
    }

    /// Whether hash and signatures are right, or the signatures alone.
    fn check(&self, keys: &PublicKeyMap, version: &RoomVersion) -> Result<Verified, IncomingError> {
        let signature = |error: &dyn ToString| IncomingError::Signature(error.to_string());
        if !lenient::is_marked(&self.object, version) {
            return verify_event(keys, &self.object, version.rules())
                .map_err(|error| signature(&error));
        }
        let servers = self.signers(version)?.into_iter().map(|(server, _)| server);
        lenient::check_signatures(&self.object, servers, keys, version)
            .map_err(|server| signature(&format!("that of {server} is wrong")))?;
        match lenient::has_right_hash(&self.object, version) {
            true => Ok(Verified::All),
            false => Ok(Verified::Signatures),
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{RoomVersionId, room_id, serde::Base64, user_id};

    use super::*;
    use crate::{EventDraft, Placement, build};

    fn key() -> ServerKey {
        ServerKey::from_der(
            ruma::server_name!("example.org").to_owned(),
            &ServerKey::generate(),
            "1",
        )
        .unwrap()
    }

    fn keys(key: &ServerKey) -> PublicKeyMap {
        let id = format!("ed25519:{}", key.version());
        let public = Base64::new(key.public_key().to_vec());
        [("example.org".to_owned(), [(id, public)].into())].into()
    }

    fn event(key: &ServerKey, version: &RoomVersion) -> String {
        let draft = EventDraft {
            sender: user_id!("@alice:example.org").to_owned(),
            event_type: "m.room.message".into(),
            state_key: None,
            content: [("body".to_owned(), "hello".to_owned().into())].into(),
            redacts: None,
            origin_server_ts: ruma::MilliSecondsSinceUnixEpoch(5_u32.into()),
        };
        let placement = Placement {
            room_id: Some(room_id!("!room:example.org")),
            version,
            prev_events: vec![],
            auth_events: vec![],
            depth: 3,
        };
        build(draft, placement, key).unwrap().json
    }

    fn read(json: &str, version: &RoomVersion) -> Result<Unverified, IncomingError> {
        Unverified::read(json, room_id!("!room:example.org"), version)
    }

    #[test]
    fn what_one_server_builds_another_takes_in_every_version() {
        let key = key();
        for version in crate::versions::offered() {
            let json = event(&key, version);
            let unverified = read(&json, version).unwrap();
            assert_eq!(unverified.signers(version).unwrap().len(), 1);
            let incoming = unverified.verify(&keys(&key), version).unwrap();
            assert_eq!(incoming.json, json);
        }
    }

    #[test]
    fn of_an_event_that_was_changed_the_redacted_form_is_left_under_the_same_id() {
        let key = key();
        let version = RoomVersion::new(&RoomVersionId::V11).unwrap();
        let json = event(&key, &version);
        let id = read(&json, &version).unwrap().pdu.event_id;
        let changed = json.replace("hello", "goodbye");
        let incoming = read(&changed, &version).unwrap();
        let incoming = incoming.verify(&keys(&key), &version).unwrap();
        assert_eq!(incoming.pdu.event_id, id);
        assert_eq!(incoming.pdu.fields.content.get(), "{}");
        assert!(!incoming.json.contains("goodbye"));
    }

    #[test]
    fn an_event_with_a_fraction_is_taken_in_versions_that_have_them() {
        let key = key();
        let version = RoomVersion::new(&RoomVersionId::V5).unwrap();
        let plain = event(&key, &version);
        let mut object: CanonicalJsonObject = serde_json::from_str(&plain).unwrap();
        object.remove("hashes");
        object.remove("signatures");
        let json = serde_json::to_string(&object)
            .unwrap()
            .replace("\"hello\"", "0.50");
        let hash = Base64::<ruma::serde::base64::Standard>::new(
            <sha2::Sha256 as sha2::Digest>::digest(json.as_bytes()).to_vec(),
        );
        let hashes = std::format!("\"hashes\":{{\"sha256\":\"{}\"}},\"origin", hash.encode());
        let json = json.replacen("\"origin", &hashes, 1);
        let mut event = read(&json.replacen('{', "{\"signatures\":{},", 1), &version).unwrap();
        event.sign(&key, &version).unwrap();
        let incoming = event.clone().verify(&keys(&key), &version).unwrap();
        assert_eq!(incoming.pdu.fields.content.get(), r#"{"body":0.50}"#);
        assert!(are_same(&incoming.json, &incoming.json, &version));
        let again = read(&incoming.json, &version).unwrap();
        assert_eq!(again.pdu.event_id, event.pdu.event_id);
        let changed = incoming.json.replace("0.50", "0.51");
        let changed = read(&changed, &version).unwrap();
        let changed = changed.verify(&keys(&key), &version).unwrap();
        assert_eq!(changed.pdu.fields.content.get(), "{}");
        let redacted = crate::redaction::redacted_json(&incoming.json, &version).unwrap();
        assert!(are_same(&incoming.json, &redacted, &version));
    }

    #[test]
    fn null_characters_are_for_texts_and_not_for_names() {
        let key = key();
        let version = RoomVersion::new(&RoomVersionId::V11).unwrap();
        let json = event(&key, &version);
        read(&json.replace("hello", r"hel\u0000lo"), &version).unwrap();
        let named = json.replace("m.room.message", r"m.room.mess\u0000age");
        assert_ne!(named, json);
        assert!(matches!(
            read(&named, &version),
            Err(IncomingError::Format(_))
        ));
    }

    #[test]
    fn names_are_as_long_as_the_servers_of_their_time_have_counted() {
        let key = key();
        for (version, counts_characters) in
            [(RoomVersionId::V10, true), (RoomVersionId::V11, false)]
        {
            let version = RoomVersion::new(&version).unwrap();
            let named = |length: usize| {
                let name = "\u{1f4a5}".repeat(length);
                let json = event(&key, &version).replace("m.room.message", &name);
                read(&json, &version)
            };
            assert!(named(63).is_ok());
            assert_eq!(named(70).is_ok(), counts_characters);
            assert!(named(256).is_err());
        }
    }

    #[test]
    fn an_event_that_its_server_did_not_sign_is_dropped() {
        let (signer, other) = (key(), key());
        let version = RoomVersion::new(&RoomVersionId::V11).unwrap();
        let json = event(&signer, &version);
        let forged = json.replace("@alice:example.org", "@alice:example.com");
        assert!(read(&forged, &version).unwrap().signers(&version).is_err());
        let unverified = read(&json, &version).unwrap();
        assert!(matches!(
            unverified.verify(&keys(&other), &version),
            Err(IncomingError::Signature(_))
        ));
    }

    #[test]
    fn an_id_that_a_server_gave_is_in_its_domain_which_has_signed_the_event() {
        let key = key();
        let version = RoomVersion::new(&RoomVersionId::V1).unwrap();
        let json = event(&key, &version);
        let id = read(&json, &version).unwrap().pdu.event_id.to_string();
        let foreign = json.replace(&id, "$chosen:example.com");
        let signers = read(&foreign, &version).unwrap().signers(&version);
        assert!(matches!(signers, Err(IncomingError::Signature(_))));
        let other = json.replace(&id, "$chosen:example.org");
        let other = read(&other, &version).unwrap();
        assert!(other.verify(&keys(&key), &version).is_err());
        for id_of_nobody in [
            "$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg",
            "$",
            "x:example.org",
        ] {
            let named = json.replace(&id, id_of_nobody);
            assert!(matches!(
                read(&named, &version),
                Err(IncomingError::Format(_))
            ));
        }
    }

    #[test]
    fn an_event_is_the_same_as_its_redacted_form_and_no_other_of_its_id() {
        let key = key();
        let version = RoomVersion::new(&RoomVersionId::V2).unwrap();
        let json = event(&key, &version);
        let redacted = crate::redaction::redacted_json(&json, &version).unwrap();
        assert_ne!(redacted, json);
        assert!(are_same(&json, &redacted, &version));
        let other = json.replace("\"depth\":3", "\"depth\":4");
        assert!(!are_same(&json, &other, &version));
    }

    #[test]
    fn what_is_no_event_or_of_another_room_is_dropped() {
        let version = RoomVersion::new(&RoomVersionId::V11).unwrap();
        let json = event(&key(), &version);
        let other = Unverified::read(&json, room_id!("!other:example.org"), &version);
        assert!(matches!(other, Err(IncomingError::OtherRoom)));
        for broken in [
            json.replace("\"depth\":3", "\"depth\":-3"),
            json.replace("\"depth\":3", "\"depth\":3.5"),
            json.replace("\"prev_events\":[]", "\"prev_events\":{}"),
            json.replace(r#"{"body":"hello"}"#, "[]"),
            json.replace("hello", &"x".repeat(MAX_EVENT_BYTES)),
            "[]".to_owned(),
            String::new(),
        ] {
            assert!(read(&broken, &version).is_err(), "{broken:.200}");
        }
    }
}
