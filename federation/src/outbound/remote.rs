//! What the engine asks of other servers, [`Remote`], by the requests of the server-server API.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Response;
use parley_engine::remote::{
    EventTemplate, JoinedRoom, KnownKeys, MissingEvents, NotedInvite, OutgoingInvite, PublicRooms,
    PublicRoomsPage, RawPdu, Remote, RemoteError, RemoteFuture, ResolvedAlias, SpaceRooms,
    StateEvents, StateIds, ThirdPartyAddress, WantedKey,
};
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId,
    RoomAliasId, RoomId, RoomVersionId, ServerName, UInt, UserId,
    api::{
        Direction, EndpointError,
        error::Error,
        federation::{
            authorization::get_event_authorization,
            backfill::get_backfill,
            directory::get_public_rooms_filtered,
            event::{
                get_event, get_event_by_timestamp, get_missing_events, get_room_state,
                get_room_state_ids,
            },
            membership::{
                RawStrippedState, create_invite, create_join_event, create_knock_event,
                create_leave_event, prepare_join_event, prepare_knock_event, prepare_leave_event,
            },
            policy::sign_event,
            query::{get_profile_information, get_room_information},
            space::get_hierarchy,
        },
    },
    directory::{Filter, RoomTypeFilter},
};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    client::{Client, Effort, refusal},
    identity::IdentityServers,
};
use crate::{exchange, invite_v1, keys::Keys};

/// The other servers.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    pub(crate) client: Client,
    pub(crate) keys: Keys,
    pub(crate) identity: IdentityServers,
}

