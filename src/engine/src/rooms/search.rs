//! Searching for what was said.
//!
//! The indexer takes up texts behind the stream; whoever searches waits until it has come up to now, if that isn't long.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#server-side-search>

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt::{self, Display, Formatter},
    sync::Arc,
};

use parley_storage::search::SearchQuery;
use ruma::OwnedRoomId;

use super::{
    Rooms,
    history::{Direction, PageRequest},
    indexer::words_of,
    room::Room,
    timeline::TimelineEvent,
    visibility::Access,
};
use crate::{EngineError, Result, sessions::Session};

/// The most matches of a search that can be paged through.
const MAX_MATCHES: i64 = 5_000;
/// Events that are read at once.
const CHUNK: usize = 100;
/// The most words of a search.
const MAX_WORDS: usize = 32;

/// What is searched for.
#[derive(Clone, Debug)]
pub struct SearchRequest<'a> {
    /// The words.
    pub term: &'a str,
    /// In which texts: `body`, `name`, `topic`.
    pub kinds: Vec<String>,
    /// In which rooms; `None`: all that the user is joined to.
    pub rooms: Option<&'a [OwnedRoomId]>,
    /// In which not.
    pub not_rooms: &'a [OwnedRoomId],
    /// Whether what fits best comes first, not what is newest.
    pub by_rank: bool,
    /// The most results.
    pub limit: usize,
    /// A token of an earlier page.
    pub from: Option<&'a str>,
    /// The most events before each that are told.
    pub before: usize,
    /// The most events after each that are told.
    pub after: usize,
}

/// A page of results.
#[derive(Clone, Debug, Default)]
pub struct SearchPage {
    /// About how many there are in all.
    pub count: usize,
    /// The results.
    pub results: Vec<Found>,
    /// Where the next page begins, if there may be one.
    next: Option<Place>,
    /// The words that were looked for.
    pub words: Vec<String>,
}

/// A result.
#[derive(Clone, Debug)]
pub struct Found {
    /// The event.
    pub event: Arc<TimelineEvent>,
    /// How well it fits.
    pub rank: f64,
    /// Its room.
    pub room: Arc<Room>,
    /// What the reader may see there.
    pub access: Access,
    /// The events before it, newest first.
    pub before: Vec<Arc<TimelineEvent>>,
    /// The events after it, oldest first.
    pub after: Vec<Arc<TimelineEvent>>,
    /// Where to read on backward.
    pub start: i64,
    /// Where to read on forward.
    pub end: i64,
}

impl SearchPage {
    /// Where the next page begins, if there may be one.
    pub fn next(&self) -> Option<String> {
        self.next.as_ref().map(ToString::to_string)
    }

    /// Where the next page of what is of one room or one sender begins, if there may be one.
    pub fn next_of_group(&self, group: &str) -> Option<String> {
        let place = Place {
            group: Some(group.to_owned()),
            ..self.next.clone()?
        };
        Some(place.to_string())
    }
}

/// Where a page begins: in the matches up to a position of the stream, after so many.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    up_to: i64,
    skip: usize,
    /// The room or the sender, by id, if only what is of it is wanted.
    group: Option<String>,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '_');
        Some(Self {
            up_to: parts.next()?.parse().ok()?,
            skip: parts.next()?.parse().ok()?,
            group: parts.next().map(ToOwned::to_owned),
        })
    }

    fn has(&self, event: &TimelineEvent, room: &Room) -> bool {
        self.group
            .as_deref()
            .is_none_or(|group| group == room.id().as_str() || group == event.sender.as_str())
    }
}

impl Display for Place {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}_{}", self.up_to, self.skip)?;
        match &self.group {
            Some(group) => write!(formatter, "_{group}"),
            None => Ok(()),
        }
    }
}

impl Rooms {
    /// Searches. `fits` is a filter of the client.
    ///
    /// `POST /search`
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if the token is none of this operation.
    pub async fn search(
        &self,
        session: &Session,
        request: &SearchRequest<'_>,
        fits: impl Fn(&TimelineEvent) -> bool,
    ) -> Result<SearchPage> {
        let mut words: Vec<String> = words_of(request.term).map(str::to_lowercase).collect();
        words.truncate(MAX_WORDS);
        let place = match request.from.filter(|from| !from.is_empty()) {
            None => Place {
                up_to: self.indexer.ready().await?,
                skip: 0,
                group: None,
            },
            Some(text) => {
                Place::parse(text).ok_or_else(|| EngineError::invalid_param("no such page"))?
            }
        };
        let rooms = self.searched_rooms(session, request).await?;
        if words.is_empty() || rooms.is_empty() {
            return Ok(SearchPage::default());
        }
        let matches = self
            .database
            .search(SearchQuery {
                words: &words,
                rooms,
                kinds: request.kinds.clone(),
                up_to: place.up_to,
                by_rank: request.by_rank,
                limit: MAX_MATCHES,
            })
            .await?;
        let (results, next) = self
            .visible(session, &matches, &place, request, fits)
            .await?;
        let is_full = results.len() >= request.limit;
        Ok(SearchPage {
            count: matches.len(),
            next: is_full.then_some(next),
            results,
            words,
        })
    }

