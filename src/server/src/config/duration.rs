//! Durations as text with a unit: `"30s"`, `"5m"`, `"90d"`.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&text(*duration))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(D::Error::custom)
}

/// For a key that may be absent.
pub(super) mod optional {
    use super::{Deserializer, Duration, Serializer, text};

    pub(in crate::config) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.collect_str(&text(*duration)),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        #[derive(serde::Deserialize)]
        struct Present(#[serde(with = "super")] Duration);
        let duration = <Option<Present> as serde::Deserialize>::deserialize(deserializer)?;
        Ok(duration.map(|present| present.0))
    }
}

fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| {
        format!("`{text}` is not a duration such as \"30s\", \"5m\", \"12h\" or \"90d\": {error}")
    })
}

/// The largest unit that divides it: a limit of 90 days is not shown as two months and a bit.
fn text(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [(DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (SECOND, "s")];
    let divides = |unit: Duration| milliseconds.is_multiple_of(unit.as_millis());
    match units
        .into_iter()
        .find(|(unit, _)| milliseconds > 0 && divides(*unit))
    {
        Some((unit, name)) => format!("{}{name}", milliseconds / unit.as_millis()),
        None if milliseconds == 0 => "0s".to_owned(),
        None => format!("{milliseconds}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_in_the_largest_unit_that_divides_it() {
        let shown = [0, 250, 1_000, 90_000, 300_000, 86_400_000 * 90]
            .map(|milliseconds| text(Duration::from_millis(milliseconds)));
        assert_eq!(shown, ["0s", "250ms", "1s", "90s", "5m", "90d"]);
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for duration in [Duration::ZERO, SECOND, MINUTE * 90, DAY * 365] {
            assert_eq!(parse(&text(duration)), Ok(duration));
        }
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        assert!(parse("300").unwrap_err().contains("is not a duration"));
    }
}