impl Remote for Servers {
    fn make_join<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        user_id: &'a UserId,
        versions: &'a [RoomVersionId],
    ) -> RemoteFuture<'a, EventTemplate> {
        let mut request =
            prepare_join_event::v1::Request::new(room_id.to_owned(), user_id.to_owned());
        request.ver = versions.to_vec();
        Box::pin(async move {
            let answer = self.client.send(destination, request, Effort::STEP).await?;
            Ok(template(answer.room_version, answer.event))
        })
    }

    fn send_join<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
        event: RawPdu,
        omit_members: bool,
    ) -> RemoteFuture<'a, JoinedRoom> {
        let mut request =
            create_join_event::v2::Request::new(room_id.to_owned(), event_id.to_owned(), event);
        request.omit_members = omit_members;
        Box::pin(async move {
            let answer = self
                .client
                .send(destination, request, Effort::STATE)
                .await?;
            let room = answer.room_state;
            let servers = room.servers_in_room.unwrap_or_default();
            Ok(JoinedRoom {
                event: room.event,
                state: room.state,
                auth_chain: room.auth_chain,
                members_omitted: room.members_omitted,
                servers_in_room: names(servers),
            })
        })
    }

    fn make_leave<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        user_id: &'a UserId,
    ) -> RemoteFuture<'a, EventTemplate> {
        let request = prepare_leave_event::v1::Request::new(room_id.to_owned(), user_id.to_owned());
        Box::pin(async move {
            let answer = self.client.send(destination, request, Effort::STEP).await?;
            Ok(template(answer.room_version, answer.event))
        })
    }

    fn send_leave<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
        event: RawPdu,
    ) -> RemoteFuture<'a, ()> {
        let request =
            create_leave_event::v2::Request::new(room_id.to_owned(), event_id.to_owned(), event);
        Box::pin(async move {
            self.client.send(destination, request, Effort::STEP).await?;
            Ok(())
        })
    }

    fn make_knock<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        user_id: &'a UserId,
        versions: &'a [RoomVersionId],
    ) -> RemoteFuture<'a, EventTemplate> {
        let mut request =
            prepare_knock_event::v1::Request::new(room_id.to_owned(), user_id.to_owned());
        request.ver = versions.to_vec();
        Box::pin(async move {
            let answer = self.client.send(destination, request, Effort::STEP).await?;
            Ok(template(Some(answer.room_version), answer.event))
        })
    }

    fn send_knock<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
        event: RawPdu,
    ) -> RemoteFuture<'a, Vec<Box<RawValue>>> {
        let request =
            create_knock_event::v1::Request::new(room_id.to_owned(), event_id.to_owned(), event);
        Box::pin(async move {
            let answer = self.client.send(destination, request, Effort::STEP).await?;
            let state = answer.knock_room_state.iter().map(to_raw_value);
            state.collect::<Result<_, _>>().map_err(nonsense)
        })
    }

    fn invite<'a>(
        &'a self,
        destination: &'a ServerName,
        invite: OutgoingInvite<'a>,
    ) -> RemoteFuture<'a, RawPdu> {
        Box::pin(async move {
            let (room_id, event_id) = (invite.room_id.to_owned(), invite.event_id.to_owned());
            // Servers of old know the older way alone, and rooms of these versions alone.
            let older = match invite.version {
                RoomVersionId::V1 | RoomVersionId::V2 => {
                    let (event, state) = (&invite.event, &invite.room_state);
                    let (room_id, event_id) = (room_id.clone(), event_id.clone());
                    let request = invite_v1::Request::showing(room_id, event_id, event, state);
                    Some(request.map_err(nonsense)?)
                }
                _ => None,
            };
            let state = invite.room_state.into_iter().map(RawStrippedState::Pdu);
            let request = create_invite::v2::Request::new(
                room_id,
                event_id,
                invite.version.clone(),
                invite.event,
                state.collect(),
            );
            let sent = self.client.send(destination, request, Effort::STEP).await;
            match (sent, older) {
                (
                    Err(RemoteError::Refused {
                        status: 400 | 404, ..
                    }),
                    Some(older),
                ) => {
                    let answer = self.client.send(destination, older, Effort::STEP).await?;
                    Ok(answer.event)
                }
                (sent, _) => Ok(sent?.event),
            }
        })
    }

    fn event<'a>(
        &'a self,
        destination: &'a ServerName,
        event_id: &'a EventId,
    ) -> RemoteFuture<'a, RawPdu> {
        let request = get_event::v1::Request::new(event_id.to_owned());
        Box::pin(async move {
            let answer = self
                .client
                .send(destination, request, Effort::QUERY)
                .await?;
            Ok(answer.pdu)
        })
    }

    fn state_ids<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
        is_waited_for: bool,
    ) -> RemoteFuture<'a, StateIds> {
        let effort = Effort {
            although_failing: is_waited_for,
            ..Effort::EVENTS
        };
        let request = get_room_state_ids::v1::Request::new(event_id.to_owned(), room_id.to_owned());
        Box::pin(async move {
            let answer = self.client.send(destination, request, effort).await?;
            Ok(StateIds {
                state: answer.pdu_ids,
                auth_chain: answer.auth_chain_ids,
            })
        })
    }

    fn state<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> RemoteFuture<'a, StateEvents> {
        let request = get_room_state::v1::Request::new(event_id.to_owned(), room_id.to_owned());
        Box::pin(async move {
            let answer = self
                .client
                .send(destination, request, Effort::STATE)
                .await?;
            Ok(StateEvents {
                state: answer.pdus,
                auth_chain: answer.auth_chain,
            })
        })
    }

    fn event_auth<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> RemoteFuture<'a, Vec<RawPdu>> {
        let request =
            get_event_authorization::v1::Request::new(room_id.to_owned(), event_id.to_owned());
        Box::pin(async move {
            let answer = self
                .client
                .send(destination, request, Effort::EVENTS)
                .await?;
            Ok(answer.auth_chain)
        })
    }

    fn backfill<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        from: &'a [OwnedEventId],
        limit: u64,
    ) -> RemoteFuture<'a, Vec<RawPdu>> {
        let request =
            get_backfill::v1::Request::new(room_id.to_owned(), from.to_vec(), number(limit));
        Box::pin(async move {
            let answer = self
                .client
                .send(destination, request, Effort::EVENTS)
                .await?;
            Ok(answer.pdus)
        })
    }

    fn missing_events<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        missing: MissingEvents<'a>,
    ) -> RemoteFuture<'a, Vec<RawPdu>> {
        let mut request = get_missing_events::v1::Request::new(
            room_id.to_owned(),
            missing.earliest.to_vec(),
            missing.latest.to_vec(),
        );
        request.limit = number(missing.limit);
        request.min_depth = number(missing.min_depth);
        Box::pin(async move {
            let answer = self
                .client
                .send(destination, request, Effort::EVENTS)
                .await?;
            Ok(answer.events)
        })
    }

    fn timestamp_to_event<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        time: MilliSecondsSinceUnixEpoch,
        direction: Direction,
    ) -> RemoteFuture<'a, (OwnedEventId, MilliSecondsSinceUnixEpoch)> {
        let request = get_event_by_timestamp::v1::Request::new(room_id.to_owned(), time, direction);
        Box::pin(async move {
            let answer = self
                .client
                .send(destination, request, Effort::QUERY)
                .await?;
            Ok((answer.event_id, answer.origin_server_ts))
        })
    }

    fn query_directory<'a>(
        &'a self,
        destination: &'a ServerName,
        alias: &'a RoomAliasId,
        insist: bool,
    ) -> RemoteFuture<'a, ResolvedAlias> {
        #[derive(Deserialize)]
        struct Found {
            room_id: OwnedRoomId,
            servers: Vec<String>,
        }
        let request = get_room_information::v1::Request::new(alias.to_owned());
        let effort = Effort {
            although_failing: insist,
            ..Effort::STEP
        };
        Box::pin(async move {
            // Not by ruma's type, for which one wrong name spoils the others.
            let answer = self.client.fetch(destination, request, effort).await?;
            let answer: Found = read(&answer)?;
            Ok(ResolvedAlias {
                room_id: answer.room_id,
                servers: names(answer.servers),
            })
        })
    }

    fn query_profile<'a>(
        &'a self,
        destination: &'a ServerName,
        user_id: &'a UserId,
        field: Option<&'a str>,
    ) -> RemoteFuture<'a, serde_json::Map<String, serde_json::Value>> {
        let mut request = get_profile_information::v1::Request::new(user_id.to_owned());
        request.field = field.map(Into::into);
        Box::pin(async move {
            let answer = self
                .client
                .send(destination, request, Effort::QUERY)
                .await?;
            Ok(answer.into_iter().collect())
        })
    }

    fn public_rooms<'a>(
        &'a self,
        destination: &'a ServerName,
        page: PublicRoomsPage,
        insist: bool,
    ) -> RemoteFuture<'a, PublicRooms> {
        let mut request = get_public_rooms_filtered::v1::Request::new();
        request.limit = page.limit.map(number);
        request.since = page.since;
        let mut filter = Filter::new();
        filter.generic_search_term = page.search;
        filter.room_types = page
            .room_types
            .into_iter()
            .map(RoomTypeFilter::from)
            .collect();
        request.filter = filter;
        request.room_network = page.network;
        let effort = Effort {
            although_failing: insist,
            ..Effort::QUERY
        };
        Box::pin(async move {
            // Not by ruma's type, by which one odd room would take all others of the page along.
            let answer = self.client.fetch(destination, request, effort).await?;
            Ok(read::<RoomsPage<'_>>(&answer)?.into())
        })
    }

    fn hierarchy<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        suggested_only: bool,
    ) -> RemoteFuture<'a, SpaceRooms> {
        // Lists that are empty are `null` to servers written in Go.
        #[derive(Deserialize)]
        struct Rooms<'a> {
            room: Box<RawValue>,
            children: Option<Vec<Box<RawValue>>>,
            #[serde(borrow)]
            inaccessible_children: Option<Vec<&'a RawValue>>,
        }
        let mut request = get_hierarchy::v1::Request::new(room_id.to_owned());
        request.suggested_only = suggested_only;
        Box::pin(async move {
            // Not by ruma's type, which is strict about summaries of which the engine may be able to use some.
            let answer = self
                .client
                .fetch(destination, request, Effort::QUERY)
                .await?;
            let answer: Rooms<'_> = read(&answer)?;
            let inaccessible = answer.inaccessible_children.unwrap_or_default();
            let room_ids = inaccessible.into_iter();
            Ok(SpaceRooms {
                room: answer.room,
                children: answer.children.unwrap_or_default(),
                inaccessible: room_ids
                    .filter_map(|room_id| serde_json::from_str(room_id.get()).ok())
                    .collect(),
            })
        })
    }

    fn asks_identity_server(&self, id_server: &str) -> bool {
        self.identity.asks(id_server)
    }

    fn look_up_address<'a>(
        &'a self,
        address: &'a ThirdPartyAddress,
    ) -> RemoteFuture<'a, Option<OwnedUserId>> {
        Box::pin(self.identity.look_up(address))
    }

    fn note_invite<'a>(
        &'a self,
        address: &'a ThirdPartyAddress,
        room_id: &'a RoomId,
        sender: &'a UserId,
        shown: serde_json::Map<String, serde_json::Value>,
    ) -> RemoteFuture<'a, NotedInvite> {
        Box::pin(self.identity.note_invite(address, room_id, sender, shown))
    }

    fn is_key_valid<'a>(&'a self, url: &'a str, public_key: &'a str) -> RemoteFuture<'a, bool> {
        Box::pin(self.identity.is_key_valid(url, public_key))
    }

    fn exchange_invite<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        event: Box<RawValue>,
    ) -> RemoteFuture<'a, ()> {
        let room_id = room_id.to_owned();
        let request = exchange::Request { room_id, event };
        Box::pin(async move {
            self.client.send(destination, request, Effort::STEP).await?;
            Ok(())
        })
    }

    fn sign_by_policy<'a>(
        &'a self,
        destination: &'a ServerName,
        event: RawPdu,
        insist: bool,
    ) -> RemoteFuture<'a, String> {
        let request = sign_event::v1::Request::new(event);
        let effort = Effort {
            although_failing: insist,
            ..Effort::POLICY
        };
        Box::pin(async move {
            let answer = self.client.send(destination, request, effort).await?;
            let signature = answer.ed25519_signature(destination);
            let signature = signature.map(ToOwned::to_owned);
            signature.ok_or_else(|| RemoteError::Nonsense("it holds no signature".to_owned()))
        })
    }

    fn keys(&self, wanted: Vec<WantedKey>) -> BoxFuture<'_, KnownKeys> {
        Box::pin(self.keys.find(wanted))
    }
}