    /// The rooms to search, of those that the user is in; or of those that they have been in and not forgotten, if they
    /// are named.
    async fn searched_rooms(
        &self,
        session: &Session,
        request: &SearchRequest<'_>,
    ) -> Result<Vec<i64>> {
        let named: Option<HashSet<_>> = request.rooms.map(|rooms| rooms.iter().collect());
        let left_out: HashSet<_> = request.not_rooms.iter().collect();
        let rows = self.database.memberships_of(session.user_nid).await?;
        let is_searched = |row: &&parley_storage::rooms::MembershipRow| match &named {
            Some(named) => !row.forgotten && named.contains(&row.room_id),
            None => row.membership == "join",
        };
        Ok(rows
            .iter()
            .filter(is_searched)
            .filter(|row| !left_out.contains(&row.room_id))
            .map(|row| row.room_nid)
            .collect())
    }

    /// The first matches from a place on that the user may see, and where to go on.
    async fn visible(
        &self,
        session: &Session,
        matches: &[(i64, i64)],
        place: &Place,
        request: &SearchRequest<'_>,
        fits: impl Fn(&TimelineEvent) -> bool,
    ) -> Result<(Vec<Found>, Place)> {
        let ignored = self.ignored_by(session).await?;
        let mut rooms: HashMap<i64, (Arc<Room>, Access)> = HashMap::new();
        let (mut found, mut place) = (Vec::new(), place.clone());
        let rest = matches.get(place.skip..).unwrap_or_default();
        for chunk in rest.chunks(CHUNK) {
            let positions: Vec<i64> = chunk.iter().map(|(position, _)| *position).collect();
            let events = self.events.at(&positions).await?;
            for (position, rank) in chunk {
                if found.len() >= request.limit {
                    return Ok((found, place));
                }
                place.skip += 1;
                let Some(event) = events.iter().find(|event| event.position == *position) else {
                    continue;
                };
                let (room, access) = match rooms.entry(event.room_nid) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => {
                        let room = self.registry.by_nid(event.room_nid).await?;
                        let state = self.registry.load(&room).await?;
                        let access = self.access(&room, &state, &session.user_id).await?;
                        new.insert((room, access))
                    }
                };
                let user_id = &session.user_id;
                let shown = access.sees(event, user_id) && !access.veils(event, user_id);
                if place.has(event, room) && fits(event) && !ignored.hide(event) && shown {
                    let rank = *rank as f64 / 1_000_000.0;
                    let around = self.around(session, request, event, room, access);
                    found.push(Found {
                        rank,
                        ..around.await?
                    });
                }
            }
        }
        Ok((found, place))
    }

    /// A result with what was said around it.
    async fn around(
        &self,
        session: &Session,
        request: &SearchRequest<'_>,
        event: &Arc<TimelineEvent>,
        room: &Arc<Room>,
        access: &Access,
    ) -> Result<Found> {
        let ignored = self.ignored_by(session).await?;
        let user_id = &session.user_id;
        let shown =
            |event: &TimelineEvent| access.sees(event, user_id) && !access.veils(event, user_id);
        let sees = |event: &TimelineEvent| !ignored.hide(event) && shown(event);
        let page = |direction, limit| PageRequest {
            from: None,
            // A search asks no other server.
            to: (direction == Direction::Backward).then_some(i64::MIN),
            direction,
            limit,
        };
        let backward = page(Direction::Backward, request.before);
        let (before, _) = self
            .page(room, access, backward, event.position - 1, user_id, sees)
            .await?;
        let forward = page(Direction::Forward, request.after);
        let (after, _) = self
            .page(room, access, forward, event.position, user_id, sees)
            .await?;
        Ok(Found {
            start: before.last().unwrap_or(event).position - 1,
            end: after.last().unwrap_or(event).position,
            event: event.clone(),
            rank: 0.0,
            room: room.clone(),
            access: access.clone(),
            before,
            after,
        })
    }
}
