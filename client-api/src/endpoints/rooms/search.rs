//! `POST /_matrix/client/v3/search`: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3search>

use std::{collections::BTreeMap, fmt::Write};

use parley_engine::{
    limits::Action,
    rooms::search::{Found, SearchPage, SearchRequest},
    sessions::Session,
    stream::token::Token,
};
use parley_protocol::client_event::push_string;
use ruma::{
    OwnedRoomId, UInt,
    api::{
        client::search::search_events::v3::{Criteria, GroupingKey, OrderBy, Request, SearchKeys},
        error::ErrorKind,
    },
};
use serde_json::{Value, json};

use crate::{
    ApiError, ClientApi, Incoming, RawJson, Result,
    events::{EventWriter, Shown},
    filter,
};

/// Results of a page unless the client asks for another number.
const DEFAULT_RESULTS: usize = 10;
/// The most results of a page.
const MAX_RESULTS: usize = 50;
/// The most events on either side of a result.
const MAX_CONTEXT: usize = 20;

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let session = &incoming.session;
    api.engine
        .limits()
        .check(Action::Search, session.user_nid)?;
    let Some(criteria) = &incoming.search_categories.room_events else {
        return Ok(RawJson("{\"search_categories\":{}}".into()));
    };
    let request = SearchRequest {
        term: &criteria.search_term,
        kinds: kinds(criteria)?,
        rooms: criteria.filter.rooms.as_deref(),
        not_rooms: &criteria.filter.not_rooms,
        by_rank: by_rank(criteria)?,
        limit: number(criteria.filter.limit, DEFAULT_RESULTS, MAX_RESULTS).max(1),
        from: incoming.next_batch.as_deref(),
        before: number(Some(criteria.event_context.before_limit), 0, MAX_CONTEXT),
        after: number(Some(criteria.event_context.after_limit), 0, MAX_CONTEXT),
    };
    let fits = |event: &_| filter::wants(&criteria.filter, event);
    let page = api.engine.rooms().search(session, &request, fits).await?;
    write(&api, session, criteria, &page).await
}

fn number(wanted: Option<UInt>, default: usize, most: usize) -> usize {
    wanted.map_or(default, |wanted| {
        usize::try_from(wanted).unwrap_or(most).min(most)
    })
}

fn kinds(criteria: &Criteria) -> Result<Vec<String>> {
    let Some(keys) = &criteria.keys else {
        return Ok(["body", "name", "topic"].map(ToOwned::to_owned).to_vec());
    };
    let kind = |key: &SearchKeys| match key {
        SearchKeys::ContentBody => Ok("body".to_owned()),
        SearchKeys::ContentName => Ok("name".to_owned()),
        SearchKeys::ContentTopic => Ok("topic".to_owned()),
        _ => Err(invalid(
            "`keys` are of content.body, content.name, content.topic",
        )),
    };
    keys.iter().map(kind).collect()
}

fn by_rank(criteria: &Criteria) -> Result<bool> {
    match &criteria.order_by {
        None | Some(OrderBy::Rank) => Ok(true),
        Some(OrderBy::Recent) => Ok(false),
        Some(_) => Err(invalid("`order_by` is rank or recent")),
    }
}

fn invalid(message: &'static str) -> ApiError {
    ApiError::new(ErrorKind::InvalidParam, message)
}

