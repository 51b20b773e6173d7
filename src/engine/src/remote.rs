//! The other servers, as the engine sees them.
//!
//! The engine reaches the outside world through one trait, [`Remote`], which the federation crate implements over HTTP
//! and tests fake. What comes back is what the other server said, within the limits of size and time of the transport,
//! and nothing else is sure of it: the engine checks it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use futures::future::BoxFuture;
use parley_protocol::third_party::InviteKey;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName,
    OwnedServerSigningKeyId, OwnedUserId, RoomAliasId, RoomId, RoomVersionId, ServerName, UserId,
    api::{Direction, error::ErrorKind},
    directory::{PublicRoomsChunk, RoomNetwork},
    serde::Base64,
};
use serde_json::value::RawValue;

use crate::{EngineError, Result};

/// An event as it came: JSON of a PDU, unchecked.
pub type RawPdu = Box<RawValue>;

/// The answer of another server, or why there is none.
pub type RemoteFuture<'a, T> = BoxFuture<'a, Result<T, RemoteError>>;

/// Why another server gave no answer that is of use.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// It isn't reached: its name doesn't resolve, it doesn't answer in time, or it has failed so often that it is left
    /// alone for a while.
    #[error("the server can't be reached: {0}")]
    Unreachable(String),
    /// This server doesn't speak with it, or federates with nobody.
    #[error("this server doesn't federate with it")]
    NotAllowed,
    /// It said no.
    #[error("it refused: {message}")]
    Refused {
        /// Which of the protocol's errors it gave.
        kind: ErrorKind,
        /// The HTTP status of its answer.
        status: u16,
        /// Its words.
        message: String,
    },
    /// Its answer is too large or has the wrong shape.
    #[error("its answer makes no sense: {0}")]
    Nonsense(String),
}

impl RemoteError {
    /// Whether another server may answer where this one did not. A refusal is final only where all would refuse alike.
    pub fn is_unreachable(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}

impl From<RemoteError> for EngineError {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Refused { kind, message, .. } if concerns_users(&kind) => {
                Self::refused(kind, message)
            }
            RemoteError::Refused { .. } => Self::OtherServer(error.to_string()),
            RemoteError::NotAllowed => Self::forbidden(error.to_string()),
            // The room, the user: what was asked for isn't found.
            RemoteError::Unreachable(_) => Self::not_found(error.to_string()),
            RemoteError::Nonsense(_) => Self::unknown(error.to_string()),
        }
    }
}

/// Whether what another server says may be told a user in its words: what the specification has servers say of joins, knocks,
/// invitations, aliases, profiles and what policy servers look at. All else is about the request that this server made, or
/// would mean something else if this server said it: that the user has to log in again, for one.
fn concerns_users(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Forbidden
            | ErrorKind::NotFound
            | ErrorKind::LimitExceeded(_)
            | ErrorKind::BadState
            | ErrorKind::IncompatibleRoomVersion(_)
            | ErrorKind::UnsupportedRoomVersion
            | ErrorKind::UnableToAuthorizeJoin
            | ErrorKind::UnableToGrantJoin
            | ErrorKind::InviteBlocked
    )
}

/// The template of an event that another server gave for this one to complete: of a join, a leave or a knock.
#[derive(Clone, Debug)]
pub struct EventTemplate {
    /// The room's version; where the other names none, it is 1.
    pub version: RoomVersionId,
    /// The event without hashes and signatures.
    pub event: RawPdu,
}

/// What a server that is in a room answers to the join that was sent to it.
#[derive(Clone, Debug, Default)]
pub struct JoinedRoom {
    /// The join, signed by the other server too where it vouches for it.
    pub event: Option<RawPdu>,
    /// The state before the join; without the members if they were omitted.
    pub state: Vec<RawPdu>,
    /// The events that allow those of the state, and the join.
    pub auth_chain: Vec<RawPdu>,
    /// Whether members were left out of the state.
    pub members_omitted: bool,
    /// Servers in the room, if members were left out.
    pub servers_in_room: Vec<OwnedServerName>,
}

/// An invitation that is sent to the invited user's server.
#[derive(Clone, Debug)]
pub struct OutgoingInvite<'a> {
    /// The room.
    pub room_id: &'a RoomId,
    /// The id of the event.
    pub event_id: &'a ruma::EventId,
    /// The room's version.
    pub version: &'a RoomVersionId,
    /// The invitation, signed by this server.
    pub event: RawPdu,
    /// What the invited user is shown of the room: stripped state, or whole PDUs where the version's spec says so.
    pub room_state: Vec<Box<RawValue>>,
    /// Servers by which the room can be joined.
    pub via: Vec<OwnedServerName>,
}

