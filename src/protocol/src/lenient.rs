//! Events with numbers that aren't integers, which rooms had before version 6 and canonical JSON can't hold.
//!
//! Such a number is read as a text with a mark, and written as it came. Hashes and signatures are over what was written.
//!
//! <https://spec.matrix.org/v1.19/rooms/v1/#canonical-json>

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, RoomVersionId, ServerName,
    canonical_json::redact,
    room_version_rules::EventIdFormatVersion,
    serde::{Base64, base64::Standard},
    signatures::{KeyPair, PublicKeyMap, verify_canonical_json_bytes},
};
use sha2::{Digest, Sha256};

use crate::{RoomVersion, ServerKey};

/// What a number in a text begins with: what Unicode has for such ends, and is in no text that anybody writes.
const MARK: char = '\u{FDD0}';
/// The greatest integer of canonical JSON.
const MAX_INTEGER: u64 = (1 << 53) - 1;
/// What isn't signed.
const UNSIGNED: [&str; 2] = ["signatures", "unsigned"];
/// What isn't hashed.
const UNHASHED: [&str; 3] = ["hashes", "signatures", "unsigned"];

/// Whether events of a room may hold any number.
fn is_lenient(version: &RoomVersion) -> bool {
    matches!(
        version.id(),
        RoomVersionId::V1
            | RoomVersionId::V2
            | RoomVersionId::V3
            | RoomVersionId::V4
            | RoomVersionId::V5
    )
}

/// Reads an event of a room.
///
/// # Errors
/// If it is no JSON of that version.
pub(crate) fn read(json: &str, version: &RoomVersion) -> Result<CanonicalJsonObject, String> {
    let read = serde_json::from_str::<CanonicalJsonObject>(json);
    if !is_lenient(version) {
        return read.map_err(|error| error.to_string());
    }
    let (object, count) = match read {
        Ok(object) => (object, 0),
        Err(error) => {
            let (marked, count) = mark(json);
            let object = serde_json::from_str(&marked).map_err(|_| error.to_string())?;
            (object, count)
        }
    };
    let text = serde_json::to_string(&object).map_err(|error| error.to_string())?;
    match text.matches(MARK).count() == count {
        true => Ok(object),
        false => Err("it holds a character that is no character".to_owned()),
    }
}

/// Puts numbers that canonical JSON can't hold into texts, and counts them.
fn mark(json: &str) -> (String, usize) {
    let mut marked = String::with_capacity(json.len() + 64);
    let mut count = 0;
    let mut rest = json;
    while let Some(start) = rest
        .find(|character: char| character == '"' || character == '-' || character.is_ascii_digit())
    {
        let (before, from) = rest.split_at(start);
        marked.push_str(before);
        let is_text = from.starts_with('"');
        let length = if is_text {
            text_length(from)
        } else {
            number_length(from)
        };
        let (token, after) = from.split_at(length);
        let is_number = serde_json::from_str::<serde_json::Number>(token).is_ok();
        if is_text || is_canonical(token) || !is_number {
            marked.push_str(token);
        } else {
            marked.extend(['"', MARK]);
            marked.push_str(token);
            marked.push('"');
            count += 1;
        }
        rest = after;
    }
    marked.push_str(rest);
    (marked, count)
}

/// Bytes of the text that something begins with, its quotes included.
fn text_length(from: &str) -> usize {
    let mut is_escaped = false;
    for (index, byte) in from.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    from.len()
}

/// Bytes of the number that something begins with.
fn number_length(from: &str) -> usize {
    let is_part = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    let end = from.bytes().position(|byte| !is_part(byte));
    end.unwrap_or(from.len())
}

fn is_canonical(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    digits
        .parse::<u64>()
        .is_ok_and(|number| number <= MAX_INTEGER)
}

