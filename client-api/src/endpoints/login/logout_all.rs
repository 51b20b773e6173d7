//! `POST /_matrix/client/v3/logout/all`: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3logoutall>

use ruma::api::client::session::logout_all::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    api.engine
        .devices()
        .delete_all_except(session.user_nid, &session.user_id, None)
        .await?;
    Ok(Response::new())
}