/// The ids of a room's state before an event.
#[derive(Clone, Debug, Default)]
pub struct StateIds {
    /// The state.
    pub state: Vec<OwnedEventId>,
    /// What allows it.
    pub auth_chain: Vec<OwnedEventId>,
}

/// A room's state before an event.
#[derive(Clone, Debug, Default)]
pub struct StateEvents {
    /// The state.
    pub state: Vec<RawPdu>,
    /// What allows it.
    pub auth_chain: Vec<RawPdu>,
}

/// Which events are missing between two points of a room's graph.
#[derive(Clone, Debug)]
pub struct MissingEvents<'a> {
    /// The newest events that are known, at which to stop.
    pub earliest: &'a [OwnedEventId],
    /// The events whose predecessors are wanted.
    pub latest: &'a [OwnedEventId],
    /// How many at most.
    pub limit: u64,
    /// Of what depth at least.
    pub min_depth: u64,
}

/// What a room alias of another server stands for.
#[derive(Clone, Debug)]
pub struct ResolvedAlias {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers by which it can be joined.
    pub servers: Vec<OwnedServerName>,
}

/// A page of another server's public rooms that is asked for.
#[derive(Clone, Debug, Default)]
pub struct PublicRoomsPage {
    /// How many at most.
    pub limit: Option<u64>,
    /// Where the page begins, as the other said.
    pub since: Option<String>,
    /// A text that name, topic or alias contain.
    pub search: Option<String>,
    /// The types of rooms that are wanted; `None` in it stands for rooms without type.
    pub room_types: Vec<Option<String>>,
    /// Of which network.
    pub network: RoomNetwork,
}

/// A page of another server's public rooms.
#[derive(Clone, Debug, Default)]
pub struct PublicRooms {
    /// The rooms.
    pub chunk: Vec<PublicRoomsChunk>,
    /// Where the next page begins.
    pub next_batch: Option<String>,
    /// Where the page before begins.
    pub prev_batch: Option<String>,
    /// An estimate of how many there are.
    pub total: Option<u64>,
}

/// A space and its children, as another server sees them.
#[derive(Clone, Debug)]
pub struct SpaceRooms {
    /// The room that was asked for, JSON of its summary.
    pub room: Box<RawValue>,
    /// Its children that this server's users may see, JSON of their summaries.
    pub children: Vec<Box<RawValue>>,
    /// Children that exist but may not be seen.
    pub inaccessible: Vec<OwnedRoomId>,
}

/// An address of somebody whom the protocol knows by another name, if at all.
#[derive(Clone, Debug)]
pub struct ThirdPartyAddress {
    /// The identity server to ask, a host with a port or without.
    pub id_server: String,
    /// The token that it gave the user who asks.
    pub access_token: String,
    /// What kind of address: `email`, `msisdn`.
    pub medium: String,
    /// The address.
    pub address: String,
}

/// An invitation that an identity server has noted.
#[derive(Clone, Debug)]
pub struct NotedInvite {
    /// What it is found by.
    pub token: String,
    /// Keys by which the identity server may sign the token.
    pub public_keys: Vec<InviteKey>,
    /// What is shown instead of the address.
    pub display_name: String,
}

/// A key of another server that is needed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WantedKey {
    /// Whose.
    pub server: OwnedServerName,
    /// Its id, with the algorithm.
    pub key_id: OwnedServerSigningKeyId,
    /// When it has to be valid: the time of what it signed.
    pub valid_at: MilliSecondsSinceUnixEpoch,
}

/// A public key of another server.
#[derive(Clone, Debug)]
pub struct KnownKey {
    /// The key.
    pub key: Base64,
    /// Until when it signs. What claims to be from later isn't to be believed, in room versions that check it.
    pub valid_until: MilliSecondsSinceUnixEpoch,
}

/// The keys that were found, by server and id.
pub type KnownKeys = BTreeMap<(OwnedServerName, OwnedServerSigningKeyId), KnownKey>;