async fn write(
    api: &ClientApi,
    session: &Session,
    criteria: &Criteria,
    page: &SearchPage,
) -> Result<RawJson> {
    let mut events = Vec::new();
    for found in &page.results {
        events.push(&found.event);
        events.extend(found.before.iter().chain(&found.after));
    }
    let accesses = page.results.iter().map(|found| &found.access);
    let writer = EventWriter::in_rooms(api, session, accesses, events).await?;
    let mut out = format!(
        "{{\"search_categories\":{{\"room_events\":{{\"count\":{},\"highlights\":{},\"results\":[",
        page.count,
        json!(page.words)
    );
    for (index, found) in page.results.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let shown = Shown::in_room(found.room.id()).with_access(&found.access);
        let _ = write!(out, "{{\"rank\":{},\"result\":", found.rank);
        writer.write(&mut out, &found.event, shown);
        let (start, end) = (Token::at(found.start), Token::at(found.end));
        let _ = write!(
            out,
            ",\"context\":{{\"start\":\"{start}\",\"end\":\"{end}\",\"events_before\":"
        );
        writer.write_list(&mut out, &found.before, shown);
        out.push_str(",\"events_after\":");
        writer.write_list(&mut out, &found.after, shown);
        if criteria.event_context.include_profile {
            let _ = write!(out, ",\"profile_info\":{}", profiles(api, found).await?);
        }
        out.push_str("}}");
    }
    out.push(']');
    if criteria.include_state == Some(true) {
        out.push_str(",\"state\":");
        write_state(api, session, page, &mut out).await?;
    }
    let _ = write!(out, ",\"groups\":{}", groups(criteria, page));
    if let Some(next) = page.next() {
        let _ = write!(out, ",\"next_batch\":{}", json!(next));
    }
    out.push_str("}}}");
    Ok(RawJson(out.into()))
}

/// How those who sent something of what is told were called then.
async fn profiles(api: &ClientApi, found: &Found) -> Result<Value> {
    let rooms = api.engine.rooms();
    let state = rooms.registry().load(&found.room).await?;
    let events: Vec<_> = std::iter::once(&found.event)
        .chain(&found.before)
        .chain(&found.after)
        .cloned()
        .collect();
    let mut profiles = serde_json::Map::new();
    for member in rooms.senders(&state, &events).await? {
        let content: Value = serde_json::from_str(member.content()).unwrap_or_default();
        let mut profile = serde_json::Map::new();
        for field in ["displayname", "avatar_url"] {
            if content[field].is_string() {
                profile.insert(field.to_owned(), content[field].clone());
            }
        }
        let user_id = member.state_key.as_deref().unwrap_or_default();
        profiles.insert(user_id.to_owned(), profile.into());
    }
    Ok(profiles.into())
}

/// The state of the rooms, as far as the user may know it.
async fn write_state(
    api: &ClientApi,
    session: &Session,
    page: &SearchPage,
    out: &mut String,
) -> Result<()> {
    let rooms: BTreeMap<OwnedRoomId, ()> = page
        .results
        .iter()
        .map(|found| (found.room.id().to_owned(), ()))
        .collect();
    out.push('{');
    let start = out.len();
    for room_id in rooms.keys() {
        let (room, state) = match api.engine.rooms().state_for(session, room_id).await {
            Ok(known) => known,
            // Who is invited may see what was said, and not the state.
            Err(error) if matches!(error.kind(), Some(ErrorKind::Forbidden)) => continue,
            Err(error) => return Err(error.into()),
        };
        let entries: Vec<_> = state.all().cloned().collect();
        let events = api.engine.rooms().timeline_events(&entries).await?;
        let writer = EventWriter::new(api, session, &events).await?;
        if out.len() > start {
            out.push(',');
        }
        push_string(out, room_id.as_str());
        out.push(':');
        writer.write_list(out, &events, Shown::in_room(room.id()));
    }
    out.push('}');
    Ok(())
}

/// The results by room or sender, in the order in which each first comes.
fn groups(criteria: &Criteria, page: &SearchPage) -> Value {
    let mut groups = serde_json::Map::new();
    for key in criteria
        .groupings
        .group_by
        .iter()
        .filter_map(|group| group.key.as_ref())
    {
        let value = |found: &Found| match key {
            GroupingKey::RoomId => Some(found.room.id().to_string()),
            GroupingKey::Sender => Some(found.event.sender.to_string()),
            _ => None,
        };
        let mut values: serde_json::Map<String, Value> = serde_json::Map::new();
        for found in &page.results {
            let Some(value) = value(found) else { continue };
            let order = values.len();
            let next = page.next_of_group(&value);
            let group = values.entry(value).or_insert_with(|| {
                let mut group = json!({ "order": order, "results": [] });
                if let Some(next) = next {
                    group["next_batch"] = next.into();
                }
                group
            });
            if let Some(results) = group["results"].as_array_mut() {
                results.push(found.event.event_id.to_string().into());
            }
        }
        groups.insert(key.as_str().to_owned(), values.into());
    }
    groups.into()
}
