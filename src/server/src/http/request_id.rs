//! Names by which a request is found in the log.

use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
};

use http::{HeaderMap, HeaderName, HeaderValue};

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ones are replaced: they'd be repeated in every line about the request.
const MAXIMUM_LENGTH: usize = 64;

/// Counts from a random number, so that the ids of several nodes and starts don't meet.
static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(rand::random()));

/// The proxy's id, which [`super::connections`] removes unless it is trusted, or else a new one.
pub(super) fn of(headers: &HeaderMap) -> HeaderValue {
    let usable = |id: &&HeaderValue| {
        let graphic = id.as_bytes().iter().all(u8::is_ascii_graphic);
        graphic && (1..=MAXIMUM_LENGTH).contains(&id.len())
    };
    match headers.get(X_REQUEST_ID).filter(usable) {
        Some(id) => id.clone(),
        None => make(),
    }
}

fn make() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut text = [0; 16];
    for digit in text.iter_mut().rev() {
        *digit = DIGITS[(number & 0xf) as usize];
        number >>= 4;
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_header(id: &str) -> HeaderValue {
        of(&HeaderMap::from_iter([(X_REQUEST_ID, id.parse().unwrap())]))
    }

    #[test]
    fn a_new_id_is_sixteen_hexadecimal_digits_and_never_the_same() {
        let (first, second) = (of(&HeaderMap::new()), of(&HeaderMap::new()));
        assert_ne!(first, second);
        assert!(first.as_bytes().iter().all(u8::is_ascii_hexdigit) && first.len() == 16);
    }

    #[test]
    fn a_given_id_is_kept_if_it_can_be_logged() {
        assert_eq!(of_header("abc-123"), "abc-123");
        assert_ne!(of_header("with space"), "with space");
        assert_ne!(of_header(&"x".repeat(65)), "x".repeat(65).as_str());
    }
}
