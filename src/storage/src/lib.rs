//! All of Parley's SQL, one topic a module, on SQLite and PostgreSQL behind one type: [`Database`].
//!
//! **Adding a query.** Find the module of its topic, or begin one. Write the statement once, with `$1` placeholders:
//! both engines understand them. A list is one parameter, taken apart by `{ints $1}`, `{texts $1}` or `{bytes $1}`
//! (see [`statement`]). Rows come back as tuples. A read takes `&Database`, a write takes the [`Transaction`] that
//! [`Database::write`] hands out, so that what belongs together commits together. Durable changes that clients see
//! don't go that way but through [`commit`], which gives them their position in the stream.
//!
//! This crate knows nothing of HTTP and decides nothing about policy.

pub mod accounts;
pub mod brief_tokens;
pub mod commit;
pub mod delayed_events;
pub mod destinations;
pub mod devices;
pub mod events;
pub mod federation;
pub mod filters;
pub mod inbox;
pub mod indexing;
pub mod interactive;
pub mod keys;
pub mod notify;
pub mod partial;
pub mod presence;
pub mod profiles;
pub mod pushers;
pub mod rate_limits;
pub mod registration_tokens;
pub mod relations;
pub mod reports;
pub mod rooms;
pub mod search;
pub mod server_keys;
pub mod state;
pub mod statement;
pub mod summaries;
pub mod tokens;
pub mod unread;
pub mod user_directory;
pub mod user_streams;

mod database;
mod error;
mod insert;
mod migrations;
mod names;
mod rows;
mod sqlite;
mod transaction;

pub use self::{
    database::{Database, DatabaseSettings, Engine},
    error::{Result, StorageError},
    sqlite::{SqliteTransaction, Turns},
    transaction::Transaction,
};