/// What this server asks of others. Each answer is what `destination` said, of a size and within a time that the
/// implementation limits.
///
/// The future of each is dropped when nobody waits for it any more; what was sent may have arrived nevertheless.
pub trait Remote: fmt::Debug + Send + Sync {
    /// Asks for the template of a join. `GET /_matrix/federation/v1/make_join/{roomId}/{userId}`
    fn make_join<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        user_id: &'a UserId,
        versions: &'a [RoomVersionId],
    ) -> RemoteFuture<'a, EventTemplate>;

    /// Joins. `PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}`
    fn send_join<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a ruma::EventId,
        event: RawPdu,
        omit_members: bool,
    ) -> RemoteFuture<'a, JoinedRoom>;

    /// Asks for the template of a leave. `GET /_matrix/federation/v1/make_leave/{roomId}/{userId}`
    fn make_leave<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        user_id: &'a UserId,
    ) -> RemoteFuture<'a, EventTemplate>;

    /// Leaves. `PUT /_matrix/federation/v2/send_leave/{roomId}/{eventId}`
    fn send_leave<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a ruma::EventId,
        event: RawPdu,
    ) -> RemoteFuture<'a, ()>;

    /// Asks for the template of a knock. `GET /_matrix/federation/v1/make_knock/{roomId}/{userId}`
    fn make_knock<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        user_id: &'a UserId,
        versions: &'a [RoomVersionId],
    ) -> RemoteFuture<'a, EventTemplate>;

    /// Knocks; gives what the user is shown of the room. `PUT /_matrix/federation/v1/send_knock/{roomId}/{eventId}`
    fn send_knock<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a ruma::EventId,
        event: RawPdu,
    ) -> RemoteFuture<'a, Vec<Box<RawValue>>>;

    /// Invites; gives the invitation as the other signed it. `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`
    fn invite<'a>(
        &'a self,
        destination: &'a ServerName,
        invite: OutgoingInvite<'a>,
    ) -> RemoteFuture<'a, RawPdu>;

    /// Asks for an event. `GET /_matrix/federation/v1/event/{eventId}`
    fn event<'a>(
        &'a self,
        destination: &'a ServerName,
        event_id: &'a ruma::EventId,
    ) -> RemoteFuture<'a, RawPdu>;

    /// Asks for the ids of the state before an event, also of a server that fails if users wait for it.
    /// `GET /_matrix/federation/v1/state_ids/{roomId}`
    fn state_ids<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a ruma::EventId,
        is_waited_for: bool,
    ) -> RemoteFuture<'a, StateIds>;

    /// Asks for the state before an event. `GET /_matrix/federation/v1/state/{roomId}`
    fn state<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a ruma::EventId,
    ) -> RemoteFuture<'a, StateEvents>;

    /// Asks for everything that allows an event. `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`
    fn event_auth<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a ruma::EventId,
    ) -> RemoteFuture<'a, Vec<RawPdu>>;

    /// Asks for events and what came before them. `GET /_matrix/federation/v1/backfill/{roomId}`
    fn backfill<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        from: &'a [OwnedEventId],
        limit: u64,
    ) -> RemoteFuture<'a, Vec<RawPdu>>;

    /// Asks for what is missing. `POST /_matrix/federation/v1/get_missing_events/{roomId}`
    fn missing_events<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        missing: MissingEvents<'a>,
    ) -> RemoteFuture<'a, Vec<RawPdu>>;

    /// Asks for the event closest to a time. `GET /_matrix/federation/v1/timestamp_to_event/{roomId}`
    fn timestamp_to_event<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        time: MilliSecondsSinceUnixEpoch,
        direction: Direction,
    ) -> RemoteFuture<'a, (OwnedEventId, MilliSecondsSinceUnixEpoch)>;

    /// Asks what an alias stands for; with `insist`, although the server failed lately.
    /// `GET /_matrix/federation/v1/query/directory`
    fn query_directory<'a>(
        &'a self,
        destination: &'a ServerName,
        alias: &'a RoomAliasId,
        insist: bool,
    ) -> RemoteFuture<'a, ResolvedAlias>;

    /// Asks for a profile, or a field of it. `GET /_matrix/federation/v1/query/profile`
    fn query_profile<'a>(
        &'a self,
        destination: &'a ServerName,
        user_id: &'a UserId,
        field: Option<&'a str>,
    ) -> RemoteFuture<'a, serde_json::Map<String, serde_json::Value>>;

    /// Asks for public rooms; with `insist`, although the server failed lately. `POST /_matrix/federation/v1/publicRooms`
    fn public_rooms<'a>(
        &'a self,
        destination: &'a ServerName,
        page: PublicRoomsPage,
        insist: bool,
    ) -> RemoteFuture<'a, PublicRooms>;

    /// Asks for a space and its children. `GET /_matrix/federation/v1/hierarchy/{roomId}`
    fn hierarchy<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        suggested_only: bool,
    ) -> RemoteFuture<'a, SpaceRooms>;

    /// Whether this server asks an identity server at all.
    fn asks_identity_server(&self, id_server: &str) -> bool;

    /// Asks an identity server whose an address is. `POST /_matrix/identity/v2/lookup`
    fn look_up_address<'a>(
        &'a self,
        address: &'a ThirdPartyAddress,
    ) -> RemoteFuture<'a, Option<OwnedUserId>>;

    /// Has an identity server note an invitation, and tell the invited person; `shown` is what of the room and of who
    /// invites. `POST /_matrix/identity/v2/store-invite`
    fn note_invite<'a>(
        &'a self,
        address: &'a ThirdPartyAddress,
        room_id: &'a RoomId,
        sender: &'a UserId,
        shown: serde_json::Map<String, serde_json::Value>,
    ) -> RemoteFuture<'a, NotedInvite>;

    /// Asks, at the URL that came with it, whether an identity server's key is valid.
    fn is_key_valid<'a>(&'a self, url: &'a str, public_key: &'a str) -> RemoteFuture<'a, bool>;

    /// Has an invitation of an address exchanged for that of a user; `event` is the beginnings of a member event.
    /// `PUT /_matrix/federation/v1/exchange_third_party_invite/{roomId}`
    fn exchange_invite<'a>(
        &'a self,
        destination: &'a ServerName,
        room_id: &'a RoomId,
        event: Box<RawValue>,
    ) -> RemoteFuture<'a, ()>;

    /// Asks a policy server to sign an event; gives the signature by `ed25519:policy_server`. With `insist`, although it
    /// failed lately. `POST /_matrix/policy/v1/sign`
    fn sign_by_policy<'a>(
        &'a self,
        destination: &'a ServerName,
        event: RawPdu,
        insist: bool,
    ) -> RemoteFuture<'a, String>;

    /// Finds keys: those that are known and valid long enough, else from their servers or from notaries. What isn't
    /// found is left out; what isn't valid long enough is there, if there is no better. Those that this server no longer signs
    /// with are among them.
    fn keys(&self, wanted: Vec<WantedKey>) -> BoxFuture<'_, KnownKeys>;
}