fn template(version: Option<RoomVersionId>, event: RawPdu) -> EventTemplate {
    EventTemplate {
        version: version.unwrap_or(RoomVersionId::V1),
        event,
    }
}

/// The names among texts that should be such.
fn names(texts: Vec<String>) -> Vec<OwnedServerName> {
    texts
        .into_iter()
        .filter_map(|text| text.try_into().ok())
        .collect()
}

fn number(number: u64) -> UInt {
    UInt::try_from(number).unwrap_or(UInt::MAX)
}

fn nonsense(error: serde_json::Error) -> RemoteError {
    RemoteError::Nonsense(error.to_string())
}

/// A page of public rooms as it came.
#[derive(Deserialize)]
struct RoomsPage<'a> {
    /// `null` for none is of servers written in Go.
    #[serde(borrow)]
    chunk: Option<Vec<&'a RawValue>>,
    next_batch: Option<String>,
    prev_batch: Option<String>,
    total_room_count_estimate: Option<UInt>,
}

impl From<RoomsPage<'_>> for PublicRooms {
    fn from(page: RoomsPage<'_>) -> Self {
        let rooms = page.chunk.unwrap_or_default().into_iter();
        Self {
            chunk: rooms
                .filter_map(|room| serde_json::from_str(room.get()).ok())
                .collect(),
            next_batch: page.next_batch,
            prev_batch: page.prev_batch,
            total: page.total_room_count_estimate.map(u64::from),
        }
    }
}

/// Reads an answer that isn't read by ruma's type.
fn read<'a, T: Deserialize<'a>>(answer: &'a Response<Bytes>) -> Result<T, RemoteError> {
    if !answer.status().is_success() {
        let mut refused = Response::new(answer.body().as_ref());
        *refused.status_mut() = answer.status();
        *refused.headers_mut() = answer.headers().clone();
        return Err(refusal(Error::from_http_response(refused)));
    }
    serde_json::from_slice(answer.body()).map_err(nonsense)
}
