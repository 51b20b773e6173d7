//! The tokens that clients come back with.

use std::{fmt, str::FromStr};

use crate::{EngineError, Result};

/// Where a client stands in the stream: `next_batch` of /sync, and the `from`, `start`, `end`, `prev_batch` of reading
/// a room's history, where the fleeting part is left out.
///
/// Written `s123` or `s123_4d2_7` (`b123` for the past of a room that other servers told, which stands before the stream): the position; then, which start of a node counted the fleeting part, and that count.
/// It stays valid as long as the data lives, on any node. To another start of a node the fleeting part says nothing,
/// and the client is sent what is fleeting anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The last position that the client has seen.
    pub position: i64,
    /// Which start of which node counted `fleeting`.
    pub instance: u32,
    /// The last fleeting change that the client has seen.
    pub fleeting: u64,
}

impl Token {
    /// A token for reading history.
    pub fn at(position: i64) -> Self {
        Self {
            position,
            instance: 0,
            fleeting: 0,
        }
    }

    /// Reads a client's token; `newest` is how far the stream has come.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if it is none of this server's, or from the future: an answer that is silently empty would have
    /// the client wait for what it has missed.
    pub fn parse(text: &str, newest: i64) -> Result<Self> {
        let token: Self = text.parse().map_err(|()| {
            EngineError::invalid_param("this is not a token that this server gave")
        })?;
        if token.position > newest {
            return Err(EngineError::invalid_param(
                "this token is from the future: it was given by a server with other data",
            ));
        }
        Ok(token)
    }
}

impl FromStr for Token {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(past) = text.strip_prefix('b') {
            if !past.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(());
            }
            let position: i64 = past.parse().map_err(|_| ())?;
            return Ok(Self::at(-position));
        }
        let mut parts = text.strip_prefix('s').ok_or(())?.split('_');
        let digits = parts.next().ok_or(())?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(());
        }
        let position = digits.parse().map_err(|_| ())?;
        let Some(instance) = parts.next() else {
            return Ok(Self::at(position));
        };
        let fleeting = parts.next().ok_or(())?;
        if parts.next().is_some() {
            return Err(());
        }
        Ok(Self {
            position,
            instance: u32::from_str_radix(instance, 16).map_err(|_| ())?,
            fleeting: fleeting.parse().map_err(|_| ())?,
        })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.position < 0 {
            return write!(formatter, "b{}", self.position.unsigned_abs());
        }
        if self.instance == 0 {
            return write!(formatter, "s{}", self.position);
        }
        write!(
            formatter,
            "s{}_{:x}_{}",
            self.position, self.instance, self.fleeting
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_was_given() {
        for token in [
            Token::at(17),
            Token::at(-17),
            Token {
                position: 5,
                instance: 0xab,
                fleeting: 9,
            },
        ] {
            assert_eq!(Token::parse(&token.to_string(), 20).unwrap(), token);
        }
    }

    #[test]
    fn what_is_no_token_or_from_the_future_is_refused() {
        for text in [
            "",
            "s",
            "5",
            "s-1",
            "s+1",
            "s1_",
            "s1_2",
            "s1_2_3_4",
            "s1_x_1",
            "t1",
            "s99999999999999999999",
        ] {
            assert!(Token::parse(text, i64::MAX).is_err(), "{text:?}");
        }
        assert!(Token::parse("s21", 20).is_err());
    }
}
