//! `GET /_matrix/client/v1/mutual_rooms`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mutual_rooms>

use parley_engine::limits::Action;
use ruma::{
    UInt,
    api::client::membership::get_mutual_rooms::v1::{Request, Response},
};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    api.engine
        .limits()
        .check(Action::Search, session.user_nid)?;
    let rooms = api.engine.rooms();
    let mutual = rooms
        .mutual(session, &incoming.user_id, incoming.from.as_deref())
        .await?;
    let count = UInt::new_saturating(mutual.count);
    Ok(match mutual.next {
        Some(next) => Response::with_batch_token(count, mutual.joined, next),
        None => Response::new(count, mutual.joined),
    })
}
