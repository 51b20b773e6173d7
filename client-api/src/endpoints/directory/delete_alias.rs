//! `DELETE /_matrix/client/v3/directory/room/{roomAlias}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3directoryroomroomalias>

use parley_engine::limits::Action;
use ruma::api::client::alias::delete_alias::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result, endpoints::admit};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    admit(&api, &incoming.session, Action::Write)?;
    api.engine
        .rooms()
        .delete_alias(&incoming.session, &incoming.room_alias)
        .await?;
    Ok(Response::new())
}
