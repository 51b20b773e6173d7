//! Searching for what was said.
//!
//! The indexer takes up texts behind the stream; whoever searches waits until it has come up to now, if that isn't long.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#server-side-search>

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
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
    pub next: Option<String>,
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

/// Where a page begins: in the matches up to a position of the stream, after so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    up_to: i64,
    skip: usize,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (up_to, skip) = text.split_once('_')?;
        Some(Self {
            up_to: up_to.parse().ok()?,
            skip: skip.parse().ok()?,
        })
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
            },
            Some(text) => {
                Place::parse(text).ok_or_else(|| EngineError::invalid_param("no such page"))?
            }
        };
        let rooms = self.searched_rooms(session, request.rooms).await?;
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
        let rest = matches.get(place.skip..).unwrap_or_default();
        let (results, looked_at) = self.visible(session, rest, request, fits).await?;
        let is_full = results.len() >= request.limit;
        let skip = place.skip + looked_at;
        Ok(SearchPage {
            count: matches.len(),
            next: is_full.then(|| format!("{}_{skip}", place.up_to)),
            results,
            words,
        })
    }

    /// The rooms to search, of those that the user is in; or of those that they have been in and not forgotten, if they
    /// are named.
    async fn searched_rooms(
        &self,
        session: &Session,
        named: Option<&[OwnedRoomId]>,
    ) -> Result<Vec<i64>> {
        let named: Option<HashSet<_>> = named.map(|rooms| rooms.iter().collect());
        let rows = self.database.memberships_of(session.user_nid).await?;
        let is_searched = |row: &&parley_storage::rooms::MembershipRow| match &named {
            Some(named) => !row.forgotten && named.contains(&row.room_id),
            None => row.membership == "join",
        };
        Ok(rows
            .iter()
            .filter(is_searched)
            .map(|row| row.room_nid)
            .collect())
    }

    /// The first matches that the user may see, and how many were looked at for that.
    async fn visible(
        &self,
        session: &Session,
        matches: &[(i64, i64)],
        request: &SearchRequest<'_>,
        fits: impl Fn(&TimelineEvent) -> bool,
    ) -> Result<(Vec<Found>, usize)> {
        let ignored = self.ignored_by(session).await?;
        let mut rooms: HashMap<i64, (Arc<Room>, Access)> = HashMap::new();
        let (mut found, mut looked_at) = (Vec::new(), 0);
        for chunk in matches.chunks(CHUNK) {
            let positions: Vec<i64> = chunk.iter().map(|(position, _)| *position).collect();
            let events = self.events.at(&positions).await?;
            for (position, rank) in chunk {
                if found.len() >= request.limit {
                    return Ok((found, looked_at));
                }
                looked_at += 1;
                let Some(event) = events.iter().find(|event| event.position == *position) else {
                    continue;
                };
                let (room, access) = match rooms.entry(event.room_nid) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => {
                        let room = self.registry.by_nid(event.room_nid).await?;
                        let state = self.registry.load(&room).await?;
                        let access = self.access(&room, &state, &session.user_id).await?;
                        place.insert((room, access))
                    }
                };
                let user_id = &session.user_id;
                let shown = access.sees(event, user_id) && !access.veils(event, user_id);
                if fits(event) && !ignored.hide(event) && shown {
                    let rank = *rank as f64 / 1_000_000.0;
                    let around = self.around(session, request, event, room, access);
                    found.push(Found {
                        rank,
                        ..around.await?
                    });
                }
            }
        }
        Ok((found, looked_at))
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
            to: None,
            direction,
            limit,
        };
        let backward = page(Direction::Backward, request.before);
        let (before, _) = self
            .page(room, access, backward, event.position - 1, sees)
            .await?;
        let forward = page(Direction::Forward, request.after);
        let (after, _) = self
            .page(room, access, forward, event.position, sees)
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
