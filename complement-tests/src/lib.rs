//! The project's own tests of behaviour: a whole server, over real HTTP, on each database.
//!
//! ```ignore
//! #[tokio::test]
//! async fn a_stranger_is_not_served() {
//!     on_each_engine(async |server| {
//!         let answer = server.client().get("/_matrix/client/v3/account/whoami").await;
//!         answer.is_refused(401, "M_MISSING_TOKEN");
//!     })
//!     .await;
//! }
//! ```
//!
//! SQLite is always tested; PostgreSQL where `PARLEY_TEST_POSTGRES` holds the address of a server on which databases may
//! be made, `postgres://postgres@127.0.0.1/postgres`. Each test has a database of its own. Where the specification is there
//! (`shape`), each answer has to be as it says.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking"
)]

mod certificates;
mod client;
mod database;
mod disk;
mod peer;
mod resident;
mod server;
mod shape;

pub use self::{
    certificates::{authority, authority_pem},
    client::{Answer, Client, PASSWORD},
    peer::{Peer, TestNames},
    resident::Resident,
    server::{
        TestOptions, TestServer, federated, federated_with, on_each_engine, on_each_engine_with,
    },
    shape::{Specified, specified, specified_of},
};
