//! What texts of users may be: names, passwords, IDs.
//!
//! None may hold a null character, which PostgreSQL can't store.

use ruma::{DeviceId, OwnedUserId, ServerName, UserId, api::error::ErrorKind};

use crate::{EngineError, Result};

/// Of a user's ID, in bytes, <https://spec.matrix.org/v1.19/appendices/#user-identifiers>.
const MAX_USER_ID: usize = 255;
/// Of a device's ID, in bytes. The specification sets no limit.
const MAX_DEVICE_ID: usize = 255;
/// Of a device's name, in bytes.
const MAX_DEVICE_NAME: usize = 512;
/// Of a password, in bytes: nobody types more, and hashing more costs more.
const MAX_PASSWORD: usize = 1024;

/// The ID that someone who registers by `username` gets. Upper case is lowered.
///
/// # Errors
/// `M_INVALID_USERNAME` if the name breaks the grammar of user IDs.
pub(crate) fn user_id_of(username: &str, server_name: &ServerName) -> Result<OwnedUserId> {
    let invalid = |message: &'static str| EngineError::refused(ErrorKind::InvalidUsername, message);
    let localpart = username.to_ascii_lowercase();
    let allowed = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || "._=-/+".contains(character)
    };
    if localpart.is_empty() || !localpart.chars().all(allowed) {
        return Err(invalid(
            "a user name consists of the characters a-z, 0-9, '.', '_', '=', '-', '/' and '+'",
        ));
    }
    let user_id = format!("@{localpart}:{server_name}");
    if user_id.len() > MAX_USER_ID {
        return Err(invalid("the user name is too long"));
    }
    UserId::parse(user_id).map_err(|_| invalid("this can't be a user name"))
}

/// Demands what the settings demand of a new password.
///
/// # Errors
/// `M_WEAK_PASSWORD` if it is too short, `M_INVALID_PARAM` if it is absurdly long.
pub(crate) fn check_new_password(password: &str, minimum_length: u32) -> Result<()> {
    let minimum = usize::try_from(minimum_length).unwrap_or(usize::MAX);
    if password.chars().take(minimum).count() < minimum {
        return Err(EngineError::refused(
            ErrorKind::WeakPassword,
            format!("a password needs at least {minimum_length} characters"),
        ));
    }
    if password.len() > MAX_PASSWORD {
        return Err(EngineError::invalid_param("the password is too long"));
    }
    Ok(())
}

/// # Errors
/// `M_INVALID_PARAM`.
pub(crate) fn check_device_id(device_id: &DeviceId) -> Result<()> {
    let id = device_id.as_str();
    if id.is_empty() || id.len() > MAX_DEVICE_ID || id.chars().any(char::is_control) {
        return Err(EngineError::invalid_param(
            "a device ID has 1 to 255 bytes and no control characters",
        ));
    }
    Ok(())
}

/// # Errors
/// `M_INVALID_PARAM`.
pub(crate) fn check_device_name(name: &str) -> Result<()> {
    if name.len() > MAX_DEVICE_NAME || name.contains('\0') {
        return Err(EngineError::invalid_param(
            "the name of a device has at most 512 bytes and no null character",
        ));
    }
    Ok(())
}

/// Of the name of a profile's field, in bytes.
const MAX_PROFILE_FIELD: usize = 255;

/// # Errors
/// `M_KEY_TOO_LARGE`; `M_INVALID_PARAM` if it is neither a field of the specification nor one in a namespace,
/// <https://spec.matrix.org/v1.19/appendices/#common-namespaced-identifier-grammar>.
pub(crate) fn check_profile_field(field: &str) -> Result<()> {
    if field.len() > MAX_PROFILE_FIELD {
        return Err(EngineError::refused(
            ErrorKind::KeyTooLarge,
            "the name of a profile's field has at most 255 bytes",
        ));
    }
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.');
    let namespaced = field.starts_with(|first: char| first.is_ascii_lowercase())
        && field.contains('.')
        && field.bytes().all(allowed);
    if namespaced || matches!(field, "displayname" | "avatar_url") {
        return Ok(());
    }
    Err(EngineError::invalid_param(
        "a profile has no such field; names of your own are like `org.example.name`",
    ))
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn upper_case_is_lowered_in_a_user_name() {
        let user_id = user_id_of("user-UPPER", server_name!("hs1")).unwrap();
        assert_eq!(user_id, "@user-upper:hs1");
    }

    #[test]
    fn all_characters_of_the_grammar_make_a_user_name() {
        assert!(user_id_of("az09._=-/+", server_name!("hs1")).is_ok());
    }

    #[test]
    fn other_characters_make_no_user_name() {
        for character in "!\":?\\@[]{|}£é\n'\0 ".chars() {
            let refused = user_id_of(&format!("a{character}b"), server_name!("hs1")).unwrap_err();
            assert_eq!(refused.kind(), Some(&ErrorKind::InvalidUsername));
        }
    }

    #[test]
    fn a_user_id_has_at_most_255_bytes() {
        let fitting = "a".repeat(MAX_USER_ID - "@:hs1".len());
        assert!(user_id_of(&fitting, server_name!("hs1")).is_ok());
        assert!(user_id_of(&format!("{fitting}a"), server_name!("hs1")).is_err());
        assert!(user_id_of("", server_name!("hs1")).is_err());
    }

    #[test]
    fn the_length_of_a_password_is_counted_in_characters() {
        assert!(check_new_password("äöüäöüäö", 8).is_ok());
        let refused = check_new_password("äöüäöüä", 8).unwrap_err();
        assert_eq!(refused.kind(), Some(&ErrorKind::WeakPassword));
    }
}