/// The way to the other servers. Cheap to clone; all clones are the same.
///
/// What implements [`Remote`] is itself built over the engine, so it is connected once the engine has started. Until
/// then, and in a server that federates with nobody, there is no way to anybody.
#[derive(Clone, Debug, Default)]
pub struct Outside(Arc<OnceLock<Arc<dyn Remote>>>);

impl Outside {
    /// Opens the way. Only the first call does something.
    pub fn connect(&self, remote: Arc<dyn Remote>) {
        // Whoever is there already stays.
        let _ = self.0.set(remote);
    }

    /// The way, if there is one.
    pub fn get(&self) -> Option<&Arc<dyn Remote>> {
        self.0.get()
    }

    /// The way to the other servers.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if this server federates with nobody.
    pub fn remote(&self) -> Result<&Arc<dyn Remote>> {
        self.get()
            .ok_or_else(|| EngineError::forbidden("this server doesn't federate"))
    }
}

#[cfg(test)]
mod tests {
    use ruma::api::error::UnknownTokenErrorData;

    use super::*;

    fn refused(kind: ErrorKind) -> EngineError {
        let error = RemoteError::Refused {
            kind,
            status: 400,
            message: "no".to_owned(),
        };
        error.into()
    }

    #[test]
    fn what_another_server_says_of_the_room_or_the_user_is_told_in_its_words() {
        for kind in [ErrorKind::Forbidden, ErrorKind::UnableToGrantJoin] {
            let error = refused(kind.clone());
            assert_eq!(error.kind(), Some(&kind));
            assert_eq!(error.to_string(), "no");
        }
    }

    #[test]
    fn no_other_server_logs_a_user_out_or_blames_them_for_what_this_one_asked() {
        for kind in [
            ErrorKind::UnknownToken(UnknownTokenErrorData::new()),
            ErrorKind::MissingToken,
            ErrorKind::Unauthorized,
            ErrorKind::UserLocked,
            ErrorKind::UserSuspended,
            ErrorKind::InvalidParam,
            ErrorKind::MissingParam,
            ErrorKind::Unrecognized,
            ErrorKind::Unknown,
        ] {
            let error = refused(kind);
            assert!(matches!(error, EngineError::OtherServer(_)), "{error:?}");
        }
    }
}