/// An event of a room as JSON, its numbers as they came.
pub(crate) fn write(
    object: &CanonicalJsonObject,
    version: &RoomVersion,
) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string(object)?;
    if !is_lenient(version) || !text.contains(MARK) {
        return Ok(text);
    }
    let mut parts = text.split(MARK);
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // The quote before the mark, and the one behind the number.
        written.pop();
        let (number, rest) = part.split_once('"').unwrap_or((part, ""));
        written.push_str(number);
        written.push_str(rest);
    }
    Ok(written)
}

/// Whether an event of a room holds a number that canonical JSON can't.
pub(crate) fn is_marked(object: &CanonicalJsonObject, version: &RoomVersion) -> bool {
    fn has(value: &CanonicalJsonValue) -> bool {
        match value {
            CanonicalJsonValue::String(text) => text.starts_with(MARK),
            CanonicalJsonValue::Array(values) => values.iter().any(has),
            CanonicalJsonValue::Object(object) => object.values().any(has),
            _ => false,
        }
    }
    is_lenient(version) && object.values().any(has)
}

fn without(object: &CanonicalJsonObject, fields: &[&str], version: &RoomVersion) -> Option<String> {
    let mut object = object.clone();
    object.retain(|field, _| !fields.contains(&field.as_str()));
    write(&object, version).ok()
}

fn redacted(object: &CanonicalJsonObject, version: &RoomVersion) -> Option<CanonicalJsonObject> {
    redact(object.clone(), &version.rules().redaction, None).ok()
}

/// The reference hash of a marked event, as its id holds it.
pub(crate) fn reference_hash(
    object: &CanonicalJsonObject,
    version: &RoomVersion,
) -> Option<String> {
    let bytes = without(&redacted(object, version)?, &UNSIGNED, version)?;
    let hash = Sha256::digest(bytes.as_bytes());
    Some(match version.rules().event_id_format {
        EventIdFormatVersion::V1 | EventIdFormatVersion::V2 => STANDARD_NO_PAD.encode(hash),
        _ => URL_SAFE_NO_PAD.encode(hash),
    })
}

/// Whether the hash in a marked event is right.
pub(crate) fn has_right_hash(object: &CanonicalJsonObject, version: &RoomVersion) -> bool {
    let hashes = object.get("hashes").and_then(|hashes| hashes.as_object());
    let hash = hashes.and_then(|hashes| hashes.get("sha256")?.as_str());
    let claimed = hash.and_then(|hash| Base64::<Standard>::parse(hash).ok());
    let bytes = without(object, &UNHASHED, version);
    claimed.zip(bytes).is_some_and(|(claimed, bytes)| {
        claimed.as_bytes() == Sha256::digest(bytes.as_bytes()).as_slice()
    })
}

/// Whether a marked event is signed by some servers, with keys of theirs.
///
/// # Errors
/// Which server did not sign it.
pub(crate) fn check_signatures(
    object: &CanonicalJsonObject,
    servers: impl IntoIterator<Item = OwnedServerName>,
    keys: &PublicKeyMap,
    version: &RoomVersion,
) -> Result<(), OwnedServerName> {
    let bytes = redacted(object, version).and_then(|object| without(&object, &UNSIGNED, version));
    let bytes = bytes.unwrap_or_default();
    let all = object.get("signatures").and_then(|all| all.as_object());
    for server in servers {
        let own = all.and_then(|all| all.get(server.as_str())?.as_object());
        let is_right = |(id, signature): (&String, &CanonicalJsonValue)| {
            let key = keys.get(server.as_str()).and_then(|keys| keys.get(id))?;
            let signature = Base64::<Standard>::parse(signature.as_str()?).ok()?;
            let (algorithm, _) = id.split_once(':')?;
            let (algorithm, signature) = (algorithm.into(), signature.as_bytes());
            verify_canonical_json_bytes(&algorithm, key.as_bytes(), signature, bytes.as_bytes())
                .ok()
        };
        if !own
            .into_iter()
            .flatten()
            .any(|entry| is_right(entry).is_some())
        {
            return Err(server);
        }
    }
    Ok(())
}

