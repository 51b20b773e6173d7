//! The rules of the Matrix protocol, pure and synchronous, over [`ruma`]: events and their ids, room versions, building
//! and signing, authorisation, redaction, what a client gets to see of an event, push rules.
//!
//! Nothing here knows of a clock, a database or a socket; time and keys come in as parameters.

pub mod auth;
pub mod client_event;
pub mod content;
pub mod event_key;
pub mod incoming;
pub mod known;
pub mod owned_state;
pub mod pdu;
pub mod policy;
pub mod power;
pub mod redaction;
pub mod relation;
pub mod resolution;
pub mod signing;
pub mod template;
pub mod third_party;
pub mod versions;

mod build;
mod lenient;
mod state_event;

pub use self::{
    build::{
        BuildError, BuiltEvent, EventDraft, MAX_EVENT_BYTES, MAX_FIELD_BYTES, Placement, build,
        room_id_of_create_event,
    },
    event_key::EventKey,
    incoming::{Incoming, IncomingError, Unverified},
    pdu::Pdu,
    signing::ServerKey,
    state_event::StateEvent,
    versions::RoomVersion,
};
