//! The room directory of this server.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#published-room-directory>

use ruma::{
    RoomId, ServerName,
    room::{JoinRuleKind, RoomSummary},
};

use super::{Rooms, aliases::may_set_aliases};
use crate::{
    EngineError, Result,
    remote::{PublicRooms, PublicRoomsPage},
    sessions::Session,
};

/// The most rooms of a page.
const MAX_PAGE: usize = 500;
/// Rooms that are looked at at once.
const CHUNK: usize = 500;

/// What is asked of the directory.
#[derive(Clone, Debug, Default)]
pub struct DirectoryRequest {
    /// The most rooms.
    pub limit: usize,
    /// Where to begin: a token of an earlier page.
    pub since: Option<String>,
    /// A text that name, topic or alias hold, in any case of letters.
    pub search: Option<String>,
    /// The types of rooms; `None` in it stands for rooms without a type. Empty: all.
    pub room_types: Vec<Option<String>>,
}

/// A page of the directory.
#[derive(Clone, Debug)]
pub struct DirectoryPage {
    /// The rooms, those with most members first.
    pub rooms: Vec<DirectoryEntry>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
    /// Where the page before begins, if there is one.
    pub previous: Option<String>,
    /// How many rooms the directory has in all.
    pub total: usize,
}

/// A room as the directory shows it.
#[derive(Clone, Debug)]
pub struct DirectoryEntry {
    /// What it looks like.
    pub summary: RoomSummary,
    /// Who may join, in short.
    pub join_rule: JoinRuleKind,
}

/// Where a page begins or ends: after or before a room, by how many are joined to it and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    After(i64, i64),
    Before(i64, i64),
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (joined, nid) = text.get(1..)?.split_once('_')?;
        let (joined, nid) = (joined.parse().ok()?, nid.parse().ok()?);
        match text.as_bytes().first()? {
            b'n' => Some(Self::After(joined, nid)),
            b'p' => Some(Self::Before(joined, nid)),
            _ => None,
        }
    }

    fn token(self) -> String {
        match self {
            Self::After(joined, nid) => format!("n{joined}_{nid}"),
            Self::Before(joined, nid) => format!("p{joined}_{nid}"),
        }
    }
}

impl Rooms {
    /// Reads the directory.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if `since` is no token of this operation.
    pub async fn directory(&self, request: &DirectoryRequest) -> Result<DirectoryPage> {
        let place = request
            .since
            .as_deref()
            .map(|text| {
                Place::parse(text).ok_or_else(|| EngineError::invalid_param("no such page"))
            })
            .transpose()?;
        let listed = self.database.published_rooms().await?;
        let key = |(nid, joined): &(i64, i64)| (-joined, *nid);
        let (from, backward) = match place {
            None => (0, false),
            Some(Place::After(joined, nid)) => (
                listed.partition_point(|row| key(row) <= (-joined, nid)),
                false,
            ),
            Some(Place::Before(joined, nid)) => (
                listed.partition_point(|row| key(row) < (-joined, nid)),
                true,
            ),
        };
        let limit = request.limit.clamp(1, MAX_PAGE);
        let mut rest: Vec<(i64, i64)> = match backward {
            false => listed.get(from..).unwrap_or_default().to_vec(),
            true => listed.get(..from).unwrap_or_default().to_vec(),
        };
        if backward {
            rest.reverse();
        }
        let mut found = self.fitting(&rest, request, limit + 1).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        if backward {
            found.reverse();
        }
        let ends = found
            .first()
            .zip(found.last())
            .map(|((first, _), (last, _))| (*first, *last));
        let has_previous = if backward { more } else { place.is_some() };
        let has_next = backward || more;
        Ok(DirectoryPage {
            next: ends
                .filter(|_| has_next)
                .map(|(_, (nid, joined))| Place::After(joined, nid).token()),
            previous: ends
                .filter(|_| has_previous)
                .map(|((nid, joined), _)| Place::Before(joined, nid).token()),
            rooms: found.into_iter().map(|(_, entry)| entry).collect(),
            total: listed.len(),
        })
    }

    /// The first rooms that fit, at most `count`.
    async fn fitting(
        &self,
        listed: &[(i64, i64)],
        request: &DirectoryRequest,
        count: usize,
    ) -> Result<Vec<((i64, i64), DirectoryEntry)>> {
        let search = request.search.as_deref().map(str::to_lowercase);
        let is_open = search.is_none() && request.room_types.is_empty();
        let chunk = if is_open { count } else { CHUNK };
        let mut found = Vec::new();
        for rows in listed.chunks(chunk) {
            let nids: Vec<i64> = rows.iter().map(|(nid, _)| *nid).collect();
            let shown = self.summaries.of(&nids).await?;
            for row in rows {
                if let Some(shown) = shown.get(&row.0)
                    && fits(shown.summary(), search.as_deref(), &request.room_types)
                {
                    let entry = DirectoryEntry {
                        summary: shown.with_joined(row.1),
                        join_rule: shown.join_rule.kind(),
                    };
                    found.push((*row, entry));
                }
            }
            if found.len() >= count {
                found.truncate(count);
                break;
            }
        }
        Ok(found)
    }

    /// Reads the directory of another server; with `insist`, although it failed lately.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if this server doesn't speak with it; what it said, if it refused; `M_NOT_FOUND` if it isn't reached.
    pub async fn directory_of(
        &self,
        server: &ServerName,
        page: PublicRoomsPage,
        insist: bool,
    ) -> Result<PublicRooms> {
        let remote = self.outside.remote()?;
        Ok(remote.public_rooms(server, page, insist).await?)
    }

    /// Whether a room stands in the directory.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such room.
    pub async fn is_published(&self, room_id: &RoomId) -> Result<bool> {
        let room = self.room(room_id).await?;
        Ok(self.database.is_published(room.nid()).await?)
    }

    /// Puts a room into the directory or takes it out: who may set the room's main alias may, and administrators of this
    /// server.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such room, `M_FORBIDDEN`.
    pub async fn publish(
        &self,
        session: &Session,
        room_id: &RoomId,
        published: bool,
    ) -> Result<()> {
        let room = self.room(room_id).await?;
        let state = self.registry.load(&room).await?;
        if !may_set_aliases(&state, &session.user_id) && !session.admin {
            return Err(EngineError::forbidden(
                "you may not change whether this room is in the directory",
            ));
        }
        Ok(self.database.set_published(room.nid(), published).await?)
    }
}

fn fits(summary: &RoomSummary, search: Option<&str>, room_types: &[Option<String>]) -> bool {
    let room_type = summary
        .room_type
        .as_ref()
        .map(|room_type| room_type.as_str());
    let is_of_type = |wanted: &Option<String>| wanted.as_deref() == room_type;
    if !room_types.is_empty() && !room_types.iter().any(is_of_type) {
        return false;
    }
    let Some(search) = search else { return true };
    let alias = summary.canonical_alias.as_ref().map(|alias| alias.as_str());
    [summary.name.as_deref(), summary.topic.as_deref(), alias]
        .into_iter()
        .flatten()
        .any(|text| text.to_lowercase().contains(search))
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn a_place_comes_back_as_it_was_given() {
        for place in [Place::After(3, 17), Place::Before(0, 1)] {
            assert_eq!(Place::parse(&place.token()), Some(place));
        }
        for text in ["", "n", "n1", "x1_2", "n_", "nä_1", "ä1_2"] {
            assert_eq!(Place::parse(text), None, "{text:?}");
        }
    }
}