/// Adds the signature of a server to a marked event.
pub(crate) fn sign(
    object: &mut CanonicalJsonObject,
    server: &ServerName,
    key: &ServerKey,
    version: &RoomVersion,
) -> Option<()> {
    let bytes = without(&redacted(object, version)?, &UNSIGNED, version)?;
    let signature = key.sign(bytes.as_bytes());
    let empty = || CanonicalJsonValue::Object(CanonicalJsonObject::new());
    let all = object.entry("signatures".to_owned()).or_insert_with(empty);
    let CanonicalJsonValue::Object(all) = all else {
        return None;
    };
    let own = all.entry(server.to_string()).or_insert_with(empty);
    let CanonicalJsonValue::Object(own) = own else {
        return None;
    };
    own.insert(signature.id(), signature.base64().into());
    Some(())
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    fn version(id: RoomVersionId) -> RoomVersion {
        RoomVersion::new(&id).unwrap()
    }

    #[test]
    fn numbers_come_back_as_they_were_in_versions_that_have_them() {
        let json = r#"{"a":50.57,"b":[1e100,-2.50E-3,9007199254740992],"c":"4.5","d":{"e":-7,"f":9007199254740991},"g":"\"1.5"}"#;
        for id in [RoomVersionId::V1, RoomVersionId::V5] {
            let version = version(id);
            let object = read(json, &version).unwrap();
            assert!(is_marked(&object, &version));
            assert_eq!(write(&object, &version).unwrap(), json);
        }
        assert!(read(json, &version(RoomVersionId::V6)).is_err());
    }

    #[test]
    fn what_is_no_json_is_none_and_nobody_makes_a_text_a_number() {
        let first = version(RoomVersionId::V1);
        for wrong in [
            "",
            "[1.5]",
            r#"{"a":1.5"#,
            r#"{"a":1.5.5}"#,
            r#"{"a":--1}"#,
            r#"{"a":1.5,"a":2}"#,
            "{\"a\":1.5,\"b\":\"\u{FDD0}1\"}",
            r#"{"a":1.5,"b":"\ufdd01"}"#,
            r#"{"a":1.5,"\ufdd01":1}"#,
        ] {
            assert!(read(wrong, &first).is_err(), "{wrong}");
        }
        let object = read("{\"a\":\"\u{FDD0}1.5\"}", &first);
        assert!(object.is_err(), "{object:?}");
    }

    #[test]
    fn an_event_with_such_numbers_is_hashed_and_signed_as_it_is_written() {
        let first = version(RoomVersionId::V3);
        let server = server_name!("a").to_owned();
        let key = ServerKey::from_der(server.clone(), &ServerKey::generate(), "1").unwrap();
        let json = r#"{"content":{"x":0.5},"depth":1,"type":"m.room.message"}"#;
        let mut object = read(json, &first).unwrap();
        let hash = STANDARD_NO_PAD.encode(Sha256::digest(json.as_bytes()));
        let hashes = CanonicalJsonObject::from([("sha256".to_owned(), hash.into())]);
        object.insert("hashes".to_owned(), CanonicalJsonValue::Object(hashes));
        assert!(has_right_hash(&object, &first));
        sign(&mut object, &server, &key, &first).unwrap();
        let public = Base64::new(key.public_key().to_vec());
        let keys: PublicKeyMap =
            [("a".to_owned(), [("ed25519:1".to_owned(), public)].into())].into();
        assert_eq!(
            check_signatures(&object, [server.clone()], &keys, &first),
            Ok(())
        );
        let mut changed = object.clone();
        changed.insert("depth".to_owned(), CanonicalJsonValue::Integer(2.into()));
        assert!(!has_right_hash(&changed, &first));
        assert_eq!(
            check_signatures(&changed, [server.clone()], &keys, &first),
            Err(server)
        );
        assert_ne!(
            reference_hash(&changed, &first),
            reference_hash(&object, &first)
        );
    }
}
